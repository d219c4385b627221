// The walks through panels that the x86 rungs share, and what happens once per block: direct (few columns,
// weights unpacked in registers) and unpacked (many columns, weights unpacked once into bytes). A rung gives
// its registers as a class Isa, and for its registers: levels, scale, factors, scale_d, scale_m, unpack and
// add_sub_block.
//
// A register of rows holds Isa::kPanels panels side by side; a last panel without a neighbour fills all
// places.
#pragma once

#include "kernels/avx2/matmul_operands.h"

namespace ruvltra {
namespace {

constexpr size_t kTileRegisters = 2;  // registers of rows per tile of the unpacked walk

// Block b of the panels of one register, as in memory.
template <class Format, size_t kPanels>
struct PackedBlock {
  const typename Format::Header* header[kPanels];
  const typename Format::SubBlock* sub[kPanels];
};

template <class Format, size_t kPanels>
struct PanelGroup {
  Panel<Format> side[kPanels];

  RUVLTRA_INLINE PackedBlock<Format, kPanels> block(size_t b) const {
    PackedBlock<Format, kPanels> block;
    RUVLTRA_UNROLL
    for (size_t p = 0; p < kPanels; ++p) {
      block.header[p] = side[p].headers + b;
      block.sub[p] = side[p].quants[b].sub;
    }
    return block;
  }
};

template <class Format, size_t kPanels>
RUVLTRA_INLINE PanelGroup<Format, kPanels> group_at(const MatmulArgs& args, size_t panel) {
  PanelGroup<Format, kPanels> group;
  RUVLTRA_UNROLL
  for (size_t p = 0; p < kPanels; ++p) {
    group.side[p] = panel_at<Format>(args.w, panel + p < args.panel_end ? panel + p : panel);
  }
  return group;
}

// sum += factors . block sums, kPairs pairs of int16 per lane; `sums` are those of the columns.
template <class Isa, int kPairs, int kRegisters, int kColumns, class Weights>
RUVLTRA_INLINE void add_factors(const Weights* w, const int16_t* const (&sums)[kColumns],
                                typename Isa::Ints (&sum)[kRegisters][kColumns]) {
  for (size_t i = 0; i < kPairs; ++i) {
    typename Isa::Ints factor[kRegisters];
    RUVLTRA_UNROLL
    for (int r = 0; r < kRegisters; ++r) factor[r] = factors(w[r], i);
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const typename Isa::Ints pair = Isa::broadcast4(sums[c] + 2 * i);
      RUVLTRA_UNROLL
      for (int r = 0; r < kRegisters; ++r) sum[r][c] = Isa::add_pairs(sum[r][c], factor[r], pair);
    }
  }
}

template <class Isa, int kRegisters, int kColumns>
RUVLTRA_INLINE void set_all(typename Isa::Ints (&sum)[kRegisters][kColumns],
                            const int32_t (&values)[kColumns]) {
  RUVLTRA_UNROLL
  for (int r = 0; r < kRegisters; ++r) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) sum[r][c] = Isa::all(values[c]);
  }
}

// acc += or -= (d_a * scale) * sum, the f32 step of docs/kernels.md section 1.
template <class Isa, bool kSubtract, int kColumns>
RUVLTRA_INLINE void scale_and_add(typename Isa::Floats scale, const ActivationBlock<kColumns>& a,
                                  const typename Isa::Ints (&sum)[kColumns],
                                  typename Isa::Floats (&acc)[kColumns]) {
  RUVLTRA_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const typename Isa::Floats product = Isa::multiply(Isa::all(*a.d[c]), scale);
    const typename Isa::Floats value = Isa::to_floats(sum[c]);
    acc[c] =
        kSubtract ? Isa::subtract_product(product, value, acc[c]) : Isa::add_product(product, value, acc[c]);
  }
}

// acc += one block; `ahead` asks for later weights between the sub-blocks.
template <class Isa, class Format, int kRegisters, int kColumns, class Weights, class Prefetch>
RUVLTRA_INLINE void add_block(const Weights* w, const ActivationBlock<kColumns>& a,
                              typename Isa::Floats (&acc)[kRegisters][kColumns], const Prefetch& ahead) {
  typename Isa::Ints sum[kRegisters][kColumns];
  int32_t start[kColumns] = {};
  if constexpr (Format::kOffset != 0 && !Format::kHasScales) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) start[c] = -Format::kOffset * a.sum32[c][0];
  }
  set_all<Isa>(sum, start);
  if constexpr (Format::kOffset != 0 && Format::kHasScales && !Isa::template kSignedLevels<Weights>) {
    add_factors<Isa, 8>(w, a.sum16, sum);
  }
  for (size_t s = 0; s < Format::Layout::kSubBlocks; ++s) {
    add_sub_block<Format, kRegisters, kColumns>(w, a, s, sum);
    ahead.sub_block(s);
  }
  RUVLTRA_UNROLL
  for (int r = 0; r < kRegisters; ++r) scale_and_add<Isa, false>(scale_d(w[r]), a, sum[r], acc[r]);
  if constexpr (Format::kHasMins || Format::kHasM) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) start[c] = Format::kHasM ? a.sum32[c][0] : 0;
    set_all<Isa>(sum, start);
    if constexpr (Format::kHasMins) add_factors<Isa, 4>(w, a.sum32, sum);
    RUVLTRA_UNROLL
    for (int r = 0; r < kRegisters; ++r) {
      scale_and_add<Isa, Format::kHasMins>(scale_m(w[r]), a, sum[r], acc[r]);
    }
  }
}

