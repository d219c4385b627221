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
      best_(options.max_wanted) {
  rows_.reserve(options.max_rows, options.max_parts);
}

Result<Runner> Runner::make(const Ctx& ctx, const Weights& weights, const Options& options) {
  const ModelShape& shape = weights.shape;
  const Workspace::Options room = {
      .max_tokens = options.max_rows, .max_positions = options.max_positions, .exact = options.exact};
  ASSIGN_OR_RETURN(KvPool kv, KvPool::make(shape, options.kv_type, options.n_pages));
  ASSIGN_OR_RETURN(Workspace workspace, Workspace::make(shape, room, ctx.pool->n_threads()));
  ASSIGN_OR_RETURN(auto logits, AlignedBuffer<float>::make(options.max_wanted * shape.n_logits()));
  return Runner(ctx, weights, options, std::move(kv), std::move(workspace), std::move(logits));
}

void Runner::begin() {
  rows_.clear();
  n_wanted_ = 0;
}

void Runner::add(const StepPart& part) {
  CHECK(!part.tokens.empty() && rows_.n_rows() + part.tokens.size() <= options_.max_rows);
  CHECK(rows_.n_sequences() < options_.max_parts);
  rows_.add(part.tokens, part.first_position, part.pages, part.writes, part.adapter);
  n_wanted_ += part.n_wanted;
  CHECK(n_wanted_ <= options_.max_wanted);
  rows_.want_last(RowOutput::kLogits, part.n_wanted);
}

Result<void> Runner::set_tap_layers(std::vector<int> layers) {
  ASSIGN_OR_RETURN(taps_,
                   AlignedBuffer<float>::make(layers.size() * options_.max_wanted * weights_->shape.d_model));
  tap_layers_ = std::move(layers);
  return {};
}

void Runner::run(RowOutput form, std::span<const TokenId> never_best, bool taps) {
  rows_.change(RowOutput::kLogits, form);
  StepInput in = rows_.input();
  in.never_best = never_best;
  if (taps) {
    in.tap_layers = tap_layers_;
    in.tap_wanted_rows = true;
  }
  forward(ctx_, *weights_, kv_, workspace_, in,
          {.logits = logits_.span(), .taps = taps_.span(), .best = best_});
}

std::span<const float> Runner::tap(size_t l, size_t i) const {
  const size_t d_model = weights_->shape.d_model;
  return taps_.span().subspan((l * n_wanted_ + i) * d_model, d_model);
}

std::span<const float> Runner::logits(size_t i) const {
  const size_t n_logits = weights_->shape.n_logits();
  return logits_.span().subspan(i * n_logits, n_logits);
}

}  // namespace ruvltra
