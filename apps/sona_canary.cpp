#include "sona_canary.h"

#include <algorithm>
#include <cmath>

#include "sona/bundled_texts.h"
#include "sona/learning_space.h"

namespace ruvltra {
namespace {

double log_sum_exp(std::span<const float> row) {
  const double top = static_cast<double>(*std::max_element(row.begin(), row.end()));
  double total = 0;
  for (const float z : row) total += std::exp(static_cast<double>(z) - top);
  return top + std::log(total);
}

}  // namespace

Json CanaryReading::json() const {
  return {{"tokens", n_tokens}, {"base_nll", base_nll}, {"rise", rise()}, {"kl", drift}, {"finite", finite}};
}

Result<CanaryReading> read_canary(SonaTrial& trial, const Scope& scope, size_t every) {
  CanaryReading reading;
  const auto texts = canary_texts();
  for (size_t i = 0; i < texts.size(); i += every) {
    ASSIGN_OR_RETURN(auto tokens, trial.model().tokenize(texts[i].text));
    tokens.resize(std::min(tokens.size(), kCanaryTokens));
    ASSIGN_OR_RETURN(const Logits base, trial.model().forward(tokens));
    ASSIGN_OR_RETURN(const Logits live, trial.model().forward(tokens, {}, scope));
    reading.finite &=
        std::all_of(live.values.begin(), live.values.end(), [](float z) { return std::isfinite(z); });
    for (size_t t = 0; t + 1 < tokens.size(); ++t) {
      const auto p = base.row(t), q = live.row(t);
      const double p_sum = log_sum_exp(p), q_sum = log_sum_exp(q);
      const auto next = static_cast<size_t>(tokens[t + 1]);
      reading.base_nll += p_sum - static_cast<double>(p[next]);
      reading.nll += q_sum - static_cast<double>(q[next]);
      for (size_t v = 0; v < p.size(); ++v) {
        const double log_p = static_cast<double>(p[v]) - p_sum, log_q = static_cast<double>(q[v]) - q_sum;
        reading.drift += std::exp(log_p) * (log_p - log_q);
      }
      ++reading.n_tokens;
    }
  }
  const auto n = static_cast<double>(reading.n_tokens);
  reading.base_nll /= n;
  reading.nll /= n;
  reading.drift /= n;
  return reading;
}

}  // namespace ruvltra
