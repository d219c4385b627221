// Plain data shared by every layer.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

using TokenId = int32_t;

class Constraint;  // constraint.h

// A function call made by the assistant; `arguments` is the JSON text of an object.
struct ToolCall {
  std::string name;
  std::string arguments;
};

struct ChatMessage {
  std::string role;  // system, user, assistant, tool
  std::string content;
  std::vector<ToolCall> tool_calls;
};

// How the next token is drawn (docs/sampling.md). Order: bias, penalties, constraint, temperature, top-k,
// top-p, min-p.
struct SamplingParams {
  float temperature = 0.7f;       // 0..2, 0 = greedy
  float top_p = 0.9f;             // (0, 1]
  float min_p = 0;                // [0, 1]
  int top_k = 0;                  // 0 = off
  float repeat_penalty = 1;       // (0, 10], over prompt and output
  float presence_penalty = 0;     // -2..2, over output
  float frequency_penalty = 0;    // -2..2, over output
  std::optional<uint64_t> seed;   // without one a seed is drawn and reported
  std::vector<std::string> stop;  // at most 16 strings of 1..256 bytes
  std::vector<std::pair<TokenId, float>> logit_bias;
  int n_logprobs = 0;  // 0..20
};

struct GenerateParams : SamplingParams {
  int max_tokens = 256;
  int n = 1;                // 1..16 answers to one prompt, drawn with the random numbers of choices 0..n-1
  bool raw = false;         // text is continued as it is, instead of being one message of a chat
  bool ignore_eos = false;  // tokens that end generation do not: answers of a given length, for measuring
};

struct TokenLogprob {
  TokenId token;
  double logprob;
};

// A drawn token.
struct Sampled {
  TokenId token = -1;
  // Natural log-softmax of the model's own row, before bias, penalties and temperature; only with n_logprobs
  // > 0.
  double logprob = 0;
  std::vector<TokenLogprob> top;  // the n_logprobs best, best first
  bool was_drafted = false;       // a proposal said so before it was drawn; depends on load and timing
};

// Why an answer ended.
enum class FinishReason {
  kStop,       // a token that ends generation, or a stop string
  kLength,     // max_tokens reached, or the context is full
  kCancelled,  // asked to stop, by the caller, by a reader that took nothing, or by shutting down
  kTimeout,    // the request's time was over
  kFailed,     // Generation::error says why
};
constexpr std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kTimeout:
      return "timeout";
    case FinishReason::kFailed:
      break;
  }
  return "failed";
}

struct Timings {
  double queue_seconds = 0;        // from submission to the first step
  double prompt_seconds = 0;       // computing the prompt
  double generate_seconds = 0;     // from the first token to the last
  double first_token_seconds = 0;  // from submission to the first token
};

// One answer.
struct Generation {
  uint64_t id = 0;                // RequestId, for feedback
  std::string text;               // valid UTF-8, without control tokens and stop strings
  std::vector<TokenId> tokens;    // drawn tokens; a token that ended the answer is the last one
  std::vector<Sampled> logprobs;  // one per token, if params.n_logprobs > 0
  FinishReason finish_reason = FinishReason::kLength;
  uint64_t seed = 0;                     // the one used, given or drawn
  size_t n_prompt = 0;                   // tokens of the prompt
  size_t n_cached = 0;                   // of these, found in the KV cache
  size_t n_drafted = 0, n_accepted = 0;  // proposals of speculative decoding, and those that came true
  Timings timings;
  // The learned weights that answered (docs/learning.md), from the first token to the last. 0 and empty:
  // none.
  uint64_t adapter_generation = 0;
  std::string adapter_hash;    // 64 hexadecimal digits
  std::optional<Error> error;  // of kFailed, and of kCancelled where it was not the caller's wish
};

