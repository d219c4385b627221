// Memory layout of repacked weights: panels of 8 rows (docs/kernels.md section 3).
//
// Panel = header strip (one Header per block), then quant strip (one Quants per block), each padded to 64
// bytes. A 32-byte vector holds 8 lanes of 4 bytes; lane = row, and its bytes are 4 consecutive k (a
// "k-group"). A sub-block is 32 k = k-groups 0..7:
//   nibbles[v]: low nibble = k-group v, high nibble = k-group v + 4
//   fifths:     bit g of a byte = fifth bit of its weight in k-group g
//   pairs[h]:   2-bit fields, from bit 0: upper bits of k-groups 2h, 2h + 1, 2h + 4, 2h + 5
// Scales and mins are stored as bytes, ready for use; d, dmin and m are f16 bits. Floats lie as [k][8 rows].
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/matmul.h"

namespace ruvltra {

struct Nibbles {
  uint8_t nibbles[4][32];
};
struct NibblesFifths {
  uint8_t nibbles[4][32];
  uint8_t fifths[32];
};
struct NibblesPairs {
  uint8_t nibbles[4][32];
  uint8_t pairs[2][32];
};
struct Bytes {
  int8_t bytes[8][32];  // [k-group]
};

struct HeaderD {
  uint16_t d[8];
};
struct HeaderDM {
  uint16_t d[8];
  uint16_t m[8];
};
struct HeaderScalesMins {
  uint16_t d[8];
  uint16_t dmin[8];
  uint8_t scale[8][8];   // [sub-block][row]
  uint8_t min[4][8][2];  // [pair of sub-blocks][row][which]
};
struct HeaderScales16 {
  uint16_t d[8];
  int8_t scale[8][8][2];  // [sub-block][row][half]
};

template <class HeaderType, class SubBlockType, size_t kSubBlockCount>
struct QuantLayout {
  using Header = HeaderType;
  using SubBlock = SubBlockType;
  struct Quants {
    SubBlock sub[kSubBlockCount];
  };
  static constexpr size_t kSubBlocks = kSubBlockCount;
  static constexpr size_t kBlock = 32 * kSubBlockCount;
};

template <class ElementType>
struct FloatLayout {
  using Element = ElementType;
  struct Quants {
    Element rows[8];
  };
  static constexpr size_t kBlock = 1;
};

using LayoutQ4_K = QuantLayout<HeaderScalesMins, Nibbles, 8>;
using LayoutQ5_K = QuantLayout<HeaderScalesMins, NibblesFifths, 8>;
using LayoutQ6_K = QuantLayout<HeaderScales16, NibblesPairs, 8>;
using LayoutQ8_0 = QuantLayout<HeaderD, Bytes, 1>;
using LayoutQ4_0 = QuantLayout<HeaderD, Nibbles, 1>;
using LayoutQ5_0 = QuantLayout<HeaderD, NibblesFifths, 1>;
using LayoutQ5_1 = QuantLayout<HeaderDM, NibblesFifths, 1>;
using LayoutF32 = FloatLayout<float>;
using LayoutF16 = FloatLayout<uint16_t>;
using LayoutBF16 = FloatLayout<uint16_t>;

static_assert(sizeof(HeaderScalesMins) == 160 && sizeof(LayoutQ4_K::Quants) == 1024);
static_assert(sizeof(HeaderScales16) == 144 && sizeof(LayoutQ6_K::Quants) == 1536);
static_assert(sizeof(LayoutQ5_K::Quants) == 1280 && sizeof(LayoutQ8_0::Quants) == 256);

static constexpr size_t round_up_64(size_t n_bytes) { return (n_bytes + 63) / 64 * 64; }

// Bytes per block of a panel.
struct PanelBlock {
  size_t elements;      // k per block
  size_t header_bytes;  // for 8 rows
  size_t quant_bytes;   // for 8 rows
};

template <class Layout>
static constexpr PanelBlock block_of() {
  if constexpr (Layout::kBlock == 1) {
    return {1, 0, sizeof(typename Layout::Quants)};
  } else {
    return {Layout::kBlock, sizeof(typename Layout::Header), sizeof(typename Layout::Quants)};
  }
}

static constexpr PanelBlock panel_block(WeightKind kind) {
  switch (kind) {
    case WeightKind::kF32:
      return block_of<LayoutF32>();
    case WeightKind::kF16:
      return block_of<LayoutF16>();
    case WeightKind::kBF16:
      return block_of<LayoutBF16>();
    case WeightKind::kQ4_0:
      return block_of<LayoutQ4_0>();
    case WeightKind::kQ5_0:
      return block_of<LayoutQ5_0>();
    case WeightKind::kQ5_1:
      return block_of<LayoutQ5_1>();
    case WeightKind::kQ8_0:
      return block_of<LayoutQ8_0>();
    case WeightKind::kQ4_K:
      return block_of<LayoutQ4_K>();
    case WeightKind::kQ5_K:
      return block_of<LayoutQ5_K>();
    case WeightKind::kQ6_K:
      return block_of<LayoutQ6_K>();
    case WeightKind::kCount:
      break;
  }
  return {1, 0, 0};
}

// Where the quant strip starts, and where the next panel does. *Requires*: k is a multiple of block.elements.
static constexpr size_t quant_offset(PanelBlock block, size_t k) {
  return round_up_64(k / block.elements * block.header_bytes);
}
static constexpr size_t panel_bytes(PanelBlock block, size_t k) {
  return quant_offset(block, k) + round_up_64(k / block.elements * block.quant_bytes);
}

}  // namespace ruvltra
