#include "ops/qkv.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace ruvltra {

void project_qkv(const Ctx& ctx, Activations& x, const QkvWeights& w, const RopeTable& rope,
                 const KvLayerView& kv, std::span<const KvSlot> slots, float* q, float* k, float* v,
                 bool exact) {
  const size_t d_head = kv.d_head;
  const size_t unit_rows = std::lcm(d_head, kPanelRows);  // whole heads and whole panels
  const auto n_units = [&](const PackedMatrix& matrix) {
    return (matrix.n_rows() + unit_rows - 1) / unit_rows;
  };
  for (const PackedMatrix* matrix : {w.q, w.k, w.v}) {
    CHECK(matrix->n_rows() % d_head == 0);
    x.prepare(ctx, activation_format(matrix->type(), exact));
  }
  // Multiplies the rows of some heads, then calls head_done(head, t, values) for each and every token.
  const auto project = [&](size_t unit, const PackedMatrix& matrix, const float* bias, float* y,
                           const auto& head_done) {
    const size_t y_stride = matrix.n_rows();
    const size_t row_end = std::min(matrix.n_rows(), (unit + 1) * unit_rows);
    matmul_panels(ctx, x, {.w = &matrix, .bias = bias, .y = y, .y_stride = y_stride},
                  unit * unit_rows / kPanelRows, (row_end + kPanelRows - 1) / kPanelRows, exact);
    for (size_t head = unit * unit_rows / d_head; head < row_end / d_head; ++head) {
      for (size_t t = 0; t < x.n_tokens(); ++t) head_done(head, t, y + t * y_stride + head * d_head);
    }
  };
  const RowKernels& rows = ctx.kernels->rows;
  const size_t n_q = n_units(*w.q);
  const size_t n_k = n_units(*w.k);
  ctx.pool->parallel_for(n_q + n_k + n_units(*w.v), [&](size_t task, int) {
    if (task < n_q) {
      project(task, *w.q, w.q_bias, q,
              [&](size_t, size_t t, float* values) { rows.rope(values, rope.cos(t), rope.sin(t), d_head); });
    } else if (task < n_q + n_k) {
      project(task - n_q, *w.k, w.k_bias, k, [&](size_t head, size_t t, float* values) {
        rows.rope(values, rope.cos(t), rope.sin(t), d_head);
        store_k(*ctx.kernels, kv, head, slots[t], values);
      });
    } else {
      project(task - n_q - n_k, *w.v, w.v_bias, v, [&](size_t head, size_t t, const float* values) {
        store_v(*ctx.kernels, kv, head, slots[t], values);
      });
    }
  });
}

}  // namespace ruvltra
