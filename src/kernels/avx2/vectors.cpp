#include "kernels/vectors.h"

#include "kernels/avx2/common.h"

namespace ruvltra {
namespace {

// Rows per walk: enough sums in flight to hide the latency of an fma.
constexpr size_t kRowTile = 4;

RUVLTRA_INLINE __m256i load_codes(const int8_t* at) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(at)));
}

RUVLTRA_INLINE int32_t fold_lanes(__m256i v) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

// |a| and b with the sign of a: two products of at most 127^2 fit the int16 sum of vpmaddubsw.
template <size_t kRows>
RUVLTRA_INLINE void dot_i8_tile(const int8_t* query, const int8_t* const* rows, size_t n, int32_t* out) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum[kRows];
  RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) sum[r] = _mm256_setzero_si256();
  for (size_t i = 0; i < n; i += 32) {
    const __m256i a = load_codes(query + i);
    const __m256i magnitude = _mm256_abs_epi8(a);
    RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) {
      const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(load_codes(rows[r] + i), a));
      sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(pairs, ones));
    }
  }
  RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) out[r] = fold_lanes(sum[r]);
}

// Lanes 8 v .. 8 v + 7 of the 32 are register v.
RUVLTRA_INLINE float fold_lanes(const __m256* lane) {
  const __m256 eight = _mm256_add_ps(_mm256_add_ps(lane[0], lane[2]), _mm256_add_ps(lane[1], lane[3]));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

template <size_t kRows>
RUVLTRA_INLINE void dot_f32_tile(const float* query, const float* const* rows, size_t n, float* out) {
  __m256 lane[kRows][4];
  RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) {
    RUVLTRA_UNROLL for (size_t v = 0; v < 4; ++v) lane[r][v] = _mm256_setzero_ps();
  }
  for (size_t i = 0; i < n; i += 32) {
    RUVLTRA_UNROLL for (size_t v = 0; v < 4; ++v) {
      const __m256 q = _mm256_loadu_ps(query + i + 8 * v);
      RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) {
        lane[r][v] = _mm256_fmadd_ps(q, _mm256_loadu_ps(rows[r] + i + 8 * v), lane[r][v]);
      }
    }
  }
  RUVLTRA_UNROLL for (size_t r = 0; r < kRows; ++r) out[r] = fold_lanes(lane[r]);
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

// Two rows: 8 sums fill the registers' latency, 16 would not leave one for the query.
void dot_f32_rows(const float* query, const float* const* rows, size_t n_rows, size_t n, float* out) {
  size_t r = 0;
  for (; r + 2 <= n_rows; r += 2) dot_f32_tile<2>(query, rows + r, n, out + r);
  for (; r < n_rows; ++r) dot_f32_tile<1>(query, rows + r, n, out + r);
}

}  // namespace

void fill_avx2_vectors(VectorKernels& kernels) { kernels = {dot_i8, dot_f32, dot_i8_rows, dot_f32_rows}; }

}  // namespace ruvltra
