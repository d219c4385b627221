#include "ops/logits.h"

#include <cmath>

namespace ruvltra {

double log_sum_exp(std::span<const float> logits) {
  const double largest = static_cast<double>(logits[argmax(logits)]);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

size_t argmax(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}

}  // namespace ruvltra
