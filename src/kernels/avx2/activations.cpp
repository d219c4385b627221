// Activation quantisation (docs/kernels.md section 4), the bits of scalar/activations.cpp.
#include "kernels/activations.h"

#include "kernels/avx2/common.h"

namespace ruvltra {
namespace {

RUVLTRA_INLINE __m256i magnitude_bits(const float* x) {
  return _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x)), _mm256_set1_epi32(0x7fffffff));
}

// max |x| over n (a multiple of 32) values, compared as integers: a NaN is the largest of all.
RUVLTRA_INLINE float max_magnitude(const float* x, size_t n) {
  __m256i max = _mm256_setzero_si256();
  for (size_t i = 0; i < n; i += 8) max = _mm256_max_epi32(max, magnitude_bits(x + i));
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(m));
}

// NaN becomes 127, as in fminf(127, NaN).
RUVLTRA_INLINE __m256i quantize8(const float* x, __m256 inverse) {
  const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x), inverse);
  const __m256 rounded = _mm256_round_ps(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 below = _mm256_min_ps(rounded, _mm256_set1_ps(127));
  return _mm256_cvtps_epi32(_mm256_max_ps(below, _mm256_set1_ps(-127)));
}

// 32 values -> 32 bytes in order.
RUVLTRA_INLINE __m256i quantize32(const float* x, __m256 inverse) {
  const __m256i low = _mm256_packs_epi32(quantize8(x, inverse), quantize8(x + 8, inverse));
  const __m256i high = _mm256_packs_epi32(quantize8(x + 16, inverse), quantize8(x + 24, inverse));
  return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// One block of n values; returns d.
RUVLTRA_INLINE float quantize_block(const float* x, size_t n, int8_t* q) {
  const float amax = max_magnitude(x, n);
  if (amax < kSmallestMax) {
    memset(q, 0, n);
    return 0;
  }
  const __m256 inverse = _mm256_set1_ps(127.0f / amax);
  for (size_t i = 0; i < n; i += 32) {
    _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(q + i)), quantize32(x + i, inverse));
  }
  return amax / 127.0f;
}

// Sums of 16 and of 32 over q[k].
RUVLTRA_INLINE void block_sums(const int8_t* q, size_t k, int16_t* sum16, int16_t* sum32) {
  for (size_t b = 0; b < k / 32; ++b) {
    const void* bytes = q + 32 * b;
    const __m256i values = _mm256_loadu_si256(static_cast<const __m256i*>(bytes));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), values);
    __m256i sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0x4e));
    sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0xb1));
    const int first = _mm256_extract_epi32(sums, 0);
    const int second = _mm256_extract_epi32(sums, 4);
    if (sum16 != nullptr) {
      sum16[2 * b] = static_cast<int16_t>(first);
      sum16[2 * b + 1] = static_cast<int16_t>(second);
    }
    sum32[b] = static_cast<int16_t>(first + second);
  }
}

void quantize_a256(const float* x, size_t k, int8_t* q, float* d, int16_t* sum16, int16_t* sum32) {
  for (size_t b = 0; b < k / 256; ++b) d[b] = quantize_block(x + 256 * b, 256, q + 256 * b);
  block_sums(q, k, sum16, sum32);
}

void quantize_a32(const float* x, size_t k, int8_t* q, float* d, int16_t* sum32) {
  for (size_t b = 0; b < k / 32; ++b) d[b] = quantize_block(x + 32 * b, 32, q + 32 * b);
  block_sums(q, k, nullptr, sum32);
}

}  // namespace

void fill_avx2_activations(ActivationKernels& kernels) {
  kernels.quantize_a256 = quantize_a256;
  kernels.quantize_a32 = quantize_a32;
}

}  // namespace ruvltra
