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
// K-quants -> A256, 32-blocks -> A32, float types -> F32; everything -> F32 when `exact`.
ActivationFormat activation_format(TensorType weight, bool exact);

// Reusable room for the activations of up to max_tokens rows of up to max_k values in every format.
// Quantising one row set in one format keeps the others, so matrices of different formats can share an input.
class Activations {
 public:
  static Result<Activations> make(size_t max_tokens, size_t max_k);

  // Sets the current rows x (n_tokens, k), f32, row stride k. The memory of x must stay until the last matmul
  // on it.
  void set(const float* x, size_t n_tokens, size_t k);
  // Quantises the current rows in `format` unless that was done already.
  void prepare(const Ctx& ctx, ActivationFormat format);
  // *Requires*: prepared in `format`.
  ActivationView view(ActivationFormat format) const;
  size_t n_tokens() const { return n_tokens_; }
  size_t k() const { return k_; }

 private:
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
  float* y = nullptr;  // (n_tokens, y_stride)
  size_t y_stride = 0;
};

// Runs several products of the same activations as one parallel loop (q, k, v; gate and up). Prepares what is
// needed.
void matmul(const Ctx& ctx, Activations& activations, std::span<const MatmulTask> tasks, bool exact);

}  // namespace ruvltra
