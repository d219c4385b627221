// Where the walks of the x86 kernels find blocks of weights and activations. Everything has internal linkage:
// see kernels/table.h.
#pragma once

#include "kernels/avx2/common.h"

namespace ruvltra {
namespace {

// A panel's two strips.
template <class Format>
struct Panel {
  const typename Format::Header* headers;
  const typename Format::Layout::Quants* quants;
};

template <class Format>
RUVLTRA_INLINE Panel<Format> panel_at(const PanelView& w, size_t panel) {
  const uint8_t* data = w.data + panel * w.panel_bytes;
  const void* headers = data;
  const void* quants = data + quant_offset(block_of<typename Format::Layout>(), w.k);
  return {static_cast<const typename Format::Header*>(headers),
          static_cast<const typename Format::Layout::Quants*>(quants)};
}

// Block b of kColumns activation rows.
template <int kColumns>
struct ActivationBlock {
  const int8_t* q[kColumns];
  const int16_t* sum16[kColumns];
  const int16_t* sum32[kColumns];
  const float* d[kColumns];
};

template <class Format, int kColumns>
RUVLTRA_INLINE ActivationBlock<kColumns> activation_block(const ActivationView& a, size_t k, size_t c0,
                                                          size_t b) {
  constexpr size_t kBlock = Format::Layout::kBlock;
  ActivationBlock<kColumns> block;
  RUVLTRA_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const size_t begin = (c0 + static_cast<size_t>(c)) * k + b * kBlock;
    block.q[c] = a.q + begin;
    block.sum16[c] = a.sum16 + (Format::kHasScales ? begin / 16 : 0);
    block.sum32[c] = a.sum32 + begin / 32;
    block.d[c] = a.d + begin / kBlock;
  }
  return block;
}

// A choice of MatmulTuning: its value, or the kernel's own.
RUVLTRA_INLINE size_t chosen(uint32_t choice, size_t own) { return choice != 0 ? choice : own; }
RUVLTRA_INLINE size_t at_most(size_t value, size_t limit) { return value < limit ? value : limit; }

// Calls columns(c0, n) for groups of nearly equal size, at most `limit` columns each.
template <class F>
RUVLTRA_INLINE void for_balanced_groups(size_t n_cols, size_t limit, F&& columns) {
  const size_t n_groups = (n_cols + limit - 1) / limit;
  for (size_t group = 0, c = 0; group < n_groups; ++group) {
    const size_t n = n_cols / n_groups + (group < n_cols % n_groups ? 1 : 0);
    columns(c, n);
    c += n;
  }
}

// Calls f.operator()<n>() for kFrom <= n <= kTo.
template <int kFrom, int kTo, class F>
RUVLTRA_INLINE void with_columns(size_t n, F&& f) {
  if constexpr (kFrom == kTo) {
    f.template operator()<kTo>();
  } else {
    if (n == static_cast<size_t>(kFrom)) {
      f.template operator()<kFrom>();
    } else {
      with_columns<kFrom + 1, kTo>(n, f);
    }
  }
}

}  // namespace
}  // namespace ruvltra
