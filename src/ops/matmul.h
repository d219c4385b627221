// Activation quantisation and matrix products, spread over the thread pool. The bits of a result depend on
// the weight row and the activation row alone (docs/kernels.md section 1).
#pragma once

#include <cstddef>
#include <span>

#include "base/aligned.h"
#include "ops/context.h"
#include "ops/panel.h"

namespace ruvltra {

// What a weight format multiplies with.
enum class ActivationFormat { kA256, kA32, kF32 };
// Values that share a scale: 256, 32, 1.
size_t block_elements(ActivationFormat format);
// K-quants -> A256, 32-blocks -> A32, float types -> F32; everything -> F32 when `exact`.
ActivationFormat activation_format(TensorType weight, bool exact);

// The formats that the products of one input need.
struct ActivationFormats {
  bool a256 = false;
  bool a32 = false;
  void add(ActivationFormat format) {
    a256 |= format == ActivationFormat::kA256;
    a32 |= format == ActivationFormat::kA32;
  }
};

// Reusable room for the activations of up to max_tokens rows of up to max_k values in every format.
// Quantising one row set in one format keeps the others, so matrices of different formats can share an input.
class Activations {
 public:
  static Result<Activations> make(size_t max_tokens, size_t max_k);
  // Upper bound of the memory per input value: int8 values, scales and block sums in two formats.
  static constexpr uint64_t bytes_per_value() { return 3; }

  // Sets the current rows x (n_tokens, k), f32, row stride k. The memory of x must stay until the last matmul
  // on it.
  void set(const float* x, size_t n_tokens, size_t k);
  // The same for rows that do not exist yet: make_row(t) writes row t of x, which is then quantised while the
  // cache holds it.
  template <class MakeRow>
  void fill(const Ctx& ctx, const float* x, size_t n_tokens, size_t k, ActivationFormats formats,
            const MakeRow& make_row);
  // Quantises the current rows in `format` unless that was done already.
  void prepare(const Ctx& ctx, ActivationFormat format);
  // Piece by piece instead: quantises values [begin, end) of row t, from any thread, block by block; when all
  // are done, mark_prepared. *Requires*: begin is the start of a block, end the end of one.
  void quantize(const KernelTable& kernels, ActivationFormat format, size_t t, size_t begin, size_t end);
  void mark_prepared(ActivationFormat format);
  // *Requires*: prepared in `format`.
  ActivationView view(ActivationFormat format) const;
  size_t n_tokens() const { return n_tokens_; }
  size_t k() const { return k_; }

 private:
  // Up to this many rows are made by the caller alone: cheaper than waking the others.
  static constexpr size_t kSerialRows = 4;

  const float* x_ = nullptr;
  size_t n_tokens_ = 0;
  size_t k_ = 0;
  size_t max_tokens_ = 0;
  size_t max_k_ = 0;
  bool ready_a256_ = false;
  bool ready_a32_ = false;
  AlignedBuffer<int8_t> q256_, q32_;
  AlignedBuffer<float> d256_, d32_;
  AlignedBuffer<int16_t> sum16_256_, sum32_256_, sum32_32_;
};

// One product y = W a (+ bias), or y += W a.
struct MatmulTask {
  const PackedMatrix* w = nullptr;
  const float* bias = nullptr;  // (n_rows) or null
  bool accumulate = false;
  float* y = nullptr;  // (n_tokens, y_stride), element (t, row) at y[t * y_stride + row - first_row]
  size_t y_stride = 0;
  size_t first_row = 0;  // of a product that is wanted in part: a multiple of kPanelRows
};

// Rows of panels [panel_begin, panel_end) of one product, on the calling thread. *Requires*: the activations
// are prepared; no panel before task.first_row.
void matmul_panels(const Ctx& ctx, const Activations& activations, const MatmulTask& task, size_t panel_begin,
                   size_t panel_end, bool exact);

// Runs several products of the same activations as one parallel loop (q, k, v; gate and up). Prepares what is
// needed.
void matmul(const Ctx& ctx, Activations& activations, std::span<const MatmulTask> tasks, bool exact);

template <class MakeRow>
void Activations::fill(const Ctx& ctx, const float* x, size_t n_tokens, size_t k, ActivationFormats formats,
                       const MakeRow& make_row) {
  set(x, n_tokens, k);
  const auto make = [&](size_t t, int) {
    make_row(t);
    if (formats.a256) quantize(*ctx.kernels, ActivationFormat::kA256, t, 0, k);
    if (formats.a32) quantize(*ctx.kernels, ActivationFormat::kA32, t, 0, k);
  };
  if (n_tokens <= kSerialRows) {
    for (size_t t = 0; t < n_tokens; ++t) make(t, 0);
  } else {
    ctx.pool->parallel_for(n_tokens, make);
  }
  if (formats.a256) mark_prepared(ActivationFormat::kA256);
  if (formats.a32) mark_prepared(ActivationFormat::kA32);
}

}  // namespace ruvltra
