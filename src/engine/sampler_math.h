// Exponentials for sampling: the same bits with every compiler, C library and instruction set.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace ruvltra {

// exp(x) for -708 <= x <= 0, within 2 ulp.
// Cody-Waite reduction x = k ln 2 + r, |r| <= ln 2 / 2, then the Taylor series to r^13 (truncation < 5e-18).
// No branches and no fused operations: compilers vectorise it without changing a bit.
inline double exp_in_range(double x) {
  constexpr double kLog2E = 0x1.71547652b82fep0;
  constexpr double kLn2High = 0x1.62e42fee00000p-1;  // 21 trailing zero bits: k * kLn2High is exact
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  constexpr double kShift = 0x1.8p52;  // adding it rounds to an integer, kept in the low mantissa bits
  const double shifted = x * kLog2E + kShift;
  const double k = shifted - kShift;
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double sum = 1.0 / 6227020800;  // 1 / 13!
  sum = sum * r + 1.0 / 479001600;
  sum = sum * r + 1.0 / 39916800;
  sum = sum * r + 1.0 / 3628800;
  sum = sum * r + 1.0 / 362880;
  sum = sum * r + 1.0 / 40320;
  sum = sum * r + 1.0 / 5040;
  sum = sum * r + 1.0 / 720;
  sum = sum * r + 1.0 / 120;
  sum = sum * r + 1.0 / 24;
  sum = sum * r + 1.0 / 6;
  sum = sum * r + 1.0 / 2;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  return sum * std::bit_cast<double>((std::bit_cast<uint64_t>(shifted) + 1023) << 52);
}

// exp(x) for x <= 0; anything below -708 counts as -708, so the result is never subnormal.
inline double exp_nonpositive(double x) { return exp_in_range(x > -708.0 ? x : -708.0); }

// Sum over the row, in index order, of exp((value - highest) * scale), as 32 partial sums (lane = index mod
// 32) that are then added in lane order. *Requires*: highest is the largest value and finite; scale > 0.
double sum_of_exponentials(std::span<const float> row, float highest, double scale);

}  // namespace ruvltra
