// The shared loop of the quantised formats: one lane per row, vpdpbusd adds the products of a k-group as
// int32, one fma per block and lane. Two walks use it: direct (few columns, weights unpacked in registers)
// and unpacked (many columns, weights unpacked once into bytes).
#pragma once

#include "kernels/avx512/matmul_formats.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxDirectColumns = 8;  // 8 sums, 8 isums and 8 f32 sums leave 8 of the 32 registers
constexpr size_t kMaxTileColumns = 6;    // times 2 registers of rows: 12 sums, 12 isums, weights, a broadcast
constexpr size_t kTileRegisters = 2;     // 32 rows = 4 panels

constexpr size_t kUnpackedFrom = 12;  // columns
constexpr size_t kColumnBlock = 96;   // columns whose activations stay in L2 while panels pass
constexpr size_t kChunk = 1024;       // k unpacked at once

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
        const __m512i activations = broadcast4_pair(a.q[c] + 32 * s + 4 * g);
        RUVLTRA_UNROLL
        for (int r = 0; r < kRegisters; ++r) {
          if (!Format::kHasScales) {
            isum[r][c] = _mm512_dpbusd_epi32(isum[r][c], level[r], activations);
          } else {
            const __m512i before = i == 0 ? _mm512_setzero_si512() : sum[r][c];
            sum[r][c] = _mm512_dpbusd_epi32(before, level[r], activations);
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

// sum += factors . block sums, kPairs int16 pairs per lane; `sums` are those of the columns.
template <int kPairs, int kRegisters, int kColumns, class Weights>
RUVLTRA_INLINE void add_factors(const Weights* w, const int16_t* const (&sums)[kColumns],
                                __m512i (&sum)[kRegisters][kColumns]) {
  for (size_t i = 0; i < kPairs; ++i) {
    __m512i factor[kRegisters];
    RUVLTRA_UNROLL
    for (int r = 0; r < kRegisters; ++r) factor[r] = factors(w[r], i);
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const __m512i pair = broadcast4_pair(sums[c] + 2 * i);
      RUVLTRA_UNROLL
      for (int r = 0; r < kRegisters; ++r) sum[r][c] = _mm512_dpwssd_epi32(sum[r][c], factor[r], pair);
    }
  }
}

template <int kRegisters, int kColumns>
RUVLTRA_INLINE void set_all(__m512i (&sum)[kRegisters][kColumns], int32_t (&values)[kColumns]) {
  RUVLTRA_UNROLL
  for (int r = 0; r < kRegisters; ++r) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) sum[r][c] = _mm512_set1_epi32(values[c]);
  }
}

// What the unpacked walk asks for while it multiplies: nothing.
struct NoPrefetch {
  RUVLTRA_INLINE void sub_block(size_t) const {}
};

// acc += one block; `ahead` asks for later weights between the sub-blocks.
template <class Format, int kRegisters, int kColumns, class Weights, class Prefetch>
RUVLTRA_INLINE void add_block(const Weights* w, const ActivationBlock<kColumns>& a,
                              __m512 (&acc)[kRegisters][kColumns], const Prefetch& ahead) {
  __m512i isum[kRegisters][kColumns];
  int32_t start[kColumns] = {};
  if constexpr (Format::kOffset != 0 && !Format::kHasScales) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) start[c] = -Format::kOffset * a.sum32[c][0];
  }
  set_all(isum, start);
  if constexpr (Format::kOffset != 0 && Format::kHasScales) add_factors<8>(w, a.sum16, isum);
  for (size_t s = 0; s < Format::Layout::kSubBlocks; ++s) {
    add_sub_block<Format, kRegisters, kColumns>(w, a, s, isum);
    ahead.sub_block(s);
  }
  RUVLTRA_UNROLL
  for (int r = 0; r < kRegisters; ++r) {
    const __m512 d = scale_d(w[r]);
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(*a.d[c]), d);
      acc[r][c] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(isum[r][c]), acc[r][c]);
    }
  }
  if constexpr (Format::kHasMins || Format::kHasM) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) start[c] = Format::kHasM ? a.sum32[c][0] : 0;
    __m512i msum[kRegisters][kColumns];
    set_all(msum, start);
    if constexpr (Format::kHasMins) add_factors<4>(w, a.sum32, msum);
    RUVLTRA_UNROLL
    for (int r = 0; r < kRegisters; ++r) {
      const __m512 m = scale_m(w[r]);
      RUVLTRA_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(*a.d[c]), m);
        const __m512 sum = _mm512_cvtepi32_ps(msum[r][c]);
        acc[r][c] = Format::kHasMins ? _mm512_fnmadd_ps(scale, sum, acc[r][c])
                                     : _mm512_fmadd_ps(scale, sum, acc[r][c]);
      }
    }
  }
}

