#include "ops/gated.h"

#include <algorithm>

#include "base/check.h"

namespace ruvltra {
namespace {

// Rows of one task: few enough that threads finish together, enough for the tiles of large products.
constexpr size_t kUnitRows = 64;
constexpr size_t kUnitPanels = kUnitRows / kPanelRows;
constexpr size_t kBlockRows = 256;  // the largest block that is quantised at once
constexpr size_t kUnitsPerBlock = kBlockRows / kUnitRows;

size_t block_count(size_t d_ff) { return (d_ff + kBlockRows - 1) / kBlockRows; }

}  // namespace

Result<GatedUnits> GatedUnits::make(size_t max_tokens, size_t d_ff, int n_threads) {
  GatedUnits units;
  units.max_tokens_ = max_tokens;
  ASSIGN_OR_RETURN(units.h_, AlignedBuffer<float>::make(max_tokens * d_ff));
  ASSIGN_OR_RETURN(units.up_,
                   AlignedBuffer<float>::make(static_cast<size_t>(n_threads) * max_tokens * kUnitRows));
  ASSIGN_OR_RETURN(units.activations_, Activations::make(max_tokens, d_ff));
  units.units_done_ = std::make_unique<std::atomic<uint32_t>[]>(block_count(d_ff));
  return units;
}

uint64_t GatedUnits::bytes_needed(size_t max_tokens, size_t d_ff, int n_threads) {
  return max_tokens * (sizeof(float) * (d_ff + static_cast<uint64_t>(n_threads) * kUnitRows) +
                       Activations::bytes_per_value() * d_ff);
}

Activations& GatedUnits::compute(const Ctx& ctx, Activations& x, const PackedMatrix& gate,
                                 const PackedMatrix& up, ActivationFormat format, bool exact) {
  const size_t n_tokens = x.n_tokens();
  const size_t d_ff = gate.n_rows();
  CHECK(n_tokens <= max_tokens_ && up.n_rows() == d_ff && n_tokens * d_ff <= h_.size());
  x.prepare(ctx, activation_format(gate.type(), exact));
  x.prepare(ctx, activation_format(up.type(), exact));
  activations_.set(h_.data(), n_tokens, d_ff);
  for (size_t block = 0; block < block_count(d_ff); ++block)
    units_done_[block].store(0, std::memory_order_relaxed);

  const MatmulTask gate_task = {&gate, nullptr, false, h_.data(), d_ff};
  const size_t n_units = (d_ff + kUnitRows - 1) / kUnitRows;
  ctx.pool->parallel_for(n_units, [&](size_t unit, int thread) {
    const size_t row = unit * kUnitRows;
    const size_t n_rows = std::min(kUnitRows, d_ff - row);
    const size_t panel_end = std::min(gate.n_panels(), (unit + 1) * kUnitPanels);
    float* up_rows = up_.data() + static_cast<size_t>(thread) * max_tokens_ * kUnitRows;  // (n_tokens, 64)
    matmul_panels(ctx, x, gate_task, unit * kUnitPanels, panel_end, exact);
    matmul_panels(ctx, x, {.w = &up, .y = up_rows, .y_stride = kUnitRows, .first_row = row},
                  unit * kUnitPanels, panel_end, exact);
    for (size_t t = 0; t < n_tokens; ++t) {
      float* h = h_.data() + t * d_ff + row;
      ctx.kernels->rows.silu_mul(h, up_rows + t * kUnitRows, h, n_rows);
    }
    const size_t block = row / kBlockRows;
    const size_t units_of_block = std::min(kUnitsPerBlock, n_units - block * kUnitsPerBlock);
    if (units_done_[block].fetch_add(1, std::memory_order_acq_rel) + 1 != units_of_block) return;
    for (size_t t = 0; t < n_tokens; ++t) {
      activations_.quantize(*ctx.kernels, format, t, block * kBlockRows,
                            std::min(d_ff, (block + 1) * kBlockRows));
    }
  });
  activations_.mark_prepared(format);
  return activations_;
}

}  // namespace ruvltra
