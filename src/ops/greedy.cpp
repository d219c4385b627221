#include "ops/greedy.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/check.h"

namespace ruvltra {
namespace {

constexpr size_t kUnitPanels = 8;
constexpr size_t kUnitRows = kUnitPanels * kPanelRows;

bool is_better(float logit, int32_t row, const BestLogit& best) {
  return best.row < 0 || logit > best.logit || (logit == best.logit && row < best.row);
}

// Looks through logits of rows first_row, first_row + 1, ...
void look_through(std::span<float> logits, size_t first_row, std::span<const int32_t> never,
                  BestLogit& best) {
  uint32_t largest_magnitude = 0;  // as bit patterns: infinities and NaNs are the top
  for (const float logit : logits)
    largest_magnitude = std::max(largest_magnitude, std::bit_cast<uint32_t>(logit) & 0x7fffffffu);
  best.finite &= largest_magnitude < 0x7f800000u;
  const auto first = static_cast<int32_t>(first_row);
  for (auto id = std::lower_bound(never.begin(), never.end(), first);
       id != never.end() && static_cast<size_t>(*id - first) < logits.size(); ++id) {
    logits[static_cast<size_t>(*id - first)] = -std::numeric_limits<float>::infinity();
  }
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (*largest == -std::numeric_limits<float>::infinity()) return;
  const auto row = static_cast<int32_t>(first + (largest - logits.begin()));
  if (is_better(*largest, row, best)) best = {*largest, row, best.finite};
}

}  // namespace

Result<GreedyHead> GreedyHead::make(size_t max_rows, int n_threads) {
  GreedyHead head;
  head.max_rows_ = max_rows;
  const size_t n = static_cast<size_t>(n_threads) * max_rows;
  ASSIGN_OR_RETURN(head.logits_, AlignedBuffer<float>::make(n * kUnitRows));
  head.thread_best_.resize(n);
  return head;
}

uint64_t GreedyHead::bytes_needed(size_t max_rows, int n_threads) {
  return static_cast<uint64_t>(n_threads) * max_rows * (kUnitRows * sizeof(float) + sizeof(BestLogit));
}

void GreedyHead::compute(const Ctx& ctx, Activations& a, const PackedMatrix& w,
                         std::span<const int32_t> never, std::span<BestLogit> best, bool exact) {
  const size_t n = a.n_tokens();
  CHECK(n <= max_rows_ && best.size() == n);
  a.prepare(ctx, activation_format(w.type(), exact));
  std::fill(thread_best_.begin(), thread_best_.end(), BestLogit{});
  const size_t n_units = (w.n_panels() + kUnitPanels - 1) / kUnitPanels;
  ctx.pool->parallel_for(n_units, [&](size_t unit, int thread) {
    const size_t row = unit * kUnitRows;
    const size_t n_unit_rows = std::min(kUnitRows, w.n_rows() - row);
    const size_t own = static_cast<size_t>(thread) * max_rows_;
    float* logits = logits_.data() + own * kUnitRows;  // (n, unit rows)
    matmul_panels(ctx, a, {.w = &w, .y = logits, .y_stride = kUnitRows, .first_row = row}, unit * kUnitPanels,
                  std::min(w.n_panels(), (unit + 1) * kUnitPanels), exact);
    for (size_t t = 0; t < n; ++t)
      look_through({logits + t * kUnitRows, n_unit_rows}, row, never, thread_best_[own + t]);
  });
  for (size_t t = 0; t < n; ++t) {
    best[t] = {};
    for (size_t i = t; i < thread_best_.size(); i += max_rows_) {
      const BestLogit& found = thread_best_[i];
      best[t].finite &= found.finite;
      if (found.row >= 0 && is_better(found.logit, found.row, best[t]))
        best[t] = {found.logit, found.row, best[t].finite};
    }
  }
}

}  // namespace ruvltra
