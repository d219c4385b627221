#include "sona/token_record.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/logits.h"

namespace ruvltra {
namespace {

// Records whose mean tail decides on another K: few of them would say more of one text than of the model.
constexpr size_t kWindow = 1024;
constexpr size_t kReservedReferences = 64;

}  // namespace

TokenRecords::TokenRecords(const Options& options) : options_(options) {
  CHECK(options.n_features > 0 && options.n_rows > 0 && options.top_k > 0);
  top_k_ = options.n_rows <= kWholeVocabulary ? options.n_rows : std::min(options.top_k, options.n_rows);
  first_k_ = top_k_;
  const size_t n_ids =
      options.max_ids > 0 ? options.max_ids : options.capacity * std::min(top_k_ + 1, options.n_rows);
  heads_.reserve(options.capacity);
  begin_.reserve(options.capacity);
  features_.reserve(options.capacity * options.n_features);
  ids_.reserve(n_ids);
  log_p_.reserve(n_ids);
  heap_.reserve(options.n_rows);
  references_.reserve(kReservedReferences);
  references_.push_back(nullptr);
}

bool TokenRecords::full() const {
  return heads_.size() == options_.capacity ||
         ids_.size() + std::min(top_k_ + 1, options_.n_rows) > ids_.capacity();
}

size_t TokenRecords::n_bytes() const {
  return heads_.capacity() * (sizeof(Head) + sizeof(size_t)) + features_.capacity() * sizeof(float) +
         ids_.capacity() * (sizeof(uint32_t) + sizeof(f16_t)) + heap_.capacity() * sizeof(Candidate);
}

double TokenRecords::mean_tail() const {
  return heads_.empty() ? 0 : tail_sum_ / static_cast<double>(heads_.size());
}

uint32_t TokenRecords::reference_to(const std::shared_ptr<const Adapter>& adapter) {
  if (!adapter || adapter->is_zero()) return 0;
  for (size_t i = 1; i < references_.size(); ++i) {
    if (references_[i] == adapter) return static_cast<uint32_t>(i);
  }
  references_.push_back(adapter);
  return static_cast<uint32_t>(references_.size() - 1);
}

// The K largest logits, the lower id first where they are equal, and y: into heap_, ascending by id. One walk
// over V logits with a heap of the best K, worst on top: after a short while hardly any logit gets in.
void TokenRecords::select(std::span<const float> logits, uint32_t token) {
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  heap_.clear();
  for (uint32_t id = 0; id < options_.n_rows; ++id) {
    const Candidate candidate{logits[id], id};
    if (heap_.size() < top_k_) {
      heap_.push_back(candidate);
      std::push_heap(heap_.begin(), heap_.end(), better);
    } else if (candidate.logit > heap_.front().logit) {
      std::pop_heap(heap_.begin(), heap_.end(), better);
      heap_.back() = candidate;
      std::push_heap(heap_.begin(), heap_.end(), better);
    }
  }
  if (std::none_of(heap_.begin(), heap_.end(), [&](const Candidate& c) { return c.id == token; }))
    heap_.push_back({logits[token], token});
  std::sort(heap_.begin(), heap_.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

bool TokenRecords::add(std::span<const float> logits, uint32_t token, std::span<const float> features,
                       float hidden_norm, uint32_t reference) {
  CHECK(logits.size() >= options_.n_rows && token < options_.n_rows &&
        features.size() == options_.n_features && reference < references_.size());
  if (full()) return false;
  const double lse = log_sum_exp(logits.first(options_.n_rows));
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::isfinite(lse) || !std::isfinite(logits[token]) || !std::isfinite(hidden_norm) ||
      !std::all_of(features.begin(), features.end(), finite))
    return false;
  select(logits, token);
  double inside = 0;
  begin_.push_back(ids_.size());
  for (const Candidate& c : heap_) {
    const double log_p = static_cast<double>(c.logit) - lse;
    inside += std::exp(log_p);
    ids_.push_back(c.id);
    log_p_.push_back(f32_to_f16(static_cast<float>(log_p)));
  }
  const double tail = heap_.size() == options_.n_rows ? 0 : std::clamp(1 - inside, 0.0, 1.0);
  heads_.push_back({.token = token,
                    .n_ids = static_cast<uint32_t>(heap_.size()),
                    .lse = static_cast<float>(lse),
                    .logit = logits[token],
                    .tail = static_cast<float>(tail),
                    .hidden_norm = hidden_norm,
                    .reference = reference});
  features_.insert(features_.end(), features.begin(), features.end());
  tail_sum_ += tail;
  window_tail_ += tail;
  adapt_k();
  return true;
}

void TokenRecords::adapt_k() {
  if (++n_in_window_ < kWindow) return;
  const double mean = window_tail_ / static_cast<double>(kWindow);
  if (mean > kMaxMeanTail) top_k_ = std::min(2 * top_k_, options_.n_rows);
  if (mean < kMaxMeanTail / 4 && top_k_ > first_k_) top_k_ = std::max(first_k_, top_k_ / 2);
  n_in_window_ = 0;
  window_tail_ = 0;
}

bool TokenRecords::copy(const TokenRecords& from, size_t i) {
  CHECK(i < from.size() && from.options_.n_features == options_.n_features &&
        from.options_.n_rows == options_.n_rows);
  const TokenRecord record = from[i];
  if (heads_.size() == options_.capacity || ids_.size() + record.ids.size() > ids_.capacity()) return false;
  Head head = from.heads_[i];
  head.reference = reference_to(from.references_[head.reference]);
  heads_.push_back(head);
  begin_.push_back(ids_.size());
  features_.insert(features_.end(), record.features.begin(), record.features.end());
  ids_.insert(ids_.end(), record.ids.begin(), record.ids.end());
  log_p_.insert(log_p_.end(), record.log_p.begin(), record.log_p.end());
  tail_sum_ += static_cast<double>(head.tail);
  return true;
}

bool TokenRecords::restore(const TokenRecord& record) {
  CHECK(record.features.size() == options_.n_features && record.ids.size() == record.log_p.size());
  if (heads_.size() == options_.capacity || ids_.size() + record.ids.size() > ids_.capacity()) return false;
  heads_.push_back({.token = record.token,
                    .n_ids = static_cast<uint32_t>(record.ids.size()),
                    .lse = record.lse,
                    .logit = record.logit,
                    .tail = record.tail,
                    .hidden_norm = record.hidden_norm,
                    .reference = 0});
  begin_.push_back(ids_.size());
  features_.insert(features_.end(), record.features.begin(), record.features.end());
  ids_.insert(ids_.end(), record.ids.begin(), record.ids.end());
  log_p_.insert(log_p_.end(), record.log_p.begin(), record.log_p.end());
  tail_sum_ += static_cast<double>(record.tail);
  return true;
}

TokenRecords::KState TokenRecords::k_state() const {
  return {static_cast<double>(top_k_), static_cast<double>(n_in_window_), window_tail_};
}

void TokenRecords::set_k_state(const KState& state) {
  top_k_ = std::clamp<size_t>(static_cast<size_t>(state.top_k), 1, options_.n_rows);
  n_in_window_ = static_cast<size_t>(state.n_in_window);
  window_tail_ = state.window_tail;
}

void TokenRecords::clear() {
  heads_.clear();
  begin_.clear();
  features_.clear();
  ids_.clear();
  log_p_.clear();
  references_.resize(1);
  tail_sum_ = window_tail_ = 0;
  n_in_window_ = 0;
}

TokenRecord TokenRecords::operator[](size_t i) const {
  const Head& head = heads_[i];
  const auto& reference = references_[head.reference];
  const size_t m = options_.n_features;
  TokenRecord record;
  record.token = head.token;
  record.lse = head.lse;
  record.logit = head.logit;
  record.tail = head.tail;
  record.hidden_norm = head.hidden_norm;
  record.features = std::span(features_).subspan(i * m, m);
  record.ids = std::span(ids_).subspan(begin_[i], head.n_ids);
  record.log_p = std::span(log_p_).subspan(begin_[i], head.n_ids);
  if (reference) record.made_at = reference->b();
  return record;
}

}  // namespace ruvltra
