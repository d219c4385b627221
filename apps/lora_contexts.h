// Contexts of a real model for the experiments on MicroLoRA: hidden states, features and the tokens that
// follow, from one forward pass over a text.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "load.h"
#include "ops/matmul.h"
#include "sona/micro_lora.h"
#include "sona/output_head.h"
#include "sona/token_record.h"

namespace ruvltra {

// The model, its basis for one seed, and n contexts.
struct LoraContexts {
  std::shared_ptr<const AdapterBasis> basis;
  std::vector<float> hidden;    // (n, d) input of the output matrix
  std::vector<float> features;  // (n, m)
  std::vector<uint32_t> next;   // (n) the token that follows in the text

  size_t size() const { return next.size(); }
  size_t d() const { return basis->d(); }
  size_t m() const { return basis->n_features(); }
  std::span<const float> h(size_t i) const { return std::span(hidden).subspan(i * d(), d()); }
  std::span<const float> phi(size_t i) const { return std::span(features).subspan(i * m(), m()); }
};

// Hidden states of a text in windows of 256 tokens, with f32 activations and cache: (n, d) and the taps
// (n, taps, d). They do not depend on a seed.
struct HiddenStates {
  std::vector<int> layers;  // hooks, ascending; the final residual is the tap after them
  std::vector<float> hidden, taps;
  std::vector<uint32_t> next;
};
Result<HiddenStates> hidden_states(const LoadedModel& model, std::string_view text, size_t max_tokens);

// The basis of `seed`, measured on the states of the canary text, and the contexts of a text in it.
Result<LoraContexts> lora_contexts(const LoadedModel& model, const HiddenStates& canary,
                                   const HiddenStates& text, uint64_t seed);

// The bundled canary texts, one after another.
std::string canary_text();

// z = W x in f32 for many x.
class HeadProduct {
 public:
  static Result<HeadProduct> make(const LoadedModel& model);
  // x: (n, d); the result (n, n_vocab) is valid until the next call. *Requires*: n <= kRows.
  static constexpr size_t kRows = 32;
  std::span<const float> logits(const float* x, size_t n);

 private:
  explicit HeadProduct(const LoadedModel& model) : model_(&model) {}
  const LoadedModel* model_;
  Activations activations_;
  std::vector<float> logits_;
};

// x = h + s B phi of context i, unclamped; b (m, d).
void add_delta(const LoraContexts& contexts, size_t i, std::span<const float> b, std::span<float> x);

}  // namespace ruvltra
