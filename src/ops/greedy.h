// The likeliest token of each row without keeping its logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "ops/matmul.h"

namespace ruvltra {

// Element of W a with the largest value, the lowest row on ties.
struct BestLogit {
  float logit = 0;
  int32_t row = -1;    // -1: every row was left out
  bool finite = true;  // false: a value of W a was NaN or infinite, and logit and row mean nothing
};

// Memory for up to max_rows activation rows, taken once.
class GreedyHead {
 public:
  static Result<GreedyHead> make(size_t max_rows, int n_threads);
  static uint64_t bytes_needed(size_t max_rows, int n_threads);

  // best[t] = the best element of row t of W a, without those in `never` (ascending). One parallel loop: each
  // thread looks through the elements it has just computed. The result is that of a search through the whole
  // row.
  void compute(const Ctx& ctx, Activations& a, const PackedMatrix& w, std::span<const int32_t> never,
               std::span<BestLogit> best, bool exact);

 private:
  size_t max_rows_ = 0;
  AlignedBuffer<float> logits_;         // (n_threads, max_rows, unit rows)
  std::vector<BestLogit> thread_best_;  // (n_threads, max_rows)
};

}  // namespace ruvltra