// Asks for the weights of a later group while one is multiplied: in the order of their addresses, headers and
// quants alike, because memory delivers one ascending stream faster than two of each. (The panels of a group
// are multiplied side by side, so only whole groups can be asked for in that order.)
template <class Format, size_t kPanels>
struct GroupPrefetch {
  static constexpr size_t kBlockBytes =
      kPanels * (sizeof(typename Format::Header) + sizeof(typename Format::Layout::Quants));
  static constexpr size_t kPieceBytes = kBlockBytes / Format::Layout::kSubBlocks;
  const uint8_t* block;  // where block b would be if the group lay block after block
  size_t ahead;

  RUVLTRA_INLINE void sub_block(size_t s) const {
    RUVLTRA_UNROLL
    for (size_t line = 0; line < kPieceBytes; line += 64) prefetch(block, ahead + s * kPieceBytes + line);
  }
};

// Groups to be asked for early: at least one, and as many as make `bytes`.
RUVLTRA_INLINE size_t bytes_ahead(size_t group_bytes, size_t bytes) {
  const size_t groups = (bytes + group_bytes - 1) / group_bytes;
  return (groups != 0 ? groups : 1) * group_bytes;
}

template <class Isa, class Format, int kColumns>
__attribute__((noinline)) void direct_columns(const MatmulArgs& args, size_t panel, size_t c0) {
  const size_t n_blocks = args.w.k / Format::Layout::kBlock;
  const auto group = group_at<Format, Isa::kPanels>(args, panel);
  using Ahead = GroupPrefetch<Format, Isa::kPanels>;
  Ahead ahead = {
      args.w.data + panel * args.w.panel_bytes,
      bytes_ahead(Isa::kPanels * args.w.panel_bytes, chosen(args.tuning.prefetch_bytes, kPrefetchBytes))};
  typename Isa::Floats acc[1][kColumns];
  RUVLTRA_UNROLL
  for (int c = 0; c < kColumns; ++c) acc[0][c] = Isa::all(0.0f);
  for (size_t b = 0; b < n_blocks; ++b) {
    const auto block = group.block(b);
    add_block<Isa, Format, 1, kColumns>(&block, activation_block<Format, kColumns>(args.a, args.w.k, c0, b),
                                        acc, ahead);
    ahead.block += Ahead::kBlockBytes;
  }
  RUVLTRA_UNROLL
  for (int c = 0; c < kColumns; ++c) Isa::store(args, panel, c0 + static_cast<size_t>(c), acc[0][c]);
}

template <class Isa, class Format>
void direct(const MatmulArgs& args) {
  for (size_t panel = args.panel_begin; panel < args.panel_end; panel += Isa::kPanels) {
    for_balanced_groups(args.a.n_cols, Isa::kMaxDirectColumns, [&](size_t c0, size_t n) {
      with_columns<1, Isa::kMaxDirectColumns>(
          n, [&]<int kColumns> { direct_columns<Isa, Format, kColumns>(args, panel, c0); });
    });
  }
}

// Some blocks of a tile's panels unpacked, and the f32 sums of a column block so far.
template <class Isa, class Format>
struct Unpacked {
  using Block = typename Isa::template UnpackedBlock<Format>;
  static constexpr size_t kMaxBlocks = kMaxChunk / Format::Layout::kBlock;
  Block block[kMaxBlocks][kTileRegisters];
  typename Isa::Floats sums[kMaxColumnBlock][kTileRegisters];
};

// While a block of activations is multiplied, asks for the same block of the next tile's columns: the chunk
// of a whole column block is larger than the first cache.
template <int kColumns>
struct NextColumns {
  const ActivationBlock<kColumns>& a;
  size_t ahead;

  RUVLTRA_INLINE void sub_block(size_t s) const {
    if (s % 2 != 0) return;
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) prefetch(a.q[c] + 32 * s, ahead);
  }
};

