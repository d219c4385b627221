// Measures of a model on text: perplexity, divergence from a reference model, multiple choice.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "engine/logits_run.h"
#include "ruvltra/error.h"
#include "text/tokenizer.h"

namespace ruvltra {

// Text is cut into disjoint windows of `n_window` tokens, each a sequence of its own; the second half of each
// is scored, or with `full` everything but its first token.
struct WindowOptions {
  size_t n_window = 512;
  bool full = false;
};

struct Perplexity {
  size_t n_tokens = 0;  // scored
  double nll = 0;       // mean, nat per token
  double ppl = 0;       // exp(nll)
  double ppl_se = 0;    // standard error
};
// `progress` counts tokens of the text. Errors: eval.too_short, eval.context (usage), eval.token_range,
// eval.not_finite, eval.cancelled.
Result<Perplexity> perplexity(LogitsRun& run, std::span<const TokenId> tokens, const WindowOptions& options,
                              const Progress& progress = {});

struct Divergence {
  size_t n_tokens = 0;
  double kld_mean = 0, kld_median = 0, kld_p999 = 0, kld_max = 0;  // KL(base || model), nat
  double delta_ppl = 0;                                            // ppl(model) - ppl(base)
  double rms_dp = 0;     // root mean square difference of the probability of the text's token
  double same_top1 = 0;  // share of positions with the same most probable token
};
// Both runs see the same tokens. Errors as above, and eval.vocabulary if the models differ in size.
Result<Divergence> divergence(LogitsRun& base, LogitsRun& model, std::span<const TokenId> tokens,
                              const WindowOptions& options, const Progress& progress = {});

struct Question {
  std::string context;
  std::vector<std::string> choices;
  size_t answer = 0;
};
// One JSON object per line: {"context": "...", "choices": ["...", ...], "answer": 0}. Errors: eval.question
// naming the line, and those of parse_json.
Result<std::vector<Question>> parse_questions(std::string_view text, const std::string& source);

// Log-probability of each choice as the continuation of the context. Errors: eval.question, eval.context,
// eval.not_finite.
Result<std::vector<double>> choice_logprobs(LogitsRun& run, const Tokenizer& tokenizer,
                                            const Question& question);

struct Accuracy {
  size_t n = 0;
  double acc = 0;       // largest log-likelihood of the choice
  double acc_norm = 0;  // largest log-likelihood per byte
  double acc_se = 0;    // standard error of acc
};
// Errors: those of choice_logprobs, and eval.cancelled. `progress` counts questions.
Result<Accuracy> multiple_choice(LogitsRun& run, const Tokenizer& tokenizer,
                                 std::span<const Question> questions, const Progress& progress = {});

}  // namespace ruvltra
