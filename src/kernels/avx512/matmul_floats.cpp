// F32, F16 and BF16 weights: one fma chain per row and column in ascending k. Tiles of 4 panels keep enough
// chains in flight.
#include "kernels/avx512/common.h"

namespace ruvltra {
namespace {

struct F32 {
  using Quants = LayoutF32::Quants;
  static RUVLTRA_INLINE __m512 weights(const Quants& first, const Quants& second) {
    return _mm512_castsi512_ps(load_pair(first.rows, second.rows));
  }
};
struct F16 {
  using Quants = LayoutF16::Quants;
  static RUVLTRA_INLINE __m512 weights(const Quants& first, const Quants& second) {
    return load_halves_pair(first.rows, second.rows);
  }
};
struct BF16 {
  using Quants = LayoutBF16::Quants;
  static RUVLTRA_INLINE __m512 weights(const Quants& first, const Quants& second) {
    const __m512i wide = _mm512_cvtepu16_epi32(load_pair16(first.rows, second.rows));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
};

constexpr int kMaxColumns = 6;

// 2 * kRegisters panels, clipped to the call's range, times kColumns columns.
template <class Format, int kRegisters, int kColumns>
__attribute__((noinline)) void tile(const MatmulArgs& args, size_t panel, size_t c0) {
  using Quants = typename Format::Quants;
  const size_t k = args.w.k;
  const size_t ahead = chosen(args.tuning.prefetch_bytes, kPrefetchBytes) / (2 * kRegisters);
  const Quants* w[2 * kRegisters];
  RUVLTRA_UNROLL
  for (size_t p = 0; p < 2 * kRegisters; ++p) {
    const size_t even = panel + p / 2 * 2;
    const void* data = args.w.data + (panel + p < args.panel_end ? panel + p : even) * args.w.panel_bytes;
    w[p] = static_cast<const Quants*>(data);
  }
  __m512 acc[kRegisters][kColumns];
  RUVLTRA_UNROLL
  for (int r = 0; r < kRegisters; ++r) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) acc[r][c] = _mm512_setzero_ps();
  }
  const float* x = args.a.x + c0 * k;
  for (size_t i = 0; i < k; ++i) {
    if (i % (64 / sizeof(Quants)) == 0) {
      RUVLTRA_UNROLL
      for (int p = 0; p < 2 * kRegisters; ++p) prefetch(w[p] + i, ahead);
    }
    __m512 weights[kRegisters];
    RUVLTRA_UNROLL
    for (int r = 0; r < kRegisters; ++r) weights[r] = Format::weights(w[2 * r][i], w[2 * r + 1][i]);
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const __m512 activation = _mm512_set1_ps(x[static_cast<size_t>(c) * k + i]);
      RUVLTRA_UNROLL
      for (int r = 0; r < kRegisters; ++r) acc[r][c] = _mm512_fmadd_ps(weights[r], activation, acc[r][c]);
    }
  }
  RUVLTRA_UNROLL
  for (size_t r = 0; r < kRegisters; ++r) {
    RUVLTRA_UNROLL
    for (size_t c = 0; c < kColumns; ++c) store_row_pair(args, panel + 2 * r, c0 + c, acc[r][c]);
  }
}

template <class Format, int kRegisters>
void panels(const MatmulArgs& args, size_t panel) {
  for_balanced_groups(args.a.n_cols, kMaxColumns, [&](size_t c0, size_t n) {
    with_columns<1, kMaxColumns>(n,
                                 [&]<int kColumns> { tile<Format, kRegisters, kColumns>(args, panel, c0); });
  });
}

template <class Format>
void matmul_floats(const MatmulArgs& args) {
  size_t panel = args.panel_begin;
  for (; panel + 2 < args.panel_end; panel += 4) panels<Format, 2>(args, panel);
  if (panel < args.panel_end) panels<Format, 1>(args, panel);
}

template <class Format>
void fill_format(MatmulKernels& kernels, WeightKind kind) {
  kernels.quantized[static_cast<size_t>(kind)] = matmul_floats<Format>;
  kernels.exact[static_cast<size_t>(kind)] = matmul_floats<Format>;
}

}  // namespace

void fill_avx512_matmul_floats(MatmulKernels& kernels) {
  fill_format<F32>(kernels, WeightKind::kF32);
  fill_format<F16>(kernels, WeightKind::kF16);
  fill_format<BF16>(kernels, WeightKind::kBF16);
}

}  // namespace ruvltra
