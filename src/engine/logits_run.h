// One sequence at a time through a model, every row of logits delivered: the tool of evaluations.
#pragma once

#include <span>

#include "base/aligned.h"
#include "model/kv_pool.h"
#include "model/qwen2.h"
#include "model/step.h"
#include "model/weights.h"
#include "ops/context.h"

namespace ruvltra {

class LogitsRun {
 public:
  struct Options {
    size_t max_positions = 0;  // longest sequence
    KvType kv_type = KvType::kF16;
    bool exact = false;  // f32 activations instead of int8
  };
  // *Requires*: ctx.pool and weights outlive the run.
  static Result<LogitsRun> make(const Ctx& ctx, const Weights& weights, const Options& options);

  const Ctx& ctx() const { return ctx_; }
  const ModelShape& shape() const { return weights_->shape; }
  size_t n_tokens() const { return sequence_.n_tokens(); }
  size_t max_positions() const { return sequence_.capacity(); }
  void truncate(size_t n_tokens) { sequence_.truncate(n_tokens); }

  // Appends tokens whose logits are not needed.
  void skip(std::span<const TokenId> tokens);
  // Appends the first tokens of `tokens`, as many as a step takes (at least one), and gives their logits
  // (n, n_vocab), valid until the next call. *Requires*: tokens fit behind n_tokens().
  std::span<const float> append(std::span<const TokenId> tokens);

 private:
  LogitsRun(const Ctx& ctx, const Weights& weights, KvPool kv, Workspace workspace,
            AlignedBuffer<float> logits);
  Ctx ctx_;
  const Weights* weights_;
  KvPool kv_;
  Workspace workspace_;
  AlignedBuffer<float> logits_;
  SingleSequence sequence_;
};

}  // namespace ruvltra
