#include "kernels/attention.h"

#include <immintrin.h>
#include <math.h>

#include "kernels/avx2/exp.h"

namespace ruvltra {
namespace {

constexpr size_t kPageVectors = kPageTokens / 8;

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

// Scores of kRows rows against 8 * kVectors tokens: one fma chain over d per lane.
template <size_t kRows, size_t kVectors>
void score_tile(const AttentionFold& fold, size_t row, size_t token) {
  const float* q = fold.q + row * fold.d_head;
  __m256 sum[kRows][kVectors];
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVectors; ++v) sum[r][v] = _mm256_setzero_ps();
  }
  for (size_t d = 0; d < fold.d_head; ++d) {
    __m256 k[kVectors];
    for (size_t v = 0; v < kVectors; ++v) k[v] = _mm256_load_ps(fold.k + d * kPageTokens + token + 8 * v);
    for (size_t r = 0; r < kRows; ++r) {
      const __m256 qd = _mm256_broadcast_ss(q + r * fold.d_head + d);
      for (size_t v = 0; v < kVectors; ++v) sum[r][v] = _mm256_fmadd_ps(k[v], qd, sum[r][v]);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVectors; ++v)
      _mm256_store_ps(fold.p + (row + r) * kPageTokens + token + 8 * v, sum[r][v]);
  }
}

float max_lanes(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

// Sum over 64 slots: p[t] + p[t + 32], then halves again.
float tree_sum(const __m256* p) {
  const __m256 a = _mm256_add_ps(_mm256_add_ps(p[0], p[4]), _mm256_add_ps(p[2], p[6]));
  const __m256 b = _mm256_add_ps(_mm256_add_ps(p[1], p[5]), _mm256_add_ps(p[3], p[7]));
  const __m256 eight = _mm256_add_ps(a, b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Turns a row of scores into weights, updates m and l, and returns the factor for the values summed so far.
float softmax_row(float* scores, int32_t n_visible, float& m, float& l) {
  const __m256 lowest = _mm256_set1_ps(-INFINITY);
  const __m256i limit = _mm256_set1_epi32(n_visible);
  __m256i slot = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  __m256 s[kPageVectors];
  __m256 largest = lowest;
  for (size_t v = 0; v < kPageVectors; ++v) {
    const __m256 visible = _mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, slot));
    s[v] = _mm256_blendv_ps(lowest, _mm256_load_ps(scores + 8 * v), visible);
    largest = _mm256_max_ps(largest, s[v]);
    slot = _mm256_add_epi32(slot, _mm256_set1_epi32(8));
  }
  const float page_max = max_lanes(largest);
  const float m_new = m > page_max ? m : page_max;
  const __m256 offset = _mm256_set1_ps(m_new);
  for (size_t v = 0; v < kPageVectors; ++v) {
    s[v] = exp_nonpositive(_mm256_sub_ps(s[v], offset));
    _mm256_store_ps(scores + 8 * v, s[v]);
  }
  const float alpha = exp_nonpositive(m - m_new);
  m = m_new;
  l = l * alpha + tree_sum(s);
  return alpha;
}

// o = o * alpha, then plus the weighted values, for kRows rows and 8 * kVectors dimensions.
template <size_t kRows, size_t kVectors>
void value_tile(const AttentionFold& fold, size_t row, size_t dim, const float* alpha) {
  float* o = fold.state.o + row * fold.d_head + dim;
  const float* p = fold.p + row * kPageTokens;
  __m256 sum[kRows][kVectors];
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVectors; ++v) {
      sum[r][v] = _mm256_mul_ps(_mm256_loadu_ps(o + r * fold.d_head + 8 * v), _mm256_set1_ps(alpha[r]));
    }
  }
  for (size_t t = 0; t < kPageTokens; ++t) {
    __m256 value[kVectors];
    for (size_t v = 0; v < kVectors; ++v) value[v] = _mm256_loadu_ps(fold.v + t * fold.d_head + dim + 8 * v);
    for (size_t r = 0; r < kRows; ++r) {
      const __m256 weight = _mm256_broadcast_ss(p + r * kPageTokens + t);
      for (size_t v = 0; v < kVectors; ++v) sum[r][v] = _mm256_fmadd_ps(weight, value[v], sum[r][v]);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVectors; ++v) _mm256_storeu_ps(o + r * fold.d_head + 8 * v, sum[r][v]);
  }
}

// Dimensions that do not fill a vector.
void value_tail(const AttentionFold& fold, size_t row, size_t dim, float alpha) {
  const float* p = fold.p + row * kPageTokens;
  for (; dim < fold.d_head; ++dim) {
    float& o = fold.state.o[row * fold.d_head + dim];
    float sum = o * alpha;
    for (size_t t = 0; t < kPageTokens; ++t) sum = fmaf(p[t], fold.v[t * fold.d_head + dim], sum);
    o = sum;
  }
}

// kVectors is chosen so that the accumulators of a tile fill the registers without spilling.
template <size_t kRows, size_t kVectors>
void fold_rows(const AttentionFold& fold, size_t row) {
  for (size_t token = 0; token < kPageTokens; token += 8 * kVectors)
    score_tile<kRows, kVectors>(fold, row, token);
  float alpha[kRows];
  for (size_t r = 0; r < kRows; ++r) {
    alpha[r] = softmax_row(fold.p + (row + r) * kPageTokens, fold.n_visible[row + r], fold.state.m[row + r],
                           fold.state.l[row + r]);
  }
  size_t dim = 0;
  for (; dim + 8 * kVectors <= fold.d_head; dim += 8 * kVectors)
    value_tile<kRows, kVectors>(fold, row, dim, alpha);
  for (; dim + 8 <= fold.d_head; dim += 8) value_tile<kRows, 1>(fold, row, dim, alpha);
  for (size_t r = 0; r < kRows; ++r) value_tail(fold, row + r, dim, alpha[r]);
}

void fold_page(const AttentionFold& fold) {
  size_t row = 0;
  while (row < fold.n_rows) {
    const size_t left = fold.n_rows - row;
    const size_t n_rows = left <= 6 ? left : left <= 8 ? 4 : 6;
    switch (n_rows) {
      case 6:
        fold_rows<6, 2>(fold, row);
        break;
      case 5:
        fold_rows<5, 2>(fold, row);
        break;
      case 4:
        fold_rows<4, 2>(fold, row);
        break;
      case 3:
        fold_rows<3, 4>(fold, row);
        break;
      case 2:
        fold_rows<2, 4>(fold, row);
        break;
      default:
        fold_rows<1, 8>(fold, row);
        break;
    }
    row += n_rows;
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
  kernels.fold_page = fold_page;
  kernels.merge = merge;
  kernels.finish = finish;
}

}  // namespace ruvltra
