// Reading the bank: search, the context block, status.
#include <algorithm>

#include "base/fail.h"
#include "sona/bank_checks.h"
#include "sona/context_block.h"
#include "sona/reasoning_bank.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxHits = 1000;
constexpr size_t kMaxCandidates = 1024;  // of one search of the index

}  // namespace

Result<std::vector<PatternHit>> Bank::search(std::string_view text, size_t k, const Scope& scope,
                                             const PatternFilter& filter) {
  RETURN_IF_ERROR(check_scope(scope));
  if (k < 1 || k > kMaxHits) {
    return fail(ErrorKind::kUsage, "bank.k", "k: expected 1..{}, found {}", kMaxHits, k);
  }
  uint32_t group;
  {
    const std::lock_guard lock(mutex_);
    const auto known = groups_.find(scope.tenant);
    if (known == groups_.end()) return std::vector<PatternHit>{};
    group = known->second;
  }
  ASSIGN_OR_RETURN(const Embedding query, embedder_.embed(text, scope.tenant));
  ASSIGN_OR_RETURN(const auto ranked, rank(query, k, group, filter));
  std::vector<PatternHit> hits;
  for (PatternHit hit : ranked) {
    auto found = text_of(hit.id);
    if (!found) {
      if (is_lost(found.error())) continue;  // evicted since it was ranked, or damaged
      return tl::unexpected(std::move(found).error());
    }
    hit.title = std::move(found->title);
    hit.text = std::move(found->text);
    hits.push_back(std::move(hit));
  }
  return hits;
}

Result<std::vector<PatternHit>> Bank::rank(const Embedding& query, size_t k, uint32_t group,
                                           const PatternFilter& filter) const {
  std::shared_ptr<BankIndex> index;
  {
    const std::lock_guard lock(mutex_);
    if (query.space != space_) return std::vector<PatternHit>{};  // until work() has followed the embedder
    index = index_;
  }
  const BankGates& gates = options_.gates;
  size_t n_candidates = std::max(gates.candidates, k);
  if (filter.kind) n_candidates *= 4;  // the index does not know of kinds
  n_candidates = std::min(n_candidates, kMaxCandidates);
  ASSIGN_OR_RETURN(const auto near, index->search(query.values, static_cast<int>(n_candidates), group));
  std::vector<PatternHit> hits;
  {
    const std::lock_guard lock(mutex_);
    for (const HnswHit& found : near) {
      const auto at = entries_.find(found.id);
      if (at == entries_.end()) continue;
      const Entry& entry = at->second;
      if (entry.group != group || entry.space != query.space) continue;
      if (filter.kind && entry.kind != *filter.kind) continue;
      const bool avoid = entry.kind == PatternKind::kAvoid;
      const bool passes = avoid ? found.similarity >= gates.avoid_similarity
                                : found.similarity >= gates.similarity && entry.lcb >= gates.lcb;
      if (filter.gated && !passes) continue;
      PatternHit hit;
      hit.id = entry.id;
      hit.kind = entry.kind;
      hit.similarity = found.similarity;
      hit.lcb = entry.lcb;
      hit.score = hit.similarity * hit.lcb;
      hit.uses = entry.uses;
      hits.push_back(std::move(hit));
    }
  }
  std::sort(hits.begin(), hits.end(), [&](const PatternHit& x, const PatternHit& y) {
    const double by_x = filter.gated ? x.score : x.similarity, by_y = filter.gated ? y.score : y.similarity;
    return by_x != by_y ? by_x > by_y : x.id < y.id;
  });
  if (filter.gated) {
    size_t n_avoid = 0;
    std::erase_if(hits, [&](const PatternHit& hit) {
      return hit.kind == PatternKind::kAvoid && ++n_avoid > gates.max_avoid;
    });
  }
  if (hits.size() > k) hits.resize(k);
  return hits;
}

Result<ContextBlock> Bank::context_for(std::string_view task, const Scope& scope) {
  const BankGates& gates = options_.gates;
  // Some more than fit: in place of one whose text is too long.
  ASSIGN_OR_RETURN(const auto hits, search(task, 2 * gates.max_items, scope));
  return make_block(hits, gates.max_items, gates.max_tokens, count_tokens_);
}

Result<Bank::CachedText> Bank::text_of(const PatternId& id) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = text_at_.find(id);
    if (known != text_at_.end()) {
      texts_.splice(texts_.begin(), texts_, known->second);
      return *known->second;
    }
  }
  ASSIGN_OR_RETURN(PatternRecord record, store_.pattern(id));
  CachedText text{id, std::move(record.title), std::move(record.text)};
  cache_text(text);
  return text;
}

void Bank::cache_text(const CachedText& text) {
  const auto bytes_of = [](const CachedText& t) { return sizeof t + t.title.size() + t.text.size(); };
  const std::lock_guard lock(mutex_);
  // Not of an item that went while it was read: its text must not outlive it.
  if (find(text.id) == nullptr || text_at_.contains(text.id)) return;
  texts_.push_front(text);
  text_at_[text.id] = texts_.begin();
  text_bytes_ += bytes_of(text);
  while (text_bytes_ > options_.text_cache_bytes && !texts_.empty()) {
    text_bytes_ -= bytes_of(texts_.back());
    text_at_.erase(texts_.back().id);
    texts_.pop_back();
  }
}

size_t Bank::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

BankStatus Bank::status() const {
  BankStatus status;
  std::shared_ptr<BankIndex> index;
  {
    const std::lock_guard lock(mutex_);
    index = index_;
    status.n_patterns = entries_.size();
    for (const auto& [key, entry] : entries_) {
      status.n_strategies += entry.kind == PatternKind::kStrategy;
      status.n_corrections += entry.kind == PatternKind::kCorrection;
      status.n_avoid += entry.kind == PatternKind::kAvoid;
    }
    status.n_clusters = clustering_ == nullptr ? 0 : clustering_->centroids.size() / kEmbeddingDim;
    status.n_other_space = other_space_.size();
  }
  status.capacity = options_.capacity;
  status.index_state = index->state();
  status.index_rows = index->size();
  status.n_rebuilds = index->n_rebuilds();
  status.last_rejected = index->last_rejected();
  return status;
}

}  // namespace ruvltra
