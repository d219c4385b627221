#include "kernels/attention.h"

#include <immintrin.h>
#include <math.h>

#include "kernels/attention_tiles.h"
#include "kernels/avx512/exp.h"

namespace ruvltra {
namespace {

// AVX-512 for the tiles.
struct Avx512 {
  using Type = __m512;
  static constexpr size_t kLanes = 16;
  static constexpr size_t kTileRows = 8;

  static Type zero() { return _mm512_setzero_ps(); }
  static Type set(float x) { return _mm512_set1_ps(x); }
  static Type load(const float* x) { return _mm512_loadu_ps(x); }
  static Type load_first(const float* x, int32_t n) {
    const __mmask16 wanted =
        _mm512_cmp_epi32_mask(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                              _mm512_set1_epi32(n), _MM_CMPINT_LT);
    return _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), wanted, x);
  }
  static void store(float* x, Type v) { _mm512_storeu_ps(x, v); }
  static Type add(Type a, Type b) { return _mm512_add_ps(a, b); }
  static Type sub(Type a, Type b) { return _mm512_sub_ps(a, b); }
  static Type mul(Type a, Type b) { return _mm512_mul_ps(a, b); }
  static Type fma(Type a, Type b, Type c) { return _mm512_fmadd_ps(a, b, c); }
  static Type max(Type a, Type b) { return _mm512_max_ps(a, b); }
  static Type exp(Type x) { return exp_nonpositive(x); }
  static float sum(Type v) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float largest(Type v) {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
};

__m512 load_f16(const uint16_t* x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

void from_f16(const uint16_t* x, float* y, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) _mm512_storeu_ps(y + i, load_f16(x + i));
  for (; i < n; ++i) y[i] = _cvtsh_ss(x[i]);
}

__m512 load_q8(const int8_t* q) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q))));
}

void keys_from_q8(const int8_t* q, const uint16_t* d, float* y, size_t d_head) {
  for (size_t begin = 0; begin < d_head; begin += kKvBlock, d += kPageTokens) {
    for (size_t t = 0; t < kPageTokens; t += 16) {
      const __m512 scale = load_f16(d + t);
      for (size_t dim = begin; dim < begin + kKvBlock; ++dim) {
        const size_t i = dim * kPageTokens + t;
        _mm512_storeu_ps(y + i, _mm512_mul_ps(load_q8(q + i), scale));
      }
    }
  }
}

void values_from_q8(const int8_t* q, const uint16_t* d, float* y, size_t d_head) {
  for (size_t block = 0; block < kPageTokens * d_head / kKvBlock; ++block) {
    const __m512 scale = _mm512_set1_ps(_cvtsh_ss(d[block]));
    for (size_t i = block * kKvBlock; i < (block + 1) * kKvBlock; i += 16)
      _mm512_storeu_ps(y + i, _mm512_mul_ps(load_q8(q + i), scale));
  }
}

}  // namespace

// What is not here (writing pages, merging splits) keeps the rung below.
void fill_avx512_attention(AttentionKernels& kernels) {
  kernels.from_f16 = from_f16;
  kernels.keys_from_q8 = keys_from_q8;
  kernels.values_from_q8 = values_from_q8;
  kernels.score = AttentionTiles<Avx512>::score;
  kernels.weigh = AttentionTiles<Avx512>::weigh;
  kernels.add_values = AttentionTiles<Avx512>::add_values;
}

}  // namespace ruvltra
