// `bench --fa`: flash attention against plainer methods (ops/attention_baselines.h), at the sizes of one
// layer of the medium model. Every method runs in a process of its own, so that peak memory is its own.
#pragma once

#include <string>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

struct AttentionBenchOptions {
  std::vector<int> lengths;  // tokens; empty = not asked for
  std::string method;        // set in such a process: the one method to measure
  int n_threads = 0;
  int repetitions = 1;
  std::string isa;
  std::string form;  // md, csv, json or jsonl
  bool no_progress = false;
};

// Prints the table. Errors: isa.*, fa.process, bench.cancelled.
Result<int> bench_attention(const AttentionBenchOptions& options);

}  // namespace ruvltra
