// `bench --spec`: what speculative decoding gains, over tasks, temperatures and sources of drafts, beside
// what its formula allows (docs/speculation.md).
#pragma once

#include <string>
#include <vector>

#include "options.h"
#include "ruvltra/error.h"

namespace ruvltra {

struct SpecBenchOptions {
  ModelOptions model;
  std::string draft;  // path; empty: prompt lookup alone
  std::vector<std::string> tasks = {"story", "edit", "noise"};
  std::vector<double> temperatures = {0, 0.5, 1};
  std::vector<std::string> sources = {"auto"};  // ngram, draft, auto
  std::vector<int> lookaheads = {0};            // 0 = adaptive
  std::vector<double> cut_offs = {0.7};         // of the draft's own probability, where it is not measured
  int n_tokens = 128;                           // of an answer
  int repetitions = 5;
  std::string form;  // md, csv, json or jsonl
};

// Prints the table. Errors: those of loading, draft.*, bench.spec_*, bench.cancelled.
Result<int> bench_speculation(SpecBenchOptions options);

}  // namespace ruvltra
