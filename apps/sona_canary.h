// The bundled canary texts, measured again from outside: by whole forward passes through the public API,
// without the records, bounds and approximations that the learner's own gates are made of.
#pragma once

#include <cstddef>

#include "sona_trial.h"

namespace ruvltra {

struct CanaryReading {
  size_t n_tokens = 0;
  double base_nll = 0, nll = 0;  // mean, nat per token
  double drift = 0;              // mean KL(p_base || p), nat per token
  bool finite = true;            // every logit
  double rise() const { return base_nll > 0 ? nll / base_nll - 1 : 0; }
  Json json() const;
};

// Of what is live for the scope, on the tokens of each text that the gates look at. `every` > 1 takes one
// text in so many.
Result<CanaryReading> read_canary(SonaTrial& trial, const Scope& scope, size_t every = 1);

}  // namespace ruvltra
