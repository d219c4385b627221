#include "statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "base/mean.h"

namespace ruvltra {

double deviation(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double centre = mean_of(values);
  double sum = 0;
  for (const double value : values) sum += (value - centre) * (value - centre);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 != 0) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

double quantile(std::vector<double> values, double portion) {
  if (values.empty()) return 0;
  const auto at = static_cast<size_t>(portion * static_cast<double>(values.size()));
  const auto found = values.begin() + static_cast<ptrdiff_t>(std::min(values.size() - 1, at));
  std::nth_element(values.begin(), found, values.end());
  return *found;
}

}  // namespace ruvltra
