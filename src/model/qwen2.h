// The Qwen2 forward pass (docs/model.md): pre-norm blocks of grouped-query attention with rotary positions
// and SwiGLU.
#pragma once

#include "model/kv_pool.h"
#include "model/step.h"
#include "model/weights.h"
#include "ops/attention.h"
#include "ops/context.h"
#include "ops/gated.h"
#include "ops/greedy.h"
#include "ops/matmul.h"
#include "ops/qkv.h"
#include "ops/rope.h"

namespace ruvltra {

// Scratch memory of a forward pass, taken once: a step allocates nothing. Not shared between threads.
class Workspace {
 public:
  struct Options {
    size_t max_tokens = 256;   // rows per step
    size_t max_positions = 0;  // longest sequence; 0 = the model's context length
    bool exact = false;        // f32 activations instead of int8 (with KvType::kF32: the oracle path)
  };
  static Result<Workspace> make(const ModelShape& shape, const Options& options, int n_threads);
  static uint64_t bytes_needed(const ModelShape& shape, const Options& options, int n_threads);

  const Options& options() const { return options_; }

 private:
  friend class Forward;
  Options options_;
  AlignedBuffer<float> x_;       // (max_tokens, d_model) residual stream
  AlignedBuffer<float> normed_;  // (max_tokens, d_model)
  AlignedBuffer<float> q_;       // (max_tokens, d_q)
  AlignedBuffer<float> k_, v_;   // (max_tokens, d_kv)
  AlignedBuffer<float> mixed_;   // (max_tokens, d_q) attention output
  GatedUnits gated_;
  GreedyHead greedy_;
  Activations activations_;
  RopeTable rope_;
  AttentionScratch attention_;
  std::vector<AttentionSequence> sequences_;  // of the current step
  std::vector<size_t> adapted_;               // wanted rows with an adapter
  AlignedBuffer<float> features_;             // (max_tokens, kMaxFeatures) of adapted rows
  AlignedBuffer<float> delta_;                // (d_model)
};

// Runs one step: writes K and V of every row into the pool, then fills `out`. The bits of a row depend on the
// tokens of its own sequence up to its position, and on nothing else: not on chunking, neighbours or threads.
// *Requires*: step rows <= max_tokens, and the requirements of StepInput.
void forward(const Ctx& ctx, const Weights& weights, KvPool& kv, Workspace& workspace, const StepInput& in,
             const StepOutput& out);

}  // namespace ruvltra
