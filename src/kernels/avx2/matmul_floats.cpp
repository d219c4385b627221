// F32, F16 and BF16 weights: one fma chain per row and column in ascending k. Tiles of several panels keep
// enough chains in flight.
#include "kernels/avx2/common.h"

namespace ruvltra {
namespace {

struct F32 {
  using Layout = LayoutF32;
  static RUVLTRA_INLINE __m256 weights(const Layout::Quants& quants) { return _mm256_loadu_ps(quants.rows); }
};
struct F16 {
  using Layout = LayoutF16;
  static RUVLTRA_INLINE __m256 weights(const Layout::Quants& quants) { return load_halves(quants.rows); }
};
struct BF16 {
  using Layout = LayoutBF16;
  static RUVLTRA_INLINE __m256 weights(const Layout::Quants& quants) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(quants.rows)), 16));
  }
};

template <class Format, int kPanels, int kColumns>
void tile(const MatmulArgs& args, size_t panel, size_t c0) {
  const size_t k = args.w.k;
  const typename Format::Layout::Quants* w[kPanels];
  __m256 acc[kPanels][kColumns];
  RUVLTRA_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    const void* data = args.w.data + (panel + static_cast<size_t>(p)) * args.w.panel_bytes;
    w[p] = static_cast<const typename Format::Layout::Quants*>(data);
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) acc[p][c] = _mm256_setzero_ps();
  }
  const float* x = args.a.x + c0 * k;
  for (size_t i = 0; i < k; ++i) {
    __m256 activation[kColumns];
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) activation[c] = _mm256_set1_ps(x[static_cast<size_t>(c) * k + i]);
    if (i % (64 / sizeof *w[0]) == 0) {
      RUVLTRA_UNROLL
      for (int p = 0; p < kPanels; ++p) prefetch(w[p] + i, kPrefetchBytes / kPanels);
    }
    RUVLTRA_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const __m256 weights = Format::weights(w[p][i]);
      RUVLTRA_UNROLL
      for (int c = 0; c < kColumns; ++c) acc[p][c] = _mm256_fmadd_ps(weights, activation[c], acc[p][c]);
    }
  }
  RUVLTRA_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      store_rows(args, panel + static_cast<size_t>(p), c0 + static_cast<size_t>(c), acc[p][c]);
    }
  }
}

template <class Format, int kPanels>
void panels(const MatmulArgs& args, size_t panel) {
  size_t c = 0;
  for (; c + 3 <= args.a.n_cols; c += 3) tile<Format, kPanels, 3>(args, panel, c);
  if (c + 2 == args.a.n_cols) tile<Format, kPanels, 2>(args, panel, c);
  if (c + 1 == args.a.n_cols) tile<Format, kPanels, 1>(args, panel, c);
}

template <class Format>
void matmul_floats(const MatmulArgs& args) {
  size_t panel = args.panel_begin;
  for (; panel + 4 <= args.panel_end; panel += 4) panels<Format, 4>(args, panel);
  for (; panel < args.panel_end; ++panel) panels<Format, 1>(args, panel);
}

template <class Format>
void fill_format(MatmulKernels& kernels, WeightKind kind) {
  kernels.quantized[static_cast<size_t>(kind)] = matmul_floats<Format>;
  kernels.exact[static_cast<size_t>(kind)] = matmul_floats<Format>;
}

}  // namespace

void fill_avx2_matmul_floats(MatmulKernels& kernels) {
  fill_format<F32>(kernels, WeightKind::kF32);
  fill_format<F16>(kernels, WeightKind::kF16);
  fill_format<BF16>(kernels, WeightKind::kBF16);
}

}  // namespace ruvltra
