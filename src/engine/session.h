// One request on one sequence: prompt tokens -> prefill -> sampled tokens -> text. The conversation's KV
// cache is kept between requests, so a prompt that begins like the last one is computed from the first
// difference on.
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "engine/sampler.h"
#include "model/qwen2.h"
#include "ruvltra/error.h"
#include "ruvltra/types.h"
#include "text/tokenizer.h"

namespace ruvltra {

// What happens while generating. All optional.
struct GenerateHooks {
  std::function<bool(std::string_view piece)>
      on_text;                                // text that may be shown now; false stops (kCancelled)
  Progress on_prompt;                         // tokens of the prompt computed; false stops
  const std::atomic<bool>* cancel = nullptr;  // read before every step
};

// Thread safety: one call at a time. The weights and the tokenizer must outlive the session.
// Invariants: 1. tokens_ are exactly the tokens whose KV the sequence holds; 2. text, tokens and logprobs
// depend on model, prompt, parameters and seed alone, never on what was cached or on the number of threads.
class Session {
 public:
  struct Options {
    size_t n_context = 0;  // longest prompt and answer together; *Requires*: 1..the model's context length
    KvType kv_type = KvType::kF16;
    size_t prefill_rows = 512;  // rows of one prefill step
    bool exact = false;         // f32 activations instead of int8
  };
  static Result<Session> make(const Ctx& ctx, const Weights& weights, const Tokenizer& tokenizer,
                              const Options& options);

  // Errors: session.empty_prompt, session.prompt_too_long (usage), sampler.*.
  Result<Generation> generate(std::span<const TokenId> prompt, const GenerateParams& params,
                              const GenerateHooks& hooks);

  size_t n_context() const { return options_.n_context; }
  size_t n_tokens() const { return tokens_.size(); }  // in the KV cache
  uint64_t kv_bytes() const { return kv_.n_bytes(); }

 private:
  Session(const Ctx& ctx, const Weights& weights, const Tokenizer& tokenizer, const Options& options,
          KvPool kv, Workspace workspace, AlignedBuffer<float> logits);
  size_t keep_common_prefix(std::span<const TokenId> prompt);
  bool compute_prompt(std::span<const TokenId> prompt, const GenerateHooks& hooks);
  void compute(std::span<const TokenId> tokens, bool want_output);
  Result<Sampled> next_token(Sampler& sampler, uint32_t position);

  Ctx ctx_;
  const Weights* weights_;
  const Tokenizer* tokenizer_;
  Options options_;
  KvPool kv_;
  Workspace workspace_;
  AlignedBuffer<float> logits_;  // (n_vocab)
  BestLogit best_;               // instead of logits_, for requests that take the likeliest token
  bool greedy_ = false;          // the current request is one of those
  SingleSequence sequence_;
  std::vector<TokenId> tokens_;
  std::vector<TokenId> unused_;  // ids that no token stands for
};

}  // namespace ruvltra
