#include "sona/pattern_bank.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/fail.h"
#include "base/num.h"
#include "sona/bank_checks.h"
#include "sona/kmeans.h"

namespace ruvltra {
namespace {

constexpr size_t kPruneAtOnce = 1024;
constexpr int kNeighbours = 32;  // looked at at once for duplicates
constexpr size_t kMaxOrigins = 64;
constexpr size_t kMaxProvenanceBytes = 64;
constexpr uint32_t kPurposeProbes = 0x7072;

// What both know: counts without the prior they share, whose they are, the later use.
void absorb(PatternRecord& keeper, const PatternRecord& other) {
  keeper.a += other.a - 1;
  keeper.b += other.b - 1;
  keeper.created_us = std::min(keeper.created_us, other.created_us);
  keeper.last_used_us = std::max(keeper.last_used_us, other.last_used_us);
  keeper.uses += other.uses;
  keeper.pinned = keeper.pinned || other.pinned;
  std::set<RecordId> origins(keeper.origins.begin(), keeper.origins.end());
  origins.insert(other.origins.begin(), other.origins.end());
  keeper.origins.assign(origins.begin(), origins.end());
  if (keeper.origins.size() > kMaxOrigins) {  // ids sort by age: the latest stay
    keeper.origins.erase(keeper.origins.begin(), keeper.origins.end() - kMaxOrigins);
  }
  const std::string joined = keeper.provenance + "+" + other.provenance;
  if (keeper.provenance.find(other.provenance) == std::string::npos && joined.size() <= kMaxProvenanceBytes) {
    keeper.provenance = joined;
  }
}

}  // namespace

Result<ConsolidateReport> PatternUpkeep::consolidate() {
  if (busy_.exchange(true)) {
    return fail(ErrorKind::kBusy, "bank.busy", "the bank is being consolidated already");
  }
  struct Idle {
    std::atomic<bool>& busy;
    ~Idle() { busy = false; }
  } idle{busy_};

  ConsolidateReport report;
  report.n_before = bank_.size();
  {
    ASSIGN_OR_RETURN(const auto items, read_items());
    ASSIGN_OR_RETURN(report.recall_before, recall(items));
    ASSIGN_OR_RETURN(report.n_merged, merge_duplicates(items));
  }
  ASSIGN_OR_RETURN(const PruneReport pruned, prune_to(bank_.capacity()));
  report.n_pruned = pruned.n_before - pruned.n_after;
  RETURN_IF_ERROR(recluster(report));
  report.n_after = bank_.size();
  ASSIGN_OR_RETURN(const auto left, read_items());
  ASSIGN_OR_RETURN(report.recall_after, recall(left));
  if (report.recall_after < report.recall_before - options_.max_recall_loss) {
    RETURN_IF_ERROR(bank_.replace_index());
    ASSIGN_OR_RETURN(report.recall_after, recall(left));
  }
  return report;
}

Result<int32_t> PatternUpkeep::cluster_of(std::span<const float> embedding) const {
  RETURN_IF_ERROR(check_embedding(embedding));
  std::shared_ptr<const Bank::Clustering> clustering;
  {
    const std::lock_guard lock(bank_.mutex_);
    clustering = bank_.clustering_;
  }
  if (clustering == nullptr || clustering->space != bank_.embedder_.space()) {
    return fail("bank.no_clusters", "clusters: expected some, found none: the bank was never consolidated");
  }
  return nearest_centroid(clustering->centroids, embedding);
}

Result<PruneReport> PatternUpkeep::prune_to(size_t n) {
  PruneReport report;
  report.n_before = bank_.size();
  const Bank::Change change(bank_);
  for (;;) {
    std::vector<PatternId> lowest;
    {
      const std::lock_guard lock(bank_.mutex_);
      const size_t n_items = bank_.entries_.size();
      // Items that others have taken are left to the next turn, if there are any others.
      const size_t n_free = bank_.ranked_.size();
      const size_t n_over = n_items > n ? std::min({n_items - n, n_free, kPruneAtOnce}) : 0;
      if (n_over == 0 || !bank_.take_lowest(n_over, lowest)) break;
    }
    const Bank::Taken going(bank_, std::move(lowest));
    RETURN_IF_ERROR(bank_.commit(going.ids(), {}));
  }
  report.n_after = bank_.size();
  return report;
}

Result<std::vector<PatternUpkeep::Item>> PatternUpkeep::read_items() const {
  std::vector<Item> items;
  RETURN_IF_ERROR(bank_.store_.each_pattern([&](const PatternRecord& record) {
    const std::lock_guard lock(bank_.mutex_);
    const Bank::Entry* entry = bank_.find(record.id);
    if (entry == nullptr || entry->space != bank_.space_) return true;
    items.push_back({record.id, entry->group, record.embedding});
    return true;
  }));
  return items;
}

// Each item, the surest first, takes in the duplicates that are still there: a star around it, never a chain
// of items each only near to the next.
Result<size_t> PatternUpkeep::merge_duplicates(std::span<const Item> items) {
  std::vector<std::pair<double, const Item*>> surest;
  {
    const std::lock_guard lock(bank_.mutex_);
    for (const Item& item : items) {
      if (const Bank::Entry* entry = bank_.find(item.id)) surest.emplace_back(entry->lcb, &item);
    }
  }
  std::sort(surest.begin(), surest.end(), [](const auto& x, const auto& y) {
    return x.first != y.first ? x.first > y.first : x.second->id < y.second->id;
  });
  size_t n_merged = 0;
  for (const auto& [lcb, item] : surest) {
    for (size_t n = 1; n > 0;
         n_merged += n) {  // until no more are found: there may be more than one search shows
      ASSIGN_OR_RETURN(n, merge_into(*item));
    }
  }
  return n_merged;
}

Result<size_t> PatternUpkeep::merge_into(const Item& keeper) {
  const auto index = bank_.index();
  if (!index->contains(Bank::key_of(keeper.id))) return 0;  // merged already, or evicted
  ASSIGN_OR_RETURN(const auto near, index->search(keeper.embedding, kNeighbours, keeper.group));
  const Bank::Change change(bank_);
  std::vector<PatternId> wanted = {keeper.id}, taken;
  {
    Bank::Lock lock(bank_.mutex_);
    const Bank::Entry* kept = bank_.find(keeper.id);
    if (kept == nullptr) return 0;
    for (const HnswHit& hit : near) {
      if (hit.similarity < options_.duplicate_similarity) break;
      const auto at = bank_.entries_.find(hit.id);
      if (at == bank_.entries_.end()) continue;
      const Bank::Entry& entry = at->second;
      if (entry.id != keeper.id && entry.group == kept->group && entry.kind == kept->kind)
        wanted.push_back(entry.id);
    }
    if (wanted.size() == 1) return 0;
    taken = bank_.take(lock, wanted, &keeper.group);
  }
  const Bank::Taken merging(bank_, std::move(taken));
  const auto& ids = merging.ids();
  if (ids.size() < 2 || std::find(ids.begin(), ids.end(), keeper.id) == ids.end()) return 0;
  ASSIGN_OR_RETURN(PatternRecord merged, bank_.store_.pattern(keeper.id));
  std::vector<PatternId> others;
  for (const PatternId& id : ids) {
    if (id == keeper.id) continue;
    ASSIGN_OR_RETURN(const PatternRecord other, bank_.store_.pattern(id));
    absorb(merged, other);
    others.push_back(id);
  }
  RETURN_IF_ERROR(bank_.commit(others, {&merged, 1}));
  return others.size();
}

Result<void> PatternUpkeep::recluster(ConsolidateReport& report) {
  ASSIGN_OR_RETURN(const auto items, read_items());
  std::vector<float> points;
  points.reserve(items.size() * kEmbeddingDim);
  for (const Item& item : items) points.insert(points.end(), item.embedding.begin(), item.embedding.end());
  KMeans found;
  if (!items.empty()) {
    found = k_means(
        points, kEmbeddingDim,
        {.k = cluster_count(items.size()), .max_steps = options_.max_kmeans_steps, .seed = options_.seed});
  }
  auto clustering = std::make_shared<Bank::Clustering>();
  {
    const std::lock_guard lock(bank_.mutex_);
    clustering->space = bank_.space_;
  }
  clustering->centroids = found.centroids;
  std::vector<ClusterRecord> clusters(found.k());
  for (size_t c = 0; c < clusters.size(); ++c) {
    clusters[c].cluster = static_cast<int32_t>(c);
    clusters[c].space = clustering->space;
    const auto begin = found.centroids.begin() + static_cast<ptrdiff_t>(c * kEmbeddingDim);
    clusters[c].centroid.assign(begin, begin + kEmbeddingDim);
    clusters[c].n_members = found.n_members[c];
  }
  const auto write = [&]() -> Result<void> {
    // Items that came since they were read have no number, rather than one of the old clustering.
    std::map<PatternId, int32_t> numbers;
    for (size_t i = 0; i < items.size(); ++i) numbers[items[i].id] = found.member[i];
    std::vector<std::pair<PatternId, int32_t>> members;
    {
      const std::lock_guard lock(bank_.mutex_);
      for (const auto& [key, entry] : bank_.entries_) {
        const auto at = numbers.find(entry.id);
        members.emplace_back(entry.id, at == numbers.end() ? -1 : at->second);
      }
    }
    RETURN_IF_ERROR(bank_.store_.replace_clusters(clusters, members));
    const std::lock_guard lock(bank_.mutex_);
    bank_.clustering_ = clustering->centroids.empty() ? nullptr : std::move(clustering);
    return {};
  };
  RETURN_IF_ERROR(bank_.exclusively(write));
  report.n_clusters = clusters.size();
  report.inertia = found.inertia;
  return {};
}

// Of n_recall_probes items, drawn without regard to anything: the share of the ten nearest that the index
// finds.
Result<double> PatternUpkeep::recall(std::span<const Item> items) const {
  if (items.empty()) return 1;
  const auto index = bank_.index();
  const size_t n = std::min(options_.n_recall_probes, items.size());
  size_t n_found = 0, n_true = 0;
  for (size_t i = 0; i < n; ++i) {
    const double u = philox_uniform(options_.seed, static_cast<uint32_t>(i), 0, kPurposeProbes);
    const Item& item =
        items[std::min(static_cast<size_t>(u * static_cast<double>(items.size())), items.size() - 1)];
    ASSIGN_OR_RETURN(const auto exact, index->search_exact(item.embedding, 10, item.group));
    ASSIGN_OR_RETURN(const auto found, index->search(item.embedding, 10, item.group));
    std::set<uint64_t> keys;
    for (const HnswHit& hit : found) keys.insert(hit.id);
    for (const HnswHit& hit : exact) n_found += keys.contains(hit.id);
    n_true += exact.size();
  }
  return n_true == 0 ? 1 : static_cast<double>(n_found) / static_cast<double>(n_true);
}

}  // namespace ruvltra
