#include "model/step.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace ruvltra {

SingleSequence::SingleSequence(size_t first_page, size_t n_pages) : pages_(n_pages) {
  std::iota(pages_.begin(), pages_.end(), static_cast<PageId>(first_page));
}

void SingleSequence::truncate(size_t n_tokens) {
  CHECK(n_tokens <= n_tokens_);
  n_tokens_ = n_tokens;
}

StepInput SingleSequence::append(std::span<const TokenId> tokens, Rows rows, RowOutput form) {
  const size_t n = tokens.size();
  CHECK(n_tokens_ + n <= capacity());
  positions_.resize(n);
  slots_.resize(n);
  seq_of_.assign(n, 0);
  wanted_.assign(n, rows == Rows::kAll ? form : RowOutput::kNone);
  if (rows == Rows::kLast && n > 0) wanted_.back() = form;
  for (size_t t = 0; t < n; ++t) {
    const size_t position = n_tokens_ + t;
    positions_[t] = static_cast<int32_t>(position);
    slots_[t] = {pages_[position / kPageTokens], static_cast<int32_t>(position % kPageTokens)};
  }
  n_tokens_ += n;
  view_.pages = pages_;
  StepInput step;
  step.tokens = tokens;
  step.positions = positions_;
  step.seq_of = seq_of_;
  step.kv_slots = slots_;
  step.rows_wanted = wanted_;
  step.sequences = {&view_, 1};
  return step;
}

}  // namespace ruvltra