// How a request is treated among others. None of it changes the answer, but that tenants and sessions may
// have learned weights of their own.
struct Treatment {
  int priority = 0;            // higher first
  double timeout_seconds = 0;  // from submission to the last token; 0 = none
  std::string tenant;          // whom the work is done for: fair shares, and a prefix cache of its own
  std::string cache_salt;      // divides the tenant's prefix cache further
  bool use_cache = true;       // look up and publish prompt pages
  bool speculate = true;       // where the engine does (MediumConfig::use_speculative_decoding)
  std::string session;         // a conversation of the tenant, for what is learned from it
  bool record = true;          // the answer may be recorded, where the model does (SonaConfig::learn)
  std::string task;            // what it is recorded under; empty: the last message, or the prompt's text
};

// Token ids, text that is continued as it is, or messages for the model's chat template.
using Prompt = std::variant<std::vector<TokenId>, std::string, std::vector<ChatMessage>>;

struct Request {
  Prompt prompt;
  GenerateParams params;
  Treatment treatment;
  // Learned weights: absent, what is live for the session, its tenant or everybody; 0, none; else that
  // generation of the same scope.
  std::optional<uint64_t> adapter = {};
  // What the answer may be; null: anything.
  std::shared_ptr<const Constraint> constraint = {};
};

using RequestId = uint64_t;

// What a running request reports, in order per choice: one event per token, then one that is final.
struct Event {
  int choice = 0;                          // 0..n-1
  std::optional<Sampled> token;            // the token drawn; empty in the final event
  std::string text;                        // what may be shown now; often empty
  const Generation* generation = nullptr;  // final: the whole answer, valid while the stream lives
};

// How far a prompt is computed.
struct PromptProgress {
  size_t n_done = 0;  // tokens in the KV cache, those found there included
  size_t n_total = 0;
};

// The KV pages of running sequences when a step was complete, before the answers it ended gave theirs back.
struct PageUse {
  size_t n_sequences = 0;
  size_t n_held = 0;       // pages
  size_t n_listed = 0;     // the same, a shared page once for each of its holders
  size_t n_positions = 0;  // of listed pages that hold a computed token; the others are waste
};

// Speculative decoding since the start: what was proposed, what came true, and what it costs here.
struct SpeculationStats {
  uint64_t n_drafts = 0;    // sequences' steps that verified proposals
  uint64_t n_drafted = 0;   // proposals verified
  uint64_t n_judged = 0;    // of these, those that were compared: up to the first wrong one
  uint64_t n_accepted = 0;  // of these, those that came true
  uint64_t n_by_lookup = 0, n_accepted_by_lookup = 0;             // of these, from text that stood before
  std::array<uint64_t, 8> n_drafted_at = {}, n_accepted_at = {};  // by place among a step's proposals
  uint64_t n_unused = 0;     // tokens the draft model computed that were not verified
  double draft_seconds = 0;  // in the draft model
  // As measured, in units of a step with one row; 0 until then.
  double unit_seconds = 0;
  double draft_cost = 0;                   // c: a step of the draft model
  std::array<double, 9> verify_cost = {};  // V(n + 1): a step with n proposals
};

// Counters since the start, and the state after the last step.
struct EngineStats {
  uint64_t n_steps = 0;
  uint64_t n_prefill_tokens = 0;  // prompt rows computed, again after a preemption
  uint64_t n_decode_tokens = 0;   // rows computed to continue answers
  double plan_seconds = 0, forward_seconds = 0, sample_seconds = 0;
  uint64_t n_weight_bytes = 0;  // streamed from memory by the steps

  uint64_t n_submitted = 0, n_finished = 0, n_cancelled = 0, n_timeouts = 0, n_failed = 0;
  uint64_t n_preemptions = 0;
  uint64_t n_prompt_tokens = 0;  // of admitted requests
  uint64_t n_cached_tokens = 0;  // of these, found in the prefix cache
  uint64_t n_evictions = 0;      // pages

  size_t n_queued = 0, n_running = 0;  // answers
  bool full = false;                   // a further request would be refused: engine.queue_full
  size_t n_pages = 0, n_pages_free = 0, n_pages_private = 0, n_pages_published = 0, n_pages_shared = 0;
  size_t page_bytes = 0;
  PageUse page_use;

  SpeculationStats speculation;
};

}  // namespace ruvltra
