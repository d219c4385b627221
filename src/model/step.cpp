#include "model/step.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace ruvltra {

void StepRows::reserve(size_t n_rows, size_t n_sequences) {
  tokens_.reserve(n_rows);
  positions_.reserve(n_rows);
  seq_of_.reserve(n_rows);
  slots_.reserve(n_rows);
  wanted_.reserve(n_rows);
  sequences_.reserve(n_sequences);
}

void StepRows::clear() {
  tokens_.clear();
  positions_.clear();
  seq_of_.clear();
  slots_.clear();
  wanted_.clear();
  sequences_.clear();
}

void StepRows::add(std::span<const TokenId> tokens, size_t first_position, std::span<const PageId> pages,
                   bool writes, const AdapterView* adapter) {
  const auto sequence = static_cast<int32_t>(sequences_.size());
  sequences_.push_back({pages, adapter});
  for (size_t t = 0; t < tokens.size(); ++t) {
    const size_t position = first_position + t;
    const PageId page = writes ? pages[position / kPageTokens] : kNoPage;
    tokens_.push_back(tokens[t]);
    positions_.push_back(static_cast<int32_t>(position));
    seq_of_.push_back(sequence);
    slots_.push_back({page, static_cast<int32_t>(position % kPageTokens)});
    wanted_.push_back(RowOutput::kNone);
  }
}

void StepRows::want_last(RowOutput form, size_t n) {
  CHECK(n <= wanted_.size());
  std::fill(wanted_.end() - static_cast<std::ptrdiff_t>(n), wanted_.end(), form);
}

void StepRows::want_all(RowOutput form) { std::fill(wanted_.begin(), wanted_.end(), form); }

void StepRows::change(RowOutput from, RowOutput to) {
  std::replace(wanted_.begin(), wanted_.end(), from, to);
}

StepInput StepRows::input() const {
  StepInput in;
  in.tokens = tokens_;
  in.positions = positions_;
  in.seq_of = seq_of_;
  in.kv_slots = slots_;
  in.rows_wanted = wanted_;
  in.sequences = sequences_;
  return in;
}

SingleSequence::SingleSequence(size_t first_page, size_t n_pages) : pages_(n_pages) {
  std::iota(pages_.begin(), pages_.end(), static_cast<PageId>(first_page));
}

void SingleSequence::truncate(size_t n_tokens) {
  CHECK(n_tokens <= n_tokens_);
  n_tokens_ = n_tokens;
}

StepInput SingleSequence::append(std::span<const TokenId> tokens, Rows rows, RowOutput form) {
  CHECK(n_tokens_ + tokens.size() <= capacity());
  rows_.clear();
  rows_.add(tokens, n_tokens_, pages_, true, adapter_);
  n_tokens_ += tokens.size();
  if (rows == Rows::kAll) rows_.want_all(form);
  if (rows == Rows::kLast && !tokens.empty()) rows_.want_last(form);
  return rows_.input();
}

}  // namespace ruvltra
