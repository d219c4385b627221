// Pieces of OpenAI's forms that several faces use.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "ruvltra/model.h"
#include "server/service.h"

namespace ruvltra {

// A JSON string literal; invalid UTF-8 becomes U+FFFD.
std::string json_string(std::string_view text);
// "data: ...\n\n"
std::string sse(std::string_view document);

// {token, logprob, bytes, top_logprobs: [{token, logprob, bytes}]}, the first n_top of them.
Json chat_logprob(const MediumModel& model, const Sampled& sampled, int n_top);
// The text of a token; its bytes where they are not UTF-8 become U+FFFD.
std::string token_text(const MediumModel& model, TokenId token);

// Model hash and generation of learned weights, as "system_fingerprint".
std::string fingerprint(const MediumModel& model, const Generation& generation);
int64_t unix_seconds();

// The first n_dimensions of the vector of a text's tokens, at unit length. Error: request.field for no
// tokens.
Result<std::vector<float>> unit_embedding(MediumModel& model, std::span<const TokenId> tokens,
                                          int n_dimensions);

Handled chat_completions(Call& call);
Handled completions(Call& call);
Handled embeddings(Call& call);
Handled list_models(Call& call);
Handled show_model(Call& call);
Handled tokenize(Call& call);
Handled detokenize(Call& call);
Handled apply_template(Call& call);

}  // namespace ruvltra
