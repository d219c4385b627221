// `bench --sona`: what learning costs while answers are made, and that it never mixes generations.
#pragma once

#include "options.h"
#include "ruvltra/error.h"

namespace ruvltra {

struct SonaBenchOptions {
  int n_tokens = 32;      // of an answer
  int n_pairs = 20;       // of answers, with and without, in turn
  int n_steps = 200;      // pairs of decode steps of each kind, with and without, in turn; 0: none
  int n_requests = 1000;  // while generations are published
  bool json = false;
};

// Errors: those of MediumModel::load and Sona. The exit code is 1 if answers differed from those alone.
Result<int> bench_sona(const SonaBenchOptions& options, const ModelOptions& model);

}  // namespace ruvltra
