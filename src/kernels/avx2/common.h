// Helpers of the AVX2 kernels. Everything has internal linkage: see kernels/table.h.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/matmul.h"
#include "kernels/panel_layout.h"

#define RUVLTRA_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define RUVLTRA_UNROLL _Pragma("unroll")
#else
#define RUVLTRA_UNROLL _Pragma("GCC unroll 8")
#endif

namespace ruvltra {
namespace {

// How far a walk through panels asks ahead, all its streams together: one core needs this much in flight.
constexpr size_t kPrefetchBytes = 8192;

// May point past the weights: a prefetch cannot fault. Integer arithmetic, because a pointer there would be
// undefined.
RUVLTRA_INLINE void prefetch(const void* at, size_t ahead) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(at) + ahead;
  _mm_prefetch(reinterpret_cast<const char*>(address), _MM_HINT_T0);
}

template <class T>
RUVLTRA_INLINE __m256i load(const T* aligned) {
  return _mm256_load_si256(static_cast<const __m256i*>(static_cast<const void*>(aligned)));
}

template <class T>
RUVLTRA_INLINE __m128i load16(const T* bytes) {
  return _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(bytes)));
}

// 4 bytes in every lane.
template <class T>
RUVLTRA_INLINE __m256i broadcast4(const T* bytes) {
  int32_t word;
  memcpy(&word, bytes, sizeof word);
  return _mm256_set1_epi32(word);
}

template <class T>
RUVLTRA_INLINE __m256i broadcast8(const T* bytes) {
  int64_t word;
  memcpy(&word, bytes, sizeof word);
  return _mm256_set1_epi64x(word);
}

RUVLTRA_INLINE __m256 load_halves(const uint16_t* halves) { return _mm256_cvtph_ps(load16(halves)); }

// The epilogue for the rows of one panel and column c.
RUVLTRA_INLINE void store_rows(const MatmulArgs& args, size_t panel, size_t c, __m256 acc) {
  const size_t row = panel * kPanelRows;
  float* y = args.y + c * args.y_stride + row;
  if (row + kPanelRows <= args.w.n_rows) {
    if (args.bias != nullptr) acc = _mm256_add_ps(acc, _mm256_loadu_ps(args.bias + row));
    if (args.accumulate) acc = _mm256_add_ps(_mm256_loadu_ps(y), acc);
    _mm256_storeu_ps(y, acc);
    return;
  }
  float values[kPanelRows];
  _mm256_storeu_ps(values, acc);
  for (size_t r = 0; row + r < args.w.n_rows; ++r) {
    const float value = args.bias != nullptr ? values[r] + args.bias[row + r] : values[r];
    y[r] = args.accumulate ? y[r] + value : value;
  }
}

}  // namespace
}  // namespace ruvltra
