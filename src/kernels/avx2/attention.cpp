#include "kernels/attention.h"

#include <immintrin.h>
#include <math.h>

#include "kernels/attention_tiles.h"
#include "kernels/avx2/exp.h"

namespace ruvltra {
namespace {

// AVX2 for the tiles.
struct Avx2 {
  using Type = __m256;
  static constexpr size_t kLanes = 8;
  static constexpr size_t kTileRows = 6;

  static Type zero() { return _mm256_setzero_ps(); }
  static Type set(float x) { return _mm256_set1_ps(x); }
  static Type load(const float* x) { return _mm256_loadu_ps(x); }
  static Type load_first(const float* x, int32_t n) {
    if (n >= 8) return load(x);
    const __m256i wanted =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), load(x), _mm256_castsi256_ps(wanted));
  }
  static void store(float* x, Type v) { _mm256_storeu_ps(x, v); }
  static Type add(Type a, Type b) { return _mm256_add_ps(a, b); }
  static Type sub(Type a, Type b) { return _mm256_sub_ps(a, b); }
  static Type mul(Type a, Type b) { return _mm256_mul_ps(a, b); }
  static Type fma(Type a, Type b, Type c) { return _mm256_fmadd_ps(a, b, c); }
  static Type max(Type a, Type b) { return _mm256_max_ps(a, b); }
  static Type exp(Type x) { return exp_nonpositive(x); }
  static float sum(Type v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float largest(Type v) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
};

void to_f16(const float* x, uint16_t* y, size_t n) {
  const __m256 high = _mm256_set1_ps(65504.0f);
  const __m256 low = _mm256_set1_ps(-65504.0f);
  const auto convert = [&](__m256 v) {
    // max returns its second operand when the first is NaN.
    return _mm256_cvtps_ph(_mm256_min_ps(_mm256_max_ps(v, low), high), _MM_FROUND_TO_NEAREST_INT);
  };
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i), convert(_mm256_loadu_ps(x + i)));
  }
  for (; i < n; ++i) y[i] = static_cast<uint16_t>(_mm_extract_epi16(convert(_mm256_set1_ps(x[i])), 0));
}

void from_f16(const uint16_t* x, float* y, size_t n) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
  }
  for (; i < n; ++i) y[i] = _cvtsh_ss(x[i]);
}

void to_q8(const float* x, int8_t* q, uint16_t* d, size_t n) {
  const __m256 high = _mm256_set1_ps(65504.0f);
  const __m256 low = _mm256_set1_ps(-65504.0f);
  const __m256 sign = _mm256_set1_ps(-0.0f);
  for (size_t block = 0; block < n / kKvBlock; ++block, x += kKvBlock, q += kKvBlock) {
    __m256 value[4];
    __m256 largest = _mm256_setzero_ps();
    for (size_t i = 0; i < 4; ++i) {
      value[i] = _mm256_min_ps(_mm256_max_ps(_mm256_loadu_ps(x + 8 * i), low), high);
      largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, value[i]));
    }
    d[block] = _cvtss_sh(Avx2::largest(largest) / 127.0f, _MM_FROUND_TO_NEAREST_INT);
    const float scale = _cvtsh_ss(d[block]);
    __m256i rounded[4] = {};
    for (size_t i = 0; i < 4 && scale != 0; ++i) {
      const __m256 quotient = _mm256_div_ps(value[i], _mm256_set1_ps(scale));
      const __m256 bounded =
          _mm256_min_ps(_mm256_max_ps(quotient, _mm256_set1_ps(-127.0f)), _mm256_set1_ps(127.0f));
      rounded[i] = _mm256_cvtps_epi32(bounded);
    }
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(rounded[0], rounded[1]),
                                             _mm256_packs_epi32(rounded[2], rounded[3]));
    // Packing interleaves the halves of its operands.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), _mm256_permutevar8x32_epi32(bytes, order));
  }
}

__m256 load_q8(const int8_t* q) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q))));
}

void keys_from_q8(const int8_t* q, const uint16_t* d, float* y, size_t d_head) {
  for (size_t begin = 0; begin < d_head; begin += kKvBlock, d += kPageTokens) {
    float scale[kPageTokens];
    from_f16(d, scale, kPageTokens);
    for (size_t i = begin * kPageTokens; i < (begin + kKvBlock) * kPageTokens; i += 8) {
      _mm256_storeu_ps(y + i, _mm256_mul_ps(load_q8(q + i), _mm256_loadu_ps(scale + i % kPageTokens)));
    }
  }
}

void values_from_q8(const int8_t* q, const uint16_t* d, float* y, size_t d_head) {
  for (size_t block = 0; block < kPageTokens * d_head / kKvBlock; ++block) {
    const __m256 scale = _mm256_set1_ps(_cvtsh_ss(d[block]));
    for (size_t i = block * kKvBlock; i < (block + 1) * kKvBlock; i += 8)
      _mm256_storeu_ps(y + i, _mm256_mul_ps(load_q8(q + i), scale));
  }
}

void merge(const AttentionState& into, const AttentionState& from, size_t n_rows, size_t d_head) {
  for (size_t row = 0; row < n_rows; ++row) {
    const float m = into.m[row] > from.m[row] ? into.m[row] : from.m[row];
    const float a = exp_nonpositive(into.m[row] - m);
    const float b = exp_nonpositive(from.m[row] - m);
    into.m[row] = m;
    into.l[row] = into.l[row] * a + from.l[row] * b;
    float* x = into.o + row * d_head;
    const float* y = from.o + row * d_head;
    size_t d = 0;
    for (; d + 8 <= d_head; d += 8) {
      const __m256 left = _mm256_mul_ps(_mm256_loadu_ps(x + d), _mm256_set1_ps(a));
      const __m256 right = _mm256_mul_ps(_mm256_loadu_ps(y + d), _mm256_set1_ps(b));
      _mm256_storeu_ps(x + d, _mm256_add_ps(left, right));
    }
    for (; d < d_head; ++d) x[d] = x[d] * a + y[d] * b;
  }
}

void finish(const float* o, float l, float* y, size_t d_head) {
  size_t d = 0;
  for (; d + 8 <= d_head; d += 8) {
    const __m256 mean = _mm256_div_ps(_mm256_loadu_ps(o + d), _mm256_set1_ps(l));
    _mm256_storeu_ps(y + d, _mm256_add_ps(mean, _mm256_setzero_ps()));
  }
  for (; d < d_head; ++d) y[d] = o[d] / l + 0.0f;
}

}  // namespace

void fill_avx2_attention(AttentionKernels& kernels) {
  kernels.to_f16 = to_f16;
  kernels.from_f16 = from_f16;
  kernels.to_q8 = to_q8;
  kernels.keys_from_q8 = keys_from_q8;
  kernels.values_from_q8 = values_from_q8;
  kernels.score = AttentionTiles<Avx2>::score;
  kernels.weigh = AttentionTiles<Avx2>::weigh;
  kernels.add_values = AttentionTiles<Avx2>::add_values;
  kernels.merge = merge;
  kernels.finish = finish;
}

}  // namespace ruvltra
