// Helpers of the AVX-512 matrix kernels: 16 lanes = the rows of two panels side by side. Everything has
// internal linkage: see kernels/table.h.
#pragma once

#include "kernels/avx2/matmul_walks.h"

namespace ruvltra {
namespace {

// 32 bytes of two panels.
template <class T>
RUVLTRA_INLINE __m512i load_pair(const T* first, const T* second) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(load(first)), load(second), 1);
}

// 16 bytes of two panels.
template <class T>
RUVLTRA_INLINE __m256i load_pair16(const T* first, const T* second) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(first)), load16(second), 1);
}

// 8 bytes of two panels.
template <class T>
RUVLTRA_INLINE __m128i load_pair8(const T* first, const T* second) {
  const void* halves[2] = {first, second};
  return _mm_unpacklo_epi64(_mm_loadl_epi64(static_cast<const __m128i*>(halves[0])),
                            _mm_loadl_epi64(static_cast<const __m128i*>(halves[1])));
}

RUVLTRA_INLINE __m512 load_halves_pair(const uint16_t* first, const uint16_t* second) {
  return _mm512_cvtph_ps(load_pair16(first, second));
}

// 4 bytes in each of 16 lanes.
template <class T>
RUVLTRA_INLINE __m512i broadcast4_wide(const T* bytes) {
  int32_t word;
  memcpy(&word, bytes, sizeof word);
  return _mm512_set1_epi32(word);
}

// The epilogue for column c and the rows of `panel` and the next, clipped to the call's range.
RUVLTRA_INLINE void store_row_pair(const MatmulArgs& args, size_t panel, size_t c, __m512 acc) {
  const size_t row = panel * kPanelRows;
  const size_t end = at_most(args.panel_end * kPanelRows, args.w.n_rows);
  const size_t n = at_most(end - row, 2 * kPanelRows);
  const auto rows = static_cast<__mmask16>((1u << n) - 1);
  float* y = args.y + c * args.y_stride + row;
  if (args.bias != nullptr) acc = _mm512_add_ps(acc, _mm512_maskz_loadu_ps(rows, args.bias + row));
  if (args.accumulate) acc = _mm512_add_ps(_mm512_maskz_loadu_ps(rows, y), acc);
  _mm512_mask_storeu_ps(y, rows, acc);
}

}  // namespace
}  // namespace ruvltra
