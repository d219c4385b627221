#include "ops/matmul.h"

#include <algorithm>

#include "base/check.h"

namespace ruvltra {
namespace {

constexpr size_t kGroupBytes = size_t{96} << 10;  // panel bytes a thread takes at once

// Panels handed out as one unit of work: enough bytes to stream and a multiple of the kernels' tiles of 4
// panels, but for small matrices enough units for all threads.
size_t panels_per_group(const PackedMatrix& w, size_t n_panels, int n_threads) {
  const size_t by_bytes = std::max<size_t>(4, kGroupBytes / std::max<size_t>(1, w.panel_bytes()));
  const size_t by_threads = std::max<size_t>(1, n_panels / (4 * static_cast<size_t>(n_threads)));
  const size_t size = std::min(by_bytes, by_threads);
  return size > 4 ? size / 4 * 4 : size;
}

size_t group_count(const MatmulTask& task, int n_threads) {
  const size_t n_panels = task.w->n_panels();
  const size_t size = panels_per_group(*task.w, n_panels, n_threads);
  return (n_panels + size - 1) / size;
}

}  // namespace

size_t block_elements(ActivationFormat format) {
  switch (format) {
    case ActivationFormat::kA256:
      return 256;
    case ActivationFormat::kA32:
      return 32;
    case ActivationFormat::kF32:
      break;
  }
  return 1;
}

ActivationFormat activation_format(TensorType weight, bool exact) {
  if (exact) return ActivationFormat::kF32;
  switch (format_of(weight).block_elements) {
    case 256:
      return ActivationFormat::kA256;
    case 32:
      return ActivationFormat::kA32;
    default:
      return ActivationFormat::kF32;
  }
}

Result<Activations> Activations::make(size_t max_tokens, size_t max_k) {
  Activations a;
  a.max_tokens_ = max_tokens;
  a.max_k_ = max_k;
  size_t n;
  if (__builtin_mul_overflow(max_tokens, max_k, &n)) {
    return fail(ErrorKind::kMemory, "memory.exhausted",
                "activations: {} rows of {} values do not fit in memory", max_tokens, max_k);
  }
  ASSIGN_OR_RETURN(a.q256_, AlignedBuffer<int8_t>::make(n));
  ASSIGN_OR_RETURN(a.q32_, AlignedBuffer<int8_t>::make(n));
  ASSIGN_OR_RETURN(a.d256_, AlignedBuffer<float>::make(n / 256));
  ASSIGN_OR_RETURN(a.d32_, AlignedBuffer<float>::make(n / 32));
  ASSIGN_OR_RETURN(a.sum16_256_, AlignedBuffer<int16_t>::make(n / 16));
  ASSIGN_OR_RETURN(a.sum32_256_, AlignedBuffer<int16_t>::make(n / 32));
  ASSIGN_OR_RETURN(a.sum32_32_, AlignedBuffer<int16_t>::make(n / 32));
  return a;
}

void Activations::set(const float* x, size_t n_tokens, size_t k) {
  CHECK(n_tokens <= max_tokens_ && k <= max_k_);
  x_ = x;
  n_tokens_ = n_tokens;
  k_ = k;
  ready_a256_ = ready_a32_ = false;
}

void Activations::quantize(const KernelTable& kernels, ActivationFormat format, size_t t, size_t begin,
                           size_t end) {
  const size_t at = t * k_ + begin;
  const size_t n = end - begin;
  switch (format) {
    case ActivationFormat::kA256:
      kernels.activations.quantize_a256(x_ + at, n, q256_.data() + at, d256_.data() + at / 256,
                                        sum16_256_.data() + at / 16, sum32_256_.data() + at / 32);
      break;
    case ActivationFormat::kA32:
      kernels.activations.quantize_a32(x_ + at, n, q32_.data() + at, d32_.data() + at / 32,
                                       sum32_32_.data() + at / 32);
      break;
    case ActivationFormat::kF32:
      break;
  }
}

void Activations::mark_prepared(ActivationFormat format) {
  CHECK(k_ % block_elements(format) == 0);
  ready_a256_ |= format == ActivationFormat::kA256;
  ready_a32_ |= format == ActivationFormat::kA32;
}

void Activations::prepare(const Ctx& ctx, ActivationFormat format) {
  if (format == ActivationFormat::kF32) return;
  if (format == ActivationFormat::kA256 ? ready_a256_ : ready_a32_) return;
  const auto quantize_row = [&](size_t t, int) { quantize(*ctx.kernels, format, t, 0, k_); };
  if (n_tokens_ <= kSerialRows) {
    for (size_t t = 0; t < n_tokens_; ++t) quantize_row(t, 0);
  } else {
    ctx.pool->parallel_for(n_tokens_, quantize_row);
  }
  mark_prepared(format);
}

ActivationView Activations::view(ActivationFormat format) const {
  ActivationView view;
  view.n_cols = n_tokens_;
  switch (format) {
    case ActivationFormat::kA256:
      DCHECK(ready_a256_);
      view.q = q256_.data();
      view.d = d256_.data();
      view.sum16 = sum16_256_.data();
      view.sum32 = sum32_256_.data();
      break;
    case ActivationFormat::kA32:
      DCHECK(ready_a32_);
      view.q = q32_.data();
      view.d = d32_.data();
      view.sum32 = sum32_32_.data();
      break;
    case ActivationFormat::kF32:
      view.x = x_;
      break;
  }
  return view;
}

void matmul_panels(const Ctx& ctx, const Activations& activations, const MatmulTask& task, size_t panel_begin,
                   size_t panel_end, bool exact) {
  const PackedMatrix& w = *task.w;
  MatmulArgs args;
  const size_t first_panel = task.first_row / kPanelRows;
  args.w = w.view_from(first_panel);
  args.panel_begin = panel_begin - first_panel;
  args.panel_end = panel_end - first_panel;
  args.a = activations.view(activation_format(w.type(), exact));
  args.bias = task.bias != nullptr ? task.bias + task.first_row : nullptr;
  args.accumulate = task.accumulate;
  args.y = task.y;
  args.y_stride = task.y_stride;
  args.tuning = w.tuning();
  const MatmulKernels& kernels = ctx.kernels->matmul;
  const WeightKind kind = weight_kind(w.type());
  const MatmulFn multiply =
      exact ? kernels.exact[static_cast<size_t>(kind)] : quantized_kernel(kernels, kind, args.a.n_cols);
  multiply(args);
}

void matmul(const Ctx& ctx, Activations& activations, std::span<const MatmulTask> tasks, bool exact) {
  const int n_threads = ctx.pool->n_threads();
  size_t n_groups = 0;
  for (const MatmulTask& task : tasks) {
    CHECK(task.w->k() == activations.k());
    activations.prepare(ctx, activation_format(task.w->type(), exact));
    n_groups += group_count(task, n_threads);
  }
  ctx.pool->parallel_for(n_groups, [&](size_t group, int) {
    const MatmulTask* task = tasks.data();
    for (size_t count; group >= (count = group_count(*task, n_threads)); ++task) group -= count;
    const size_t n_panels = task->w->n_panels();
    const size_t size = panels_per_group(*task->w, n_panels, n_threads);
    const size_t begin = group * size;
    matmul_panels(ctx, activations, *task, begin, std::min(n_panels, begin + size), exact);
  });
}

}  // namespace ruvltra
