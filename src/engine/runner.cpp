#include "engine/runner.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/fail.h"

namespace ruvltra {

Runner::Runner(const Ctx& ctx, const Weights& weights, const Options& options, KvPool kv, Workspace workspace,
               AlignedBuffer<float> logits)
    : ctx_(ctx),
      weights_(&weights),
      options_(options),
      kv_(std::move(kv)),
      workspace_(std::move(workspace)),
      logits_(std::move(logits)),
      best_(options.max_parts) {
  tokens_.reserve(options.max_rows);
  positions_.reserve(options.max_rows);
  seq_of_.reserve(options.max_rows);
  slots_.reserve(options.max_rows);
  wanted_.reserve(options.max_rows);
  sequences_.reserve(options.max_parts);
}

Result<Runner> Runner::make(const Ctx& ctx, const Weights& weights, const Options& options) {
  const ModelShape& shape = weights.shape;
  const Workspace::Options room = {
      .max_tokens = options.max_rows, .max_positions = options.max_positions, .exact = options.exact};
  ASSIGN_OR_RETURN(KvPool kv, KvPool::make(shape, options.kv_type, options.n_pages));
  ASSIGN_OR_RETURN(Workspace workspace, Workspace::make(shape, room, ctx.pool->n_threads()));
  ASSIGN_OR_RETURN(auto logits, AlignedBuffer<float>::make(options.max_parts * shape.n_vocab));
  return Runner(ctx, weights, options, std::move(kv), std::move(workspace), std::move(logits));
}

void Runner::begin() {
  tokens_.clear();
  positions_.clear();
  seq_of_.clear();
  slots_.clear();
  wanted_.clear();
  sequences_.clear();
}

void Runner::add(const StepPart& part) {
  CHECK(!part.tokens.empty() && tokens_.size() + part.tokens.size() <= options_.max_rows);
  CHECK(sequences_.size() < options_.max_parts);
  const auto sequence = static_cast<int32_t>(sequences_.size());
  sequences_.push_back({part.pages});
  for (size_t t = 0; t < part.tokens.size(); ++t) {
    const size_t position = part.first_position + t;
    tokens_.push_back(part.tokens[t]);
    positions_.push_back(static_cast<int32_t>(position));
    seq_of_.push_back(sequence);
    slots_.push_back({part.writes ? part.pages[position / kPageTokens] : kNoPage,
                      static_cast<int32_t>(position % kPageTokens)});
    wanted_.push_back(RowOutput::kNone);
  }
  if (part.wants_row) wanted_.back() = RowOutput::kLogits;
}

void Runner::run(RowOutput form, std::span<const TokenId> never_best) {
  std::replace(wanted_.begin(), wanted_.end(), RowOutput::kLogits, form);
  StepInput in;
  in.tokens = tokens_;
  in.positions = positions_;
  in.seq_of = seq_of_;
  in.kv_slots = slots_;
  in.rows_wanted = wanted_;
  in.sequences = sequences_;
  in.never_best = never_best;
  forward(ctx_, *weights_, kv_, workspace_, in, {.logits = logits_.span(), .best = best_});
}

std::span<const float> Runner::logits(size_t i) const {
  const size_t n_vocab = weights_->shape.n_vocab;
  return logits_.span().subspan(i * n_vocab, n_vocab);
}

}  // namespace ruvltra