// Two panels side by side; a last panel without a neighbour stands on both sides.
template <class Format>
struct PanelPair {
  Panel<Format> side[2];

  RUVLTRA_INLINE PackedBlock<Format> block(size_t b) const {
    return {{side[0].headers + b, side[1].headers + b}, {side[0].quants[b].sub, side[1].quants[b].sub}};
  }
};

template <class Format>
RUVLTRA_INLINE PanelPair<Format> pair_at(const MatmulArgs& args, size_t panel) {
  const size_t second = panel + 1 < args.panel_end ? panel + 1 : panel;
  return {{panel_at<Format>(args.w, panel), panel_at<Format>(args.w, second)}};
}

// Asks for the quants of both panels some bytes before block b needs them; behind their end follow those of
// the next pair. A header is asked for one pair early.
template <class Format>
struct PairPrefetch {
  using Quants = typename Format::Layout::Quants;
  const PanelPair<Format>& pair;
  size_t panel_bytes;
  size_t quant_bytes;  // of one panel
  size_t bytes_ahead;
  size_t b;

  RUVLTRA_INLINE void sub_block(size_t s) const {
    const size_t begin = b * sizeof(Quants) + s * sizeof(typename Format::SubBlock) + bytes_ahead;
    RUVLTRA_UNROLL
    for (size_t line = 0; line < sizeof(typename Format::SubBlock); line += 64) {
      const size_t at = begin + line;
      const size_t offset = at < quant_bytes ? at : at - quant_bytes + 2 * panel_bytes;
      prefetch(pair.side[0].quants, offset);
      prefetch(pair.side[1].quants, offset);
    }
  }
  RUVLTRA_INLINE void header() const {
    RUVLTRA_UNROLL
    for (size_t line = 0; line < sizeof(typename Format::Header); line += 64) {
      prefetch(pair.side[0].headers + b, 2 * panel_bytes + line);
      prefetch(pair.side[1].headers + b, 2 * panel_bytes + line);
    }
  }
};

template <class Format, int kColumns>
__attribute__((noinline)) void direct_columns(const MatmulArgs& args, size_t panel, size_t c0) {
  const size_t n_blocks = args.w.k / Format::Layout::kBlock;
  const PanelPair<Format> pair = pair_at<Format>(args, panel);
  PairPrefetch<Format> ahead = {pair, args.w.panel_bytes, n_blocks * sizeof(typename Format::Layout::Quants),
                                chosen(args.tuning.prefetch_bytes, kPrefetchBytes) / 2, 0};
  __m512 acc[1][kColumns];
  RUVLTRA_UNROLL
  for (int c = 0; c < kColumns; ++c) acc[0][c] = _mm512_setzero_ps();
  for (size_t b = 0; b < n_blocks; ++b) {
    const PackedBlock<Format> block = pair.block(b);
    ahead.b = b;
    ahead.header();
    add_block<Format, 1, kColumns>(&block, activation_block<Format, kColumns>(args.a, args.w.k, c0, b), acc,
                                   ahead);
  }
  RUVLTRA_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    store_row_pair(args, panel, args.panel_end, c0 + static_cast<size_t>(c), acc[0][c]);
  }
}

template <class Format>
void direct(const MatmulArgs& args) {
  for (size_t panel = args.panel_begin; panel < args.panel_end; panel += 2) {
    for_balanced_groups(args.a.n_cols, kMaxDirectColumns, [&](size_t c0, size_t n) {
      with_columns<1, kMaxDirectColumns>(
          n, [&]<int kColumns> { direct_columns<Format, kColumns>(args, panel, c0); });
    });
  }
}

