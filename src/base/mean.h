// The mean of some values; of none, 0.
#pragma once

#include <span>

namespace ruvltra {

inline double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

}  // namespace ruvltra
