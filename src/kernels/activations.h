// Quantising activation rows to int8 with block sums (docs/kernels.md section 4).
#pragma once

#include <cstddef>
#include <cstdint>

namespace ruvltra {

// Below this, 127 / amax is no finite float: such a block counts as zero.
inline constexpr float kSmallestMax = 0x1p-121f;

struct ActivationKernels {
  // One row x[k] -> q[k], d[k / 256], sum16[k / 16], sum32[k / 32]. amax = max |x| per block; d = amax / 127;
  // q = round-to-even(x * (127 / amax)) clamped to +-127; amax < 2^-121 gives d = 0, q = 0. k is a multiple
  // of 256. A NaN or infinity anywhere in a block makes its d NaN or infinite, so it reaches the result.
  void (*quantize_a256)(const float* x, size_t k, int8_t* q, float* d, int16_t* sum16,
                        int16_t* sum32) = nullptr;
  // The same per block of 32; k is a multiple of 32.
  void (*quantize_a32)(const float* x, size_t k, int8_t* q, float* d, int16_t* sum32) = nullptr;
};

}  // namespace ruvltra
