#include "kernels/vectors.h"

#include "kernels/avx2/common.h"

namespace ruvltra {
namespace {

// Rows per walk: enough sums in flight to hide the latency of vpdpbusd and of an fma.
constexpr size_t kRowTile = 4;

// The query is made unsigned by adding 128 (its top bit flipped); what that adds, 128 * sum(row), is summed
// beside it and taken off. The last 32 values of a vector of odd blocks are read under a mask.
template <size_t kRows>
RUVLTRA_INLINE void dot_i8_tile(const int8_t* query, const int8_t* const* rows, size_t n, int32_t* out) {
  const __m512i top_bits = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i sum[kRows], excess[kRows];
  RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) sum[r] = excess[r] = _mm512_setzero_si512();
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const __m512i q = _mm512_xor_si512(_mm512_loadu_si512(query + i), top_bits);
    RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) {
      const __m512i row = _mm512_loadu_si512(rows[r] + i);
      sum[r] = _mm512_dpbusd_epi32(sum[r], q, row);
      excess[r] = _mm512_dpbusd_epi32(excess[r], top_bits, row);
    }
  }
  if (i < n) {
    const __mmask64 half = 0xffffffffu;
    const __m512i q = _mm512_xor_si512(_mm512_maskz_loadu_epi8(half, query + i), top_bits);
    RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) {
      const __m512i row = _mm512_maskz_loadu_epi8(half, rows[r] + i);
      sum[r] = _mm512_dpbusd_epi32(sum[r], q, row);
      excess[r] = _mm512_dpbusd_epi32(excess[r], top_bits, row);
    }
  }
  RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) {
    out[r] = _mm512_reduce_add_epi32(_mm512_sub_epi32(sum[r], excess[r]));
  }
}

// (l, l + 16) was added before; here (l, l + 8), (l, l + 4), ...
RUVLTRA_INLINE float fold_lanes(__m512 sixteen) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sixteen), _mm512_extractf32x8_ps(sixteen, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

template <size_t kRows>
RUVLTRA_INLINE void dot_f32_tile(const float* query, const float* const* rows, size_t n, float* out) {
  __m512 low[kRows], high[kRows];
  RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) low[r] = high[r] = _mm512_setzero_ps();
  for (size_t i = 0; i < n; i += 32) {
    const __m512 q_low = _mm512_loadu_ps(query + i);
    const __m512 q_high = _mm512_loadu_ps(query + i + 16);
    RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) {
      low[r] = _mm512_fmadd_ps(q_low, _mm512_loadu_ps(rows[r] + i), low[r]);
      high[r] = _mm512_fmadd_ps(q_high, _mm512_loadu_ps(rows[r] + i + 16), high[r]);
    }
  }
  RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) out[r] = fold_lanes(_mm512_add_ps(low[r], high[r]));
}

int32_t dot_i8(const int8_t* a, const int8_t* b, size_t n) {
  int32_t out;
  dot_i8_tile<1>(a, &b, n, &out);
  return out;
}

float dot_f32(const float* a, const float* b, size_t n) {
  float out;
  dot_f32_tile<1>(a, &b, n, &out);
  return out;
}

void dot_i8_rows(const int8_t* query, const int8_t* const* rows, size_t n_rows, size_t n, int32_t* out) {
  size_t r = 0;
  for (; r + kRowTile <= n_rows; r += kRowTile) dot_i8_tile<kRowTile>(query, rows + r, n, out + r);
  for (; r < n_rows; ++r) dot_i8_tile<1>(query, rows + r, n, out + r);
}

void dot_f32_rows(const float* query, const float* const* rows, size_t n_rows, size_t n, float* out) {
  size_t r = 0;
  for (; r + kRowTile <= n_rows; r += kRowTile) dot_f32_tile<kRowTile>(query, rows + r, n, out + r);
  for (; r < n_rows; ++r) dot_f32_tile<1>(query, rows + r, n, out + r);
}

}  // namespace

void fill_avx512_vectors(VectorKernels& kernels) { kernels = {dot_i8, dot_f32, dot_i8_rows, dot_f32_rows}; }

}  // namespace ruvltra
