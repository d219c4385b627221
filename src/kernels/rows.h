// Operations on single rows of f32.
#pragma once

#include <cstddef>

namespace ruvltra {

struct RowKernels {
  // y = x / sqrt(mean(x^2) + eps) * w. Sum of squares in 32 virtual lanes folded pairwise (docs/kernels.md
  // section 1).
  void (*rms_norm)(const float* x, const float* w, float eps, float* y, size_t n) = nullptr;
  // y = silu(gate) * up; y may be gate or up.
  void (*silu_mul)(const float* gate, const float* up, float* y, size_t n) = nullptr;
  // Rotates pairs (i, i + d_head / 2) of one head in place; cos and sin hold d_head / 2 values.
  void (*rope)(float* head, const float* cos, const float* sin, size_t d_head) = nullptr;
};

}  // namespace ruvltra
