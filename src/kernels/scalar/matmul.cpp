// Matrix products, the definition: exactly the canonical arithmetic of docs/kernels.md section 1.
#include "kernels/matmul.h"

#include <math.h>

#include "base/num.h"
#include "kernels/panel_layout.h"

namespace ruvltra {
namespace {

// Columns that share one unpacking of a weight block.
constexpr size_t kColumnGroup = 16;

// One block of one row, offsets removed: weight i = d * scale[i / 16] * q[i] - dmin * min[i / 32] (+ m in
// Q5_1). Formats without scales have scale 1; formats without mins leave dmin, min or m unset.
struct RowBlock {
  float d;
  float dmin;
  float m;
  int8_t q[256];
  int scale[16];
  int min[8];
};

// K-group g of row `lane` starts here in a 32-byte vector.
constexpr size_t kGroups = 8;

void unpack_sub_block(const Nibbles& sub, size_t lane, int offset, int8_t* q) {
  for (size_t i = 0; i < 4 * kGroups; ++i) {
    const size_t group = i / 4;
    const uint8_t byte = sub.nibbles[group % 4][4 * lane + i % 4];
    q[i] = static_cast<int8_t>((group < 4 ? byte & 15 : byte >> 4) - offset);
  }
}

void unpack_sub_block(const NibblesFifths& sub, size_t lane, int offset, int8_t* q) {
  for (size_t i = 0; i < 4 * kGroups; ++i) {
    const size_t group = i / 4;
    const uint8_t byte = sub.nibbles[group % 4][4 * lane + i % 4];
    const int high = (sub.fifths[4 * lane + i % 4] >> group & 1) * 16;
    q[i] = static_cast<int8_t>((group < 4 ? byte & 15 : byte >> 4) + high - offset);
  }
}

void unpack_sub_block(const NibblesPairs& sub, size_t lane, int offset, int8_t* q) {
  for (size_t i = 0; i < 4 * kGroups; ++i) {
    const size_t group = i / 4;
    const uint8_t byte = sub.nibbles[group % 4][4 * lane + i % 4];
    const size_t shift = 2 * (group % 2 + group / 4 * 2);
    const int high = (sub.pairs[group % 4 / 2][4 * lane + i % 4] >> shift & 3) * 16;
    q[i] = static_cast<int8_t>((group < 4 ? byte & 15 : byte >> 4) + high - offset);
  }
}

void unpack_sub_block(const Bytes& sub, size_t lane, int offset, int8_t* q) {
  for (size_t i = 0; i < 4 * kGroups; ++i)
    q[i] = static_cast<int8_t>(sub.bytes[i / 4][4 * lane + i % 4] - offset);
}

void unpack_header(const HeaderScalesMins& header, size_t lane, RowBlock& block) {
  block.d = f16_to_f32(header.d[lane]);
  block.dmin = f16_to_f32(header.dmin[lane]);
  for (size_t j = 0; j < 8; ++j) {
    block.scale[2 * j] = block.scale[2 * j + 1] = header.scale[j][lane];
    block.min[j] = header.min[j / 2][lane][j % 2];
  }
}

void unpack_header(const HeaderScales16& header, size_t lane, RowBlock& block) {
  block.d = f16_to_f32(header.d[lane]);
  for (size_t j = 0; j < 16; ++j) block.scale[j] = header.scale[j / 2][lane][j % 2];
}

void unpack_header(const HeaderD& header, size_t lane, RowBlock& block) {
  block.d = f16_to_f32(header.d[lane]);
  block.scale[0] = block.scale[1] = 1;
}

void unpack_header(const HeaderDM& header, size_t lane, RowBlock& block) {
  block.d = f16_to_f32(header.d[lane]);
  block.m = f16_to_f32(header.m[lane]);
  block.scale[0] = block.scale[1] = 1;
}

// What distinguishes the quantised formats beyond their layout.
template <class LayoutType, int kOffsetValue>
struct QuantFormat {
  using Layout = LayoutType;
  static constexpr int kOffset = kOffsetValue;
  static constexpr bool kHasMins = __is_same(typename Layout::Header, HeaderScalesMins);
  static constexpr bool kHasM = __is_same(typename Layout::Header, HeaderDM);
};
using Q4_0 = QuantFormat<LayoutQ4_0, 8>;
using Q5_0 = QuantFormat<LayoutQ5_0, 16>;
using Q5_1 = QuantFormat<LayoutQ5_1, 0>;
using Q8_0 = QuantFormat<LayoutQ8_0, 0>;
using Q4_K = QuantFormat<LayoutQ4_K, 0>;
using Q5_K = QuantFormat<LayoutQ5_K, 0>;
using Q6_K = QuantFormat<LayoutQ6_K, 32>;

template <class Format>
void unpack(const uint8_t* panel, size_t k, size_t b, size_t lane, RowBlock& block) {
  using Layout = typename Format::Layout;
  const void* headers = panel;
  const void* quants = panel + quant_offset(block_of<Layout>(), k);
  unpack_header(static_cast<const typename Layout::Header*>(headers)[b], lane, block);
  for (size_t s = 0; s < Layout::kSubBlocks; ++s) {
    unpack_sub_block(static_cast<const typename Layout::Quants*>(quants)[b].sub[s], lane, Format::kOffset,
                     block.q + 32 * s);
  }
}

// Every product is exact in f32, so at most the last step rounds.
template <class Format>
float weight(const RowBlock& block, size_t i) {
  const float scaled = block.d * static_cast<float>(block.scale[i / 16]) * static_cast<float>(block.q[i]);
  if constexpr (Format::kHasMins) return scaled - block.dmin * static_cast<float>(block.min[i / 32]);
  if constexpr (Format::kHasM) return scaled + block.m;
  return scaled;
}

// acc plus the product of one weight block and block b of column c.
template <class Format>
float add_block(const RowBlock& w, const ActivationView& a, size_t k, size_t c, size_t b, float acc) {
  constexpr size_t kBlock = Format::Layout::kBlock;
  const int8_t* q = a.q + c * k + b * kBlock;
  const int16_t* sum32 = a.sum32 + (c * k + b * kBlock) / 32;
  const float d = a.d[c * (k / kBlock) + b];
  int32_t isum = 0;
  for (size_t j = 0; j < kBlock / 16; ++j) {
    int32_t dot = 0;
    for (size_t i = 16 * j; i < 16 * j + 16; ++i) dot += w.q[i] * q[i];
    isum += w.scale[j] * dot;
  }
  acc = fmaf(d * w.d, static_cast<float>(isum), acc);
  if constexpr (Format::kHasMins) {
    int32_t msum = 0;
    for (size_t j = 0; j < kBlock / 32; ++j) msum += w.min[j] * sum32[j];
    acc = fmaf(-(d * w.dmin), static_cast<float>(msum), acc);
  }
  if constexpr (Format::kHasM) acc = fmaf(d * w.m, static_cast<float>(sum32[0]), acc);
  return acc;
}

template <class Format>
float add_block_exact(const RowBlock& w, const ActivationView& a, size_t k, size_t c, size_t b, float acc) {
  constexpr size_t kBlock = Format::Layout::kBlock;
  const float* x = a.x + c * k + b * kBlock;
  for (size_t i = 0; i < kBlock; ++i) acc = fmaf(weight<Format>(w, i), x[i], acc);
  return acc;
}

void store(const MatmulArgs& args, size_t row, size_t c, float acc) {
  const float value = args.bias != nullptr ? acc + args.bias[row] : acc;
  float& y = args.y[c * args.y_stride + row];
  y = args.accumulate ? y + value : value;
}

size_t row_end(const MatmulArgs& args) {
  const size_t end = args.panel_end * kPanelRows;
  return end < args.w.n_rows ? end : args.w.n_rows;
}

template <class Format, bool kExact>
void matmul_quants(const MatmulArgs& args) {
  const size_t k = args.w.k;
  for (size_t row = args.panel_begin * kPanelRows; row < row_end(args); ++row) {
    const uint8_t* panel = args.w.data + row / kPanelRows * args.w.panel_bytes;
    for (size_t c0 = 0; c0 < args.a.n_cols; c0 += kColumnGroup) {
      const size_t n = args.a.n_cols - c0 < kColumnGroup ? args.a.n_cols - c0 : kColumnGroup;
      float acc[kColumnGroup] = {};
      for (size_t b = 0; b < k / Format::Layout::kBlock; ++b) {
        RowBlock block;
        unpack<Format>(panel, k, b, row % kPanelRows, block);
        for (size_t c = 0; c < n; ++c) {
          acc[c] = kExact ? add_block_exact<Format>(block, args.a, k, c0 + c, b, acc[c])
                          : add_block<Format>(block, args.a, k, c0 + c, b, acc[c]);
        }
      }
      for (size_t c = 0; c < n; ++c) store(args, row, c0 + c, acc[c]);
    }
  }
}

template <class Format>
void decode_quants(const PanelView& w, size_t row, float* out) {
  constexpr size_t kBlock = Format::Layout::kBlock;
  const uint8_t* panel = w.data + row / kPanelRows * w.panel_bytes;
  for (size_t b = 0; b < w.k / kBlock; ++b) {
    RowBlock block;
    unpack<Format>(panel, w.k, b, row % kPanelRows, block);
    for (size_t i = 0; i < kBlock; ++i) out[b * kBlock + i] = weight<Format>(block, i);
  }
}

struct F32 {
  using Layout = LayoutF32;
  static float convert(float value) { return value; }
};
struct F16 {
  using Layout = LayoutF16;
  static float convert(uint16_t value) { return f16_to_f32(value); }
};
struct BF16 {
  using Layout = LayoutBF16;
  static float convert(uint16_t value) { return bf16_to_f32(value); }
};

template <class Format>
const typename Format::Layout::Quants* float_panel(const PanelView& w, size_t row) {
  const void* data = w.data + row / kPanelRows * w.panel_bytes;
  return static_cast<const typename Format::Layout::Quants*>(data);
}

template <class Format>
void matmul_floats(const MatmulArgs& args) {
  const size_t k = args.w.k;
  for (size_t row = args.panel_begin * kPanelRows; row < row_end(args); ++row) {
    const auto* panel = float_panel<Format>(args.w, row);
    for (size_t c = 0; c < args.a.n_cols; ++c) {
      float acc = 0;
      for (size_t i = 0; i < k; ++i) {
        acc = fmaf(Format::convert(panel[i].rows[row % kPanelRows]), args.a.x[c * k + i], acc);
      }
      store(args, row, c, acc);
    }
  }
}

template <class Format>
void decode_floats(const PanelView& w, size_t row, float* out) {
  const auto* panel = float_panel<Format>(w, row);
  for (size_t i = 0; i < w.k; ++i) out[i] = Format::convert(panel[i].rows[row % kPanelRows]);
}

template <class Format>
void fill_quants(MatmulKernels& kernels, WeightKind kind) {
  const auto index = static_cast<size_t>(kind);
  kernels.quantized[index] = matmul_quants<Format, false>;
  kernels.exact[index] = matmul_quants<Format, true>;
  kernels.decode_row[index] = decode_quants<Format>;
}

template <class Format>
void fill_floats(MatmulKernels& kernels, WeightKind kind) {
  const auto index = static_cast<size_t>(kind);
  kernels.quantized[index] = matmul_floats<Format>;
  kernels.exact[index] = matmul_floats<Format>;
  kernels.decode_row[index] = decode_floats<Format>;
}

}  // namespace

void fill_scalar_matmul(MatmulKernels& kernels) {
  fill_quants<Q4_0>(kernels, WeightKind::kQ4_0);
  fill_quants<Q5_0>(kernels, WeightKind::kQ5_0);
  fill_quants<Q5_1>(kernels, WeightKind::kQ5_1);
  fill_quants<Q8_0>(kernels, WeightKind::kQ8_0);
  fill_quants<Q4_K>(kernels, WeightKind::kQ4_K);
  fill_quants<Q5_K>(kernels, WeightKind::kQ5_K);
  fill_quants<Q6_K>(kernels, WeightKind::kQ6_K);
  fill_floats<F32>(kernels, WeightKind::kF32);
  fill_floats<F16>(kernels, WeightKind::kF16);
  fill_floats<BF16>(kernels, WeightKind::kBF16);
}

}  // namespace ruvltra
