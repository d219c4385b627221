#include "lora_contexts.h"

#include <algorithm>

#include "base/fail.h"
#include "model/kv_pool.h"
#include "model/qwen2.h"
#include "model/step.h"
#include "sona/bundled_texts.h"

namespace ruvltra {
namespace {

constexpr size_t kWindow = 256;

}  // namespace

std::string canary_text() {
  std::string text;
  for (const CanaryText& canary : canary_texts()) {
    text += canary.text;
    text += "\n\n";
  }
  return text;
}

Result<HiddenStates> hidden_states(const LoadedModel& model, std::string_view text, size_t max_tokens) {
  const ModelShape& shape = model.weights.shape;
  ASSIGN_OR_RETURN(auto tokens, model.tokenizer.encode(text, Recognise::kUserDefined));
  if (tokens.size() > max_tokens) tokens.resize(max_tokens);
  HiddenStates states;
  ASSIGN_OR_RETURN(states.layers, effective_hook_layers(SonaHooks{}, static_cast<int>(shape.n_layers)));
  // The last layer may be a hook too; it is tapped once and copied.
  std::vector<int> tapped = states.layers;
  const int last = static_cast<int>(shape.n_layers) - 1;
  if (tapped.back() != last) tapped.push_back(last);
  const size_t d = shape.d_model, n_taps = states.layers.size() + 1;
  Workspace::Options options;
  options.max_tokens = kWindow;
  options.max_positions = kWindow;
  options.exact = true;
  ASSIGN_OR_RETURN(auto workspace, Workspace::make(shape, options, model.ctx.pool->n_threads()));
  ASSIGN_OR_RETURN(auto kv, KvPool::make(shape, KvType::kF32, KvPool::pages_for(kWindow)));
  std::vector<float> hidden(kWindow * d), taps(tapped.size() * kWindow * d);
  for (size_t begin = 0; begin + 1 < tokens.size(); begin += kWindow) {
    const size_t n = std::min(kWindow, tokens.size() - begin);
    SingleSequence sequence(0, kv.n_pages());
    StepInput in =
        sequence.append(std::span(tokens).subspan(begin, n), SingleSequence::Rows::kAll, RowOutput::kHidden);
    in.tap_layers = tapped;
    StepOutput out;
    out.hidden = std::span(hidden).first(n * d);
    out.taps = std::span(taps).first(tapped.size() * n * d);
    forward(model.ctx, model.weights, kv, workspace, in, out);
    for (size_t t = 0; t < n && begin + t + 1 < tokens.size(); ++t) {
      states.next.push_back(static_cast<uint32_t>(tokens[begin + t + 1]));
      states.hidden.insert(states.hidden.end(), hidden.begin() + static_cast<std::ptrdiff_t>(t * d),
                           hidden.begin() + static_cast<std::ptrdiff_t>((t + 1) * d));
      for (size_t tap = 0; tap < n_taps; ++tap) {
        const float* x = taps.data() + (std::min(tap, tapped.size() - 1) * n + t) * d;
        states.taps.insert(states.taps.end(), x, x + d);
      }
    }
  }
  return states;
}

Result<LoraContexts> lora_contexts(const LoadedModel& model, const HiddenStates& canary,
                                   const HiddenStates& text, uint64_t seed) {
  BasisSpec spec;
  spec.model = model.weights.file_digest;
  spec.n_layers = model.weights.shape.n_layers;
  spec.d_model = model.weights.shape.d_model;
  spec.eps = model.weights.shape.rms_eps;
  spec.layers = canary.layers;
  spec.seed = seed;
  ASSIGN_OR_RETURN(auto builder, BasisBuilder::make(spec));
  const size_t d = spec.d_model, n_taps = spec.n_taps();
  const auto each_token = [&](const HiddenStates& states, const auto& use) {
    std::vector<const float*> taps(n_taps);
    for (size_t i = 0; i < states.next.size(); ++i) {
      for (size_t tap = 0; tap < n_taps; ++tap) taps[tap] = states.taps.data() + (i * n_taps + tap) * d;
      use(i, taps.data());
    }
  };
  each_token(canary, [&](size_t, const float* const* taps) { builder.add(taps); });
  ASSIGN_OR_RETURN(auto basis, std::move(builder).finish());
  LoraContexts contexts;
  contexts.basis = std::make_shared<const AdapterBasis>(std::move(basis));
  contexts.hidden = text.hidden;
  contexts.next = text.next;
  contexts.features.resize(text.next.size() * contexts.m());
  each_token(text, [&](size_t i, const float* const* taps) {
    adapter_features(contexts.basis->view(), taps, contexts.features.data() + i * contexts.m());
  });
  return contexts;
}

Result<HeadProduct> HeadProduct::make(const LoadedModel& model) {
  HeadProduct product(model);
  ASSIGN_OR_RETURN(product.activations_, Activations::make(kRows, model.weights.shape.d_model));
  product.logits_.resize(kRows * model.weights.shape.n_vocab);
  return product;
}

std::span<const float> HeadProduct::logits(const float* x, size_t n) {
  const size_t n_vocab = model_->weights.shape.n_vocab;
  activations_.set(x, n, model_->weights.shape.d_model);
  const MatmulTask head[] = {{.w = &model_->weights.head(), .y = logits_.data(), .y_stride = n_vocab}};
  matmul(model_->ctx, activations_, head, true);
  return std::span(logits_).first(n * n_vocab);
}

void add_delta(const LoraContexts& contexts, size_t i, std::span<const float> b, std::span<float> x) {
  const size_t d = contexts.d();
  const auto phi = contexts.phi(i);
  for (size_t j = 0; j < contexts.m(); ++j) {
    const float weight = contexts.basis->scale() * phi[j];
    for (size_t k = 0; k < d; ++k) x[k] += weight * b[j * d + k];
  }
}

}  // namespace ruvltra
