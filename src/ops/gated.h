// The gated units of a feed-forward block (SwiGLU; Shazeer, "GLU Variants Improve Transformer", 2020).
#pragma once

#include <atomic>
#include <memory>

#include "base/aligned.h"
#include "ops/context.h"
#include "ops/matmul.h"

namespace ruvltra {

// Memory for h = silu(W_gate x) * W_up x of up to max_tokens rows, taken once.
class GatedUnits {
 public:
  static Result<GatedUnits> make(size_t max_tokens, size_t d_ff, int n_threads);
  static uint64_t bytes_needed(size_t max_tokens, size_t d_ff, int n_threads);

  // One parallel loop: a thread multiplies the same rows of W_gate and W_up (d_ff, d_model) with x (n,
  // d_model), combines them while the cache holds them, and quantises every block of h (n, d_ff) in `format`
  // as soon as its last part is there. The result is ready for the product with W_down.
  Activations& compute(const Ctx& ctx, Activations& x, const PackedMatrix& gate, const PackedMatrix& up,
                       ActivationFormat format, bool exact);

 private:
  size_t max_tokens_ = 0;
  AlignedBuffer<float> h_;   // (max_tokens, d_ff)
  AlignedBuffer<float> up_;  // (n_threads, max_tokens, unit rows)
  Activations activations_;
  std::unique_ptr<std::atomic<uint32_t>[]> units_done_;  // per block of 256 rows of h
};

}  // namespace ruvltra
