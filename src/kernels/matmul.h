// Matrix times activation columns. Weights are repacked at load into panels of 8 rows (docs/kernels.md
// section 3).
#pragma once

#include <cstddef>
#include <cstdint>

namespace ruvltra {

inline constexpr size_t kPanelRows = 8;

// A repacked matrix (n_rows, k): panel p holds rows 8p..8p+7 (zero rows pad the last one) at data + p *
// panel_bytes.
struct PanelView {
  const uint8_t* data = nullptr;  // 64-byte aligned
  size_t panel_bytes = 0;
  size_t n_rows = 0;
  size_t k = 0;
};

// n_cols activation rows ("columns" of the product). Which arrays are set depends on the weight format.
struct ActivationView {
  const int8_t* q = nullptr;       // (n_cols, k)
  const float* d = nullptr;        // (n_cols, k / block); block is 256 for K-quants, 32 for the other quants
  const int16_t* sum16 = nullptr;  // (n_cols, k / 16), block sums of q; K-quants only
  const int16_t* sum32 = nullptr;  // (n_cols, k / 32)
  const float* x = nullptr;        // (n_cols, k) f32; F32, F16, BF16 weights, and every format under --exact
  size_t n_cols = 0;
};

// How a matrix kernel walks its operands. No choice changes a bit of the result; 0 leaves it to the kernel,
// which also rounds to what its tiles allow.
struct MatmulTuning {
  uint32_t unpacked_from = 0;   // columns from which panels are unpacked to bytes before they are multiplied
  uint32_t column_block = 0;    // columns multiplied per pass over the panels, at most kMaxColumnBlock
  uint32_t chunk = 0;           // k unpacked at once, at most kMaxChunk
  uint32_t prefetch_bytes = 0;  // how far ahead packed panels are asked for
};
inline constexpr uint32_t kMaxColumnBlock = 256;
inline constexpr uint32_t kMaxChunk = 2048;

// What is worth trying on a machine, each field on its own; kernel_check runs every value.
struct MatmulTuningChoices {
  uint32_t unpacked_from[6] = {8, 16, 24, 32, 48, 96};
  uint32_t column_block[4] = {64, 96, 128, 256};
  uint32_t chunk[3] = {512, 1024, 2048};
  uint32_t prefetch_bytes[4] = {2048, 4096, 8192, 16384};
};

struct MatmulArgs {
  PanelView w;
  size_t panel_begin = 0;
  size_t panel_end = 0;
  ActivationView a;
  const float* bias = nullptr;  // (n_rows) or null; y = acc + bias
  bool accumulate = false;      // y = y + (acc + bias)
  float* y = nullptr;           // (n_cols, y_stride); element (c, r) at y[c * y_stride + r]
  size_t y_stride = 0;
  MatmulTuning tuning;
};

// Writes y for rows of panels [panel_begin, panel_end), clipped to n_rows, for all columns. The value of an
// element depends on its weight row and activation column only, never on n_cols or the panel range.
using MatmulFn = void (*)(const MatmulArgs& args);

// Row `row` of w as k floats, bit-equal to decoding the file's row.
using DecodeRowFn = void (*)(const PanelView& w, size_t row, float* out);

// Index of a format in the kernel tables.
enum class WeightKind { kF32, kF16, kBF16, kQ4_0, kQ5_0, kQ5_1, kQ8_0, kQ4_K, kQ5_K, kQ6_K, kCount };

struct MatmulKernels {
  MatmulFn quantized[static_cast<size_t>(WeightKind::kCount)] =
      {};  // int8 activations (f32 for the float types)
  // The same for one column, where a rung has something better than `quantized`; null where it has not.
  MatmulFn one_column[static_cast<size_t>(WeightKind::kCount)] = {};
  MatmulFn exact[static_cast<size_t>(WeightKind::kCount)] =
      {};  // f32 activations, one fma chain in ascending k
  DecodeRowFn decode_row[static_cast<size_t>(WeightKind::kCount)] = {};
};

static inline MatmulFn quantized_kernel(const MatmulKernels& kernels, WeightKind kind, size_t n_cols) {
  const MatmulFn one_column = kernels.one_column[static_cast<size_t>(kind)];
  return n_cols == 1 && one_column != nullptr ? one_column : kernels.quantized[static_cast<size_t>(kind)];
}

}  // namespace ruvltra