// Some blocks of up to 4 panels unpacked, and the f32 sums of a column block so far.
template <class Format>
struct Unpacked {
  static constexpr size_t kMaxBlocks = kMaxChunk / Format::Layout::kBlock;
  UnpackedBlock<Format> block[kMaxBlocks][kTileRegisters];
  __m512 sums[kMaxColumnBlock][kTileRegisters];
};

template <class Format, int kRegisters, int kColumns>
__attribute__((noinline)) void unpacked_tile(const MatmulArgs& args,
                                             const UnpackedBlock<Format> (*blocks)[kTileRegisters], size_t b0,
                                             size_t n_blocks, size_t c0, __m512 (*sums)[kTileRegisters]) {
  __m512 acc[kRegisters][kColumns];
  RUVLTRA_UNROLL
  for (int r = 0; r < kRegisters; ++r) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) acc[r][c] = sums[c][r];
  }
  for (size_t i = 0; i < n_blocks; ++i) {
    add_block<Format, kRegisters, kColumns>(
        blocks[i], activation_block<Format, kColumns>(args.a, args.w.k, c0, b0 + i), acc, NoPrefetch{});
  }
  RUVLTRA_UNROLL
  for (int r = 0; r < kRegisters; ++r) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) sums[c][r] = acc[r][c];
  }
}

// Panels [panel, panel + 2 * kRegisters), clipped to the range, times columns [c0, c0 + n_cols).
template <class Format, int kRegisters>
void unpacked_panels(const MatmulArgs& args, size_t panel, size_t c0, size_t n_cols) {
  constexpr size_t kBlock = Format::Layout::kBlock;
  const size_t n_blocks = args.w.k / kBlock;
  const size_t chunk = chosen(args.tuning.chunk, kChunk) / kBlock;
  const size_t chunk_blocks = at_most(chunk != 0 ? chunk : 1, Unpacked<Format>::kMaxBlocks);
  Unpacked<Format> unpacked;
  for (size_t c = 0; c < n_cols; ++c) {
    for (__m512& sum : unpacked.sums[c]) sum = _mm512_setzero_ps();
  }
  for (size_t b0 = 0; b0 < n_blocks; b0 += chunk_blocks) {
    const size_t n = at_most(n_blocks - b0, chunk_blocks);
    for (size_t r = 0; r < kRegisters; ++r) {
      const PanelPair<Format> pair = pair_at<Format>(args, panel + 2 * r);
      for (size_t i = 0; i < n; ++i) unpack(pair.block(b0 + i), unpacked.block[i][r]);
    }
    for_balanced_groups(n_cols, kMaxTileColumns, [&](size_t c, size_t n_tile) {
      with_columns<1, kMaxTileColumns>(n_tile, [&]<int kColumns> {
        unpacked_tile<Format, kRegisters, kColumns>(args, unpacked.block, b0, n, c0 + c, unpacked.sums + c);
      });
    });
  }
  for (size_t c = 0; c < n_cols; ++c) {
    for (size_t r = 0; r < kRegisters; ++r) {
      store_row_pair(args, panel + 2 * r, args.panel_end, c0 + c, unpacked.sums[c][r]);
    }
  }
}

template <class Format>
void unpacked(const MatmulArgs& args) {
  const size_t column_block = at_most(chosen(args.tuning.column_block, kColumnBlock), kMaxColumnBlock);
  for_balanced_groups(args.a.n_cols, column_block, [&](size_t c0, size_t n_cols) {
    size_t panel = args.panel_begin;
    for (; panel + 2 < args.panel_end; panel += 2 * kTileRegisters) {
      unpacked_panels<Format, kTileRegisters>(args, panel, c0, n_cols);
    }
    if (panel < args.panel_end) unpacked_panels<Format, 1>(args, panel, c0, n_cols);
  });
}

template <class Format>
void matmul_quants(const MatmulArgs& args) {
  if (args.a.n_cols < chosen(args.tuning.unpacked_from, kUnpackedFrom)) {
    direct<Format>(args);
  } else {
    unpacked<Format>(args);
  }
}

template <class Format>
void fill_format(MatmulKernels& kernels, WeightKind kind) {
  kernels.quantized[static_cast<size_t>(kind)] = matmul_quants<Format>;
}

}  // namespace
}  // namespace ruvltra
