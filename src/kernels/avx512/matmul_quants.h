// The quantised formats with vpdpbusd: it adds the four products of a k-group as int32, one lane per row. The
// walks are those of kernels/avx2/matmul_walks.h.
#pragma once

#include "kernels/avx512/matmul_formats.h"

namespace ruvltra {
namespace {

// isum += scale * (levels . activations) of sub-block s, for kRegisters x kColumns.
template <class Format, int kRegisters, int kColumns, class Weights>
RUVLTRA_INLINE void add_sub_block(const Weights* w, const ActivationBlock<kColumns>& a, size_t s,
                                  __m512i (&isum)[kRegisters][kColumns]) {
  RUVLTRA_UNROLL
  for (int run = 0; run < 8 / Format::kRun; ++run) {
    __m512i sum[kRegisters][kColumns];
    RUVLTRA_UNROLL
    for (int i = 0; i < Format::kRun; ++i) {
      const int g = run * Format::kRun + i;
      __m512i level[kRegisters];
      RUVLTRA_UNROLL
      for (int r = 0; r < kRegisters; ++r) level[r] = levels(w[r], s, g);
      RUVLTRA_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        __m512i activations = broadcast4_wide(a.q[c] + 32 * s + 4 * g);
        if constexpr (kSignedLevels<Weights>) {
          activations = _mm512_xor_si512(activations, _mm512_set1_epi8(-128));
        }
        RUVLTRA_UNROLL
        for (int r = 0; r < kRegisters; ++r) {
          if (!Format::kHasScales) {
            isum[r][c] = _mm512_dpbusd_epi32(isum[r][c], level[r], activations);
          } else {
            const __m512i before = i == 0 ? start(w[r], s, run) : sum[r][c];
            sum[r][c] = kSignedLevels<Weights> ? _mm512_dpbusd_epi32(before, activations, level[r])
                                               : _mm512_dpbusd_epi32(before, level[r], activations);
          }
        }
      }
    }
    if constexpr (Format::kHasScales) {
      RUVLTRA_UNROLL
      for (int r = 0; r < kRegisters; ++r) {
        const __m512i scale_of_run = scale(w[r], s, run);
        RUVLTRA_UNROLL
        for (int c = 0; c < kColumns; ++c) {
          isum[r][c] = _mm512_add_epi32(isum[r][c], _mm512_mullo_epi32(sum[r][c], scale_of_run));
        }
      }
    }
  }
}

struct Avx512 {
  using Ints = __m512i;
  using Floats = __m512;
  template <class Format>
  using UnpackedBlock = ::ruvltra::UnpackedBlock<Format>;
  template <class Weights>
  static constexpr bool kSignedLevels = ::ruvltra::kSignedLevels<Weights>;

  static constexpr size_t kPanels = 2;            // per register
  static constexpr size_t kMaxDirectColumns = 8;  // 8 sums, 8 isums and 8 f32 sums leave 8 of 32 registers
  static constexpr size_t kMaxTileColumns = 6;    // times 2 registers of rows: 12 sums and 12 isums
  static constexpr size_t kUnpackedFrom = 32;     // columns
  static constexpr size_t kColumnBlock = 256;     // columns whose activations stay in L2 while panels pass
  static constexpr size_t kChunk = 512;           // k unpacked at once

  static RUVLTRA_INLINE Ints all(int32_t value) { return _mm512_set1_epi32(value); }
  static RUVLTRA_INLINE Floats all(float value) { return _mm512_set1_ps(value); }
  template <class T>
  static RUVLTRA_INLINE Ints broadcast4(const T* bytes) {
    return broadcast4_wide(bytes);
  }
  static RUVLTRA_INLINE Ints add_pairs(Ints sum, Ints a, Ints b) { return _mm512_dpwssd_epi32(sum, a, b); }
  static RUVLTRA_INLINE Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
  static RUVLTRA_INLINE Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static RUVLTRA_INLINE Floats add_product(Floats a, Floats b, Floats sum) {
    return _mm512_fmadd_ps(a, b, sum);
  }
  static RUVLTRA_INLINE Floats subtract_product(Floats a, Floats b, Floats sum) {
    return _mm512_fnmadd_ps(a, b, sum);
  }
  static RUVLTRA_INLINE void store(const MatmulArgs& args, size_t panel, size_t c, Floats acc) {
    store_row_pair(args, panel, c, acc);
  }
};

template <class Format>
void fill_format(MatmulKernels& kernels, WeightKind kind) {
  const auto index = static_cast<size_t>(kind);
  // One column is bound by memory: the lower rung's walk, panel after panel, reads it faster than two at
  // once.
  kernels.one_column[index] = kernels.quantized[index];
  kernels.quantized[index] = matmul_quants<Avx512, Format>;
}

}  // namespace
}  // namespace ruvltra
