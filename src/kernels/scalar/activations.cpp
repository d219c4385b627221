// Activation quantisation, the definition (docs/kernels.md section 4).
#include "kernels/activations.h"

#include <math.h>
#include <string.h>

namespace ruvltra {
namespace {

// One block x[n] -> q[n]; returns d.
float quantize_block(const float* x, size_t n, int8_t* q) {
  // Compared as integers, magnitudes order as floats do and a NaN is the largest of all.
  uint32_t max_bits = 0;
  for (size_t i = 0; i < n; ++i) {
    uint32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7fffffffu;
    if (bits > max_bits) max_bits = bits;
  }
  float amax;
  memcpy(&amax, &max_bits, sizeof amax);
  if (amax < kSmallestMax) {
    memset(q, 0, n);
    return 0;
  }
  const float inverse = 127.0f / amax;
  for (size_t i = 0; i < n; ++i) {
    q[i] = static_cast<int8_t>(fmaxf(-127.0f, fminf(127.0f, rintf(x[i] * inverse))));
  }
  return amax / 127.0f;
}

void block_sums(const int8_t* q, size_t k, size_t block, int16_t* sums) {
  for (size_t b = 0; b < k / block; ++b) {
    int sum = 0;
    for (size_t i = 0; i < block; ++i) sum += q[b * block + i];
    sums[b] = static_cast<int16_t>(sum);
  }
}

void quantize_a256(const float* x, size_t k, int8_t* q, float* d, int16_t* sum16, int16_t* sum32) {
  for (size_t b = 0; b < k / 256; ++b) d[b] = quantize_block(x + b * 256, 256, q + b * 256);
  block_sums(q, k, 16, sum16);
  block_sums(q, k, 32, sum32);
}

void quantize_a32(const float* x, size_t k, int8_t* q, float* d, int16_t* sum32) {
  for (size_t b = 0; b < k / 32; ++b) d[b] = quantize_block(x + b * 32, 32, q + b * 32);
  block_sums(q, k, 32, sum32);
}

}  // namespace

void fill_scalar_activations(ActivationKernels& kernels) {
  kernels.quantize_a256 = quantize_a256;
  kernels.quantize_a32 = quantize_a32;
}

}  // namespace ruvltra
