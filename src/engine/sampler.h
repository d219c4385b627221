// Draws the next token from a row of logits (docs/sampling.md).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/greedy.h"
#include "ruvltra/error.h"
#include "ruvltra/types.h"
#include "text/tokenizer.h"

namespace ruvltra {

// Ranges of docs/sampling.md. Error sampler.range (kUsage): the field, expected, found.
Result<void> validate(const SamplingParams& params, size_t n_vocab);

// 64 random bits from the operating system, for requests that name no seed.
uint64_t random_seed();

// Rows that no token stands for: kind kUnused, and ids in [tokenizer.n_vocab(), n_vocab).
std::vector<TokenId> unused_tokens(const Tokenizer& tokenizer, size_t n_vocab);

// One sequence's sampler. The draw is a pure function of (row, params, accepted tokens, seed, position,
// choice).
//
// Thread safety: none; one per sequence.
// *Invariants*: (1) candidates are ordered by logit descending, then id ascending; (2) tokens of `unused` are
// never returned; (3) nothing is consumed by a draw: repeating it gives the same token.
class Sampler {
 public:
  // *Requires*: validate(params, n_vocab) passed and params.seed is set. Error: sampler.no_token if `unused`
  // leaves none.
  static Result<Sampler> create(const SamplingParams& params, size_t n_vocab,
                                std::span<const TokenId> unused);

  // True if the draw is the likeliest token of the model's own row and nothing more is asked.
  static bool takes_likeliest(const SamplingParams& params);

  // The draw of such a request, from the likeliest token alone. Error: sampler.not_finite.
  static Result<Sampled> take(const BestLogit& best, size_t position);

  // Tokens of the prompt count for the repeat penalty, generated ones for all three.
  void accept_prompt(std::span<const TokenId> tokens);
  void accept(TokenId token);

  // row: (n_vocab), left as it is. position: index of the token being generated in its sequence. choice: 0 ..
  // n-1 of a request for n answers. `top` becomes Sampled::top: with room for n_logprobs entries, nothing is
  // allocated. `allowed`: one bit for each token that may be drawn, at least one of them; empty: all may.
  // Error: sampler.not_finite naming the first such logit.
  Result<Sampled> sample(std::span<const float> row, uint32_t position, uint32_t choice,
                         std::vector<TokenLogprob> top = {}, std::span<const uint64_t> allowed = {});
  // The same with the random number given. *Requires*: 0 <= u < 1.
  Result<Sampled> sample_with(std::span<const float> row, double u, std::vector<TokenLogprob> top = {},
                              std::span<const uint64_t> allowed = {});

 private:
  struct Counts {
    int prompt = 0;
    int output = 0;
  };

  Sampler(const SamplingParams& params, size_t n_vocab, std::span<const TokenId> unused);

  static bool counts(const SamplingParams& params);  // whether a penalty wants to know the tokens so far
  Counts& count_of(TokenId token);
  void apply_bias_and_penalties();
  void forbid_all_but(std::span<const uint64_t> allowed);
  TokenId draw(float highest, double u);
  void fill_logprobs(std::span<const float> row, Sampled& sampled);

  SamplingParams params_;
  std::vector<TokenId> unused_;
  std::vector<Counts> counts_;      // (n_vocab) of the tokens so far, if a penalty wants them
  std::vector<TokenId> occurred_;   // the tokens that have counts
  std::vector<float> work_;         // (n_vocab) the row after bias, penalties and constraint
  std::vector<TokenId> order_;      // candidates found so far
  std::vector<double> cumulative_;  // running sums of the kept candidates' weights
};

}  // namespace ruvltra
