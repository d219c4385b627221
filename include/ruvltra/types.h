// Plain data shared by every layer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ruvltra {

using TokenId = int32_t;

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

// How the next token is drawn (docs/sampling.md). Order: bias, penalties, temperature, top-k, top-p,
// min-p.
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
};

}  // namespace ruvltra
