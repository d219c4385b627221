// What hooks keep of a row: its residual stream, normalised, added to the sum of those before it.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

namespace ruvltra {

// sum += x / sqrt(mean(x^2) + eps); both of the same size. In double, in order: the same bits on every
// machine.
inline void add_normalised(std::span<const float> x, double eps, std::span<double> sum) {
  double squares = 0;
  for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  for (size_t i = 0; i < x.size(); ++i) sum[i] += static_cast<double>(x[i]) * scale;
}

}  // namespace ruvltra
