#include "api/teacher_forced.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>
#include <vector>

#include "api/fresh_pass.h"
#include "base/fail.h"

namespace ruvltra {
namespace {

// Rows of one step: 10 MB of logits at a vocabulary of 152,000, and the longest that a request which comes
// just then has to wait for.
constexpr size_t kPieceRows = 16;

// |h| of h = w * x / sqrt(mean(x^2) + eps): the input of the output matrix.
float hidden_norm(const float* x, const Weights& weights) {
  const size_t d = weights.shape.d_model;
  double squares = 0, weighted = 0;
  for (size_t i = 0; i < d; ++i) {
    const double value = static_cast<double>(x[i]);
    const double product = value * static_cast<double>(weights.output_norm.data()[i]);
    squares += value * value;
    weighted += product * product;
  }
  const double mean = squares / static_cast<double>(d) + static_cast<double>(weights.shape.rms_eps);
  return static_cast<float>(std::sqrt(weighted / mean));
}

Result<void> pass(ModelParts& parts, std::span<const TokenId> tokens, size_t n_context,
                  std::span<const int> tap_layers, const TeacherForcedRow& row, const LearningPace& pace) {
  const auto longest = static_cast<size_t>(parts.config.context_length);
  if (tokens.size() > longest) {
    return fail(ErrorKind::kUsage, "request.too_long",
                "text: expected at most {} tokens (the context), found {}", longest, tokens.size());
  }
  const ModelShape& shape = parts.weights.shape;
  const size_t d_model = shape.d_model;
  // A step taps each layer once; the last one is always needed, for |h|.
  std::vector<int> layers(tap_layers.begin(), tap_layers.end());
  layers.push_back(static_cast<int>(shape.n_layers) - 1);
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  std::vector<size_t> place;  // of each tap among them
  for (const int layer : tap_layers)
    place.push_back(
        static_cast<size_t>(std::lower_bound(layers.begin(), layers.end(), layer) - layers.begin()));

  std::vector<float> logits(kPieceRows * shape.n_vocab);            // (rows, n_vocab)
  std::vector<float> states(layers.size() * kPieceRows * d_model);  // (layers, rows, d_model)
  std::vector<const float*> taps(tap_layers.size());
  const size_t first = n_context - 1, end = tokens.size() - 1;  // positions that predict a target
  const size_t n_pages = KvPool::pages_for(end);
  ASSIGN_OR_RETURN(KvPool kv, KvPool::make(shape, parts.config.paged_config.kv_type, n_pages));
  SingleSequence sequence(0, n_pages);
  while (sequence.n_tokens() < end) {
    const size_t begin = sequence.n_tokens();
    const bool wanted = begin >= first;
    size_t n = 0;
    std::chrono::duration<double> took{};
    // One piece at a time: what is done with its rows costs the engine's thread nothing.
    RETURN_IF_ERROR(parts.loop->between_steps([&](Runner& runner) {
      const auto begun = std::chrono::steady_clock::now();
      n = std::min({(wanted ? end : first) - begin, parts.loop->piece_rows(), kPieceRows});
      StepInput in = sequence.append(tokens.subspan(begin, n),
                                     wanted ? SingleSequence::Rows::kAll : SingleSequence::Rows::kNone);
      StepOutput out;
      if (wanted) {
        in.tap_layers = layers;
        out.taps = std::span(states).first(layers.size() * n * d_model);
        out.logits = std::span(logits).first(n * shape.n_vocab);
      }
      forward(runner.ctx(), runner.weights(), kv, runner.workspace(), in, out);
      took = std::chrono::steady_clock::now() - begun;
      return true;
    }));
    for (size_t t = 0; wanted && t < n; ++t) {
      const auto state = [&](size_t layer) { return states.data() + (layer * n + t) * d_model; };
      for (size_t k = 0; k < taps.size(); ++k) taps[k] = state(place[k]);
      row(begin + t, std::span(logits).subspan(t * shape.n_vocab, shape.n_vocab), taps.data(),
          hidden_norm(state(layers.size() - 1), parts.weights));
    }
    pace.engine_worked(took.count());
  }
  return {};
}

}  // namespace

TeacherForced teacher_forced(ModelParts& parts, std::shared_ptr<const LearningPace> pace) {
  return [&parts, pace = std::move(pace)](std::span<const TokenId> tokens, size_t n_context,
                                          std::span<const int> tap_layers, const TeacherForcedRow& row) {
    return pass(parts, tokens, n_context, tap_layers, row, *pace);
  };
}

}  // namespace ruvltra