// Columns c.. of the column block at c0, blocks b0..b0 + n_blocks.
template <class Isa, class Format, int kRegisters, int kColumns>
__attribute__((noinline)) void unpacked_tile(const MatmulArgs& args, Unpacked<Isa, Format>& unpacked,
                                             size_t b0, size_t n_blocks, size_t c0, size_t c) {
  typename Isa::Floats acc[kRegisters][kColumns];
  auto* const sums = unpacked.sums + c;
  RUVLTRA_UNROLL
  for (int r = 0; r < kRegisters; ++r) {
    RUVLTRA_UNROLL
    for (int i = 0; i < kColumns; ++i) acc[r][i] = sums[i][r];
  }
  for (size_t i = 0; i < n_blocks; ++i) {
    const auto a = activation_block<Format, kColumns>(args.a, args.w.k, c0 + c, b0 + i);
    add_block<Isa, Format, kRegisters, kColumns>(unpacked.block[i], a, acc,
                                                 NextColumns<kColumns>{a, kColumns * args.w.k});
  }
  RUVLTRA_UNROLL
  for (int r = 0; r < kRegisters; ++r) {
    RUVLTRA_UNROLL
    for (int i = 0; i < kColumns; ++i) sums[i][r] = acc[r][i];
  }
}

// While a chunk is multiplied, asks piece by piece for the quants of the next one: those of the same panels,
// or of the next ones behind their end.
struct NextChunk {
  const void* quants;  // of the first panel
  size_t n_panels;
  size_t panel_bytes;
  size_t quant_bytes;  // of one panel
  size_t begin;        // of the next chunk
  size_t end;

  RUVLTRA_INLINE void ask(size_t piece, size_t n_pieces) const {
    const size_t n_lines = (end - begin + 63) / 64;
    for (size_t line = piece * n_lines / n_pieces; line < (piece + 1) * n_lines / n_pieces; ++line) {
      const size_t at = begin + 64 * line;
      const size_t offset = at < quant_bytes ? at : at - quant_bytes + n_panels * panel_bytes;
      for (size_t p = 0; p < n_panels; ++p) prefetch(quants, offset + p * panel_bytes);
    }
  }
};

// The panels of kRegisters registers times columns c0..c0 + n_cols.
template <class Isa, class Format, int kRegisters>
void unpacked_panels(const MatmulArgs& args, size_t panel, size_t c0, size_t n_cols) {
  constexpr size_t kBlock = Format::Layout::kBlock;
  const size_t n_blocks = args.w.k / kBlock;
  const size_t wanted = chosen(args.tuning.chunk, Isa::kChunk) / kBlock;
  const size_t chunk = at_most(wanted != 0 ? wanted : 1, Unpacked<Isa, Format>::kMaxBlocks);
  Unpacked<Isa, Format> unpacked;
  for (size_t c = 0; c < n_cols; ++c) {
    for (auto& sum : unpacked.sums[c]) sum = Isa::all(0.0f);
  }
  for (size_t b0 = 0; b0 < n_blocks; b0 += chunk) {
    const size_t n = at_most(n_blocks - b0, chunk);
    for (size_t r = 0; r < kRegisters; ++r) {
      const auto group = group_at<Format, Isa::kPanels>(args, panel + Isa::kPanels * r);
      for (size_t i = 0; i < n; ++i) unpack(group.block(b0 + i), unpacked.block[i][r]);
    }
    constexpr size_t kQuants = sizeof(typename Format::Layout::Quants);
    const NextChunk next = {panel_at<Format>(args.w, panel).quants,
                            kRegisters * Isa::kPanels,
                            args.w.panel_bytes,
                            n_blocks * kQuants,
                            (b0 + n) * kQuants,
                            (b0 + n + chunk) * kQuants};
    for_balanced_groups(n_cols, Isa::kMaxTileColumns, [&](size_t c, size_t n_tile) {
      next.ask(c / Isa::kMaxTileColumns, (n_cols + Isa::kMaxTileColumns - 1) / Isa::kMaxTileColumns);
      with_columns<1, Isa::kMaxTileColumns>(n_tile, [&]<int kColumns> {
        unpacked_tile<Isa, Format, kRegisters, kColumns>(args, unpacked, b0, n, c0, c);
      });
    });
  }
  for (size_t c = 0; c < n_cols; ++c) {
    for (size_t r = 0; r < kRegisters; ++r) {
      Isa::store(args, panel + Isa::kPanels * r, c0 + c, unpacked.sums[c][r]);
    }
  }
}

template <class Isa, class Format>
void unpacked(const MatmulArgs& args) {
  const size_t column_block = at_most(chosen(args.tuning.column_block, Isa::kColumnBlock), kMaxColumnBlock);
  for_balanced_groups(args.a.n_cols, column_block, [&](size_t c0, size_t n_cols) {
    size_t panel = args.panel_begin;
    for (; panel + Isa::kPanels < args.panel_end; panel += kTileRegisters * Isa::kPanels) {
      unpacked_panels<Isa, Format, kTileRegisters>(args, panel, c0, n_cols);
    }
    if (panel < args.panel_end) unpacked_panels<Isa, Format, 1>(args, panel, c0, n_cols);
  });
}

template <class Isa, class Format>
void matmul_quants(const MatmulArgs& args) {
  if (args.a.n_cols < chosen(args.tuning.unpacked_from, Isa::kUnpackedFrom)) {
    direct<Isa, Format>(args);
  } else {
    unpacked<Isa, Format>(args);
  }
}

}  // namespace
}  // namespace ruvltra
