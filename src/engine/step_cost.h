// What a step costs on this machine, learned from the steps that were run.
#pragma once

#include <algorithm>

#include "engine/scheduler.h"

namespace ruvltra {

// time = fixed + per decode row * n_decode + per prompt row * n_prefill, each at least 0. Normalised least
// mean squares (Widrow and Hoff 1960): every step moves the three a little towards its own time.
class StepCost {
 public:
  const CostModel& model() const { return model_; }

  void learn(size_t n_decode, size_t n_prefill, double ms) {
    const auto decode = static_cast<double>(n_decode);
    const auto prefill = static_cast<double>(n_prefill);
    const double expected = model_.decode_ms(n_decode) + model_.ms_per_prefill_row * prefill;
    const double pull = kRate * (ms - expected) / (1 + decode * decode + prefill * prefill);
    model_.ms_fixed = std::max(0.0, model_.ms_fixed + pull);
    model_.ms_per_decode_row = std::max(0.0, model_.ms_per_decode_row + pull * decode);
    model_.ms_per_prefill_row = std::max(kLeastRowMs, model_.ms_per_prefill_row + pull * prefill);
  }

 private:
  static constexpr double kRate = 0.25;
  static constexpr double kLeastRowMs = 1e-4;
  CostModel model_;
};

}  // namespace ruvltra
