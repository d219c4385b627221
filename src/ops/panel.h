// Load-time repacking of a weight matrix into 8-row panels (docs/kernels.md section 3).
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "base/aligned.h"
#include "kernels/matmul.h"
#include "ops/context.h"
#include "quant/format.h"

namespace ruvltra {

WeightKind weight_kind(TensorType type);

// A weight matrix (n_rows, k) as panels; its values are immutable after packing.
class PackedMatrix {
 public:
  // Delivers the file bytes of rows [row_begin, row_begin + n_rows) into out; called from several threads.
  using RowReader = std::function<Result<void>(size_t row_begin, size_t n_rows, std::span<uint8_t> out)>;

  // Reads and repacks in parallel, a few panels at a time, never holding the file form whole. Scales must be
  // finite (weights.not_finite names `name` and the row). *Requires*: k is a multiple of the format's block.
  static Result<PackedMatrix> pack(const Ctx& ctx, std::string_view name, TensorType type, size_t n_rows,
                                   size_t k, const RowReader& read);

  TensorType type() const { return type_; }
  size_t n_rows() const { return n_rows_; }
  size_t k() const { return k_; }
  size_t n_panels() const { return (n_rows_ + kPanelRows - 1) / kPanelRows; }
  size_t panel_bytes() const { return panel_bytes_; }
  size_t n_bytes() const { return data_.size(); }
  std::span<const uint8_t> bytes() const { return data_.span(); }
  PanelView view() const { return view_from(0); }
  // Panels from first_panel on, counted from 0 again.
  PanelView view_from(size_t first_panel) const {
    return {data_.data() + first_panel * panel_bytes_, panel_bytes_, n_rows_ - first_panel * kPanelRows, k_};
  }

  // How kernels walk it; changes no result (ops/autotune.h).
  const MatmulTuning& tuning() const { return tuning_; }
  void set_tuning(const MatmulTuning& tuning) { tuning_ = tuning; }

  // Row `row` decoded to k floats: the same bits as decoding the file's row.
  void decode_row(size_t row, float* out) const;

 private:
  TensorType type_ = TensorType::kF32;
  size_t n_rows_ = 0;
  size_t k_ = 0;
  size_t panel_bytes_ = 0;
  DecodeRowFn decode_row_ = nullptr;
  MatmulTuning tuning_;
  AlignedBuffer<uint8_t> data_;
};

}  // namespace ruvltra
