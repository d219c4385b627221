#include "engine/session.h"

#include <algorithm>
#include <chrono>

#include "base/fail.h"
#include "text/stream_text.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

bool cancelled(const GenerateHooks& hooks) {
  return hooks.cancel != nullptr && hooks.cancel->load(std::memory_order_relaxed);
}

}  // namespace

Session::Session(const Ctx& ctx, const Weights& weights, const Tokenizer& tokenizer, const Options& options,
                 KvPool kv, Workspace workspace, AlignedBuffer<float> logits)
    : ctx_(ctx),
      weights_(&weights),
      tokenizer_(&tokenizer),
      options_(options),
      kv_(std::move(kv)),
      workspace_(std::move(workspace)),
      logits_(std::move(logits)),
      sequence_(0, kv_.n_pages()),
      unused_(unused_tokens(tokenizer, weights.shape.n_vocab)) {}

Result<Session> Session::make(const Ctx& ctx, const Weights& weights, const Tokenizer& tokenizer,
                              const Options& options) {
  const ModelShape& shape = weights.shape;
  ASSIGN_OR_RETURN(KvPool kv, KvPool::make(shape, options.kv_type, KvPool::pages_for(options.n_context)));
  const Workspace::Options room = {.max_tokens = std::min(options.prefill_rows, options.n_context),
                                   .max_positions = options.n_context,
                                   .exact = options.exact};
  ASSIGN_OR_RETURN(Workspace workspace, Workspace::make(shape, room, ctx.pool->n_threads()));
  ASSIGN_OR_RETURN(auto logits, AlignedBuffer<float>::make(shape.n_vocab));
  return Session(ctx, weights, tokenizer, options, std::move(kv), std::move(workspace), std::move(logits));
}

// Forgets what the cache holds beyond the prompt's beginning. The last prompt token is always computed: its
// row gives the first answer token.
size_t Session::keep_common_prefix(std::span<const TokenId> prompt) {
  const size_t limit = std::min(tokens_.size(), prompt.size() - 1);
  const auto first_difference =
      std::mismatch(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(limit), tokens_.begin());
  const auto n_kept = static_cast<size_t>(first_difference.first - prompt.begin());
  sequence_.truncate(n_kept);
  tokens_.resize(n_kept);
  return n_kept;
}

void Session::compute(std::span<const TokenId> tokens, bool want_output) {
  using Rows = SingleSequence::Rows;
  StepInput in = sequence_.append(tokens, want_output ? Rows::kLast : Rows::kNone,
                                  greedy_ ? RowOutput::kBest : RowOutput::kLogits);
  in.never_best = unused_;
  forward(ctx_, *weights_, kv_, workspace_, in, StepOutput{.logits = logits_.span(), .best = {&best_, 1}});
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

Result<Sampled> Session::next_token(Sampler& sampler, uint32_t position) {
  return greedy_ ? Sampler::take(best_, position) : sampler.sample(logits_.span(), position, 0);
}

// False if asked to stop.
bool Session::compute_prompt(std::span<const TokenId> prompt, const GenerateHooks& hooks) {
  while (tokens_.size() < prompt.size()) {
    if (cancelled(hooks)) return false;
    const auto chunk =
        prompt.subspan(tokens_.size(), std::min(options_.prefill_rows, prompt.size() - tokens_.size()));
    compute(chunk, tokens_.size() + chunk.size() == prompt.size());
    if (hooks.on_prompt && !hooks.on_prompt(tokens_.size(), prompt.size())) return false;
  }
  return true;
}

Result<Generation> Session::generate(std::span<const TokenId> prompt, const GenerateParams& params,
                                     const GenerateHooks& hooks) {
  const auto begin = Clock::now();
  if (prompt.empty())
    return fail(ErrorKind::kUsage, "session.empty_prompt", "prompt: expected at least one token");
  if (prompt.size() >= options_.n_context) {
    return fail(ErrorKind::kUsage, "session.prompt_too_long",
                "prompt: expected fewer than {} tokens (the context), found {}", options_.n_context,
                prompt.size());
  }
  const size_t n_vocab = weights_->shape.n_vocab;
  RETURN_IF_ERROR(validate(params, n_vocab));
  SamplingParams sampling = params;
  if (!sampling.seed) sampling.seed = random_seed() >> 11;  // 53 bits: exact in every JSON reader
  ASSIGN_OR_RETURN(Sampler sampler, Sampler::create(sampling, n_vocab, unused_));
  greedy_ = Sampler::takes_likeliest(params);
  Generation out;
  out.seed = *sampling.seed;
  out.n_prompt = prompt.size();
  out.n_cached = keep_common_prefix(prompt);
  if (!compute_prompt(prompt, hooks)) {
    out.finish_reason = FinishReason::kCancelled;
    return out;
  }
  out.timings.prompt_seconds = seconds_since(begin);

  StreamText stream(params.stop);
  const auto show = [&](const std::string& piece) {
    out.text += piece;
    return piece.empty() || !hooks.on_text || hooks.on_text(piece);
  };
  sampler.accept_prompt(prompt);
  const auto n_room = std::min<size_t>(static_cast<size_t>(std::max(0, params.max_tokens)),
                                       options_.n_context - prompt.size());
  while (out.tokens.size() < n_room) {
    const auto position = static_cast<uint32_t>(prompt.size() + out.tokens.size());
    ASSIGN_OR_RETURN(const Sampled sample, next_token(sampler, position));
    sampler.accept(sample.token);
    out.tokens.push_back(sample.token);
    if (params.n_logprobs > 0) out.logprobs.push_back(sample);
    if (out.tokens.size() == 1) out.timings.first_token_seconds = seconds_since(begin);
    if (tokenizer_->ends_generation(sample.token)) {
      out.finish_reason = FinishReason::kStop;
      break;
    }
    const bool is_text = tokenizer_->kind(sample.token) != TokenKind::kControl;
    const bool wanted = show(stream.push(is_text ? tokenizer_->bytes(sample.token) : std::string_view()));
    if (stream.stopped()) {
      out.finish_reason = FinishReason::kStop;
      break;
    }
    if (!wanted || cancelled(hooks)) {
      out.finish_reason = FinishReason::kCancelled;
      break;
    }
    if (out.tokens.size() < n_room) compute(std::span(&out.tokens.back(), 1), true);
  }
  show(stream.finish());
  if (!out.tokens.empty())
    out.timings.generate_seconds = seconds_since(begin) - out.timings.first_token_seconds;
  return out;
}

}  // namespace ruvltra
