#include <algorithm>

#include "api/fresh_pass.h"
#include "base/fail.h"
#include "model/hook_sum.h"

namespace ruvltra {

Result<std::vector<float>> pooled_states(ModelParts& parts, std::string_view text,
                                         std::span<const int> layers) {
  ASSIGN_OR_RETURN(std::vector<TokenId> tokens, parts.tokenizer.encode(text, Recognise::kUserDefined));
  if (tokens.empty())
    return fail(ErrorKind::kUsage, "learning.empty_text", "text: expected at least one token, found none");
  const auto n_context = static_cast<size_t>(parts.config.context_length);
  tokens.resize(std::min({tokens.size(), n_context, kMaxPooledTokens}));

  const ModelShape& shape = parts.weights.shape;
  const size_t d_model = shape.d_model;
  const auto eps = static_cast<double>(shape.rms_eps);
  const size_t n_rows = std::min(tokens.size(), static_cast<size_t>(parts.config.engine.step_rows));
  std::vector<float> states(layers.size() * n_rows * d_model);  // (layers, rows of a step, d_model)
  std::vector<double> sum(layers.size() * d_model);
  RETURN_IF_ERROR(fresh_pass(
      parts, tokens, static_cast<size_t>(layers.back()) + 1, SingleSequence::Rows::kNone,
      [&](StepInput& in, size_t) {
        in.tap_layers = layers;
        in.stop_after_layer = layers.back();
        return StepOutput{.taps = states};
      },
      [&](size_t, size_t n) {
        for (size_t l = 0; l < layers.size(); ++l) {
          for (size_t t = 0; t < n; ++t) {
            add_normalised(std::span(states).subspan((l * n + t) * d_model, d_model), eps,
                           std::span(sum).subspan(l * d_model, d_model));
          }
        }
      }));
  std::vector<float> pooled(sum.size());
  for (size_t i = 0; i < sum.size(); ++i)
    pooled[i] = static_cast<float>(sum[i] / static_cast<double>(tokens.size()));
  return pooled;
}

}  // namespace ruvltra
