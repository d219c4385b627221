#include "engine/logits_run.h"

#include <algorithm>

#include "base/fail.h"

namespace ruvltra {
namespace {

constexpr size_t kStepRows = 256;
constexpr size_t kLogitsBytes = size_t{64} << 20;

}  // namespace

LogitsRun::LogitsRun(const Ctx& ctx, const Weights& weights, KvPool kv, Workspace workspace,
                     AlignedBuffer<float> logits)
    : ctx_(ctx),
      weights_(&weights),
      kv_(std::move(kv)),
      workspace_(std::move(workspace)),
      logits_(std::move(logits)),
      sequence_(0, kv_.n_pages()) {}

Result<LogitsRun> LogitsRun::make(const Ctx& ctx, const Weights& weights, const Options& options) {
  const ModelShape& shape = weights.shape;
  if (options.max_positions == 0 || options.max_positions > shape.context_length) {
    return fail(ErrorKind::kUsage, "eval.context", "context: expected 1..{} tokens, found {}",
                shape.context_length, options.max_positions);
  }
  Workspace::Options scratch;
  scratch.max_tokens = std::min(kStepRows, options.max_positions);
  scratch.max_positions = options.max_positions;
  scratch.exact = options.exact;
  ASSIGN_OR_RETURN(auto workspace, Workspace::make(shape, scratch, ctx.pool->n_threads()));
  ASSIGN_OR_RETURN(auto kv, KvPool::make(shape, options.kv_type, KvPool::pages_for(options.max_positions)));
  const size_t n_rows =
      std::clamp<size_t>(kLogitsBytes / (shape.n_vocab * sizeof(float)), 1, scratch.max_tokens);
  ASSIGN_OR_RETURN(auto logits, AlignedBuffer<float>::make(n_rows * shape.n_vocab));
  return LogitsRun(ctx, weights, std::move(kv), std::move(workspace), std::move(logits));
}

void LogitsRun::skip(std::span<const TokenId> tokens) {
  while (!tokens.empty()) {
    const size_t n = std::min(tokens.size(), workspace_.options().max_tokens);
    forward(ctx_, *weights_, kv_, workspace_, sequence_.append(tokens.first(n), SingleSequence::Rows::kNone),
            {});
    tokens = tokens.subspan(n);
  }
}

std::span<const float> LogitsRun::append(std::span<const TokenId> tokens) {
  const size_t n_vocab = weights_->shape.n_vocab;
  const size_t n = std::min(tokens.size(), logits_.size() / n_vocab);
  StepOutput out;
  out.logits = logits_.span().first(n * n_vocab);
  forward(ctx_, *weights_, kv_, workspace_, sequence_.append(tokens.first(n), SingleSequence::Rows::kAll),
          out);
  return out.logits;
}

}  // namespace ruvltra
