// Consolidation of the bank, the deep loop's part in it: duplicates are merged, the surplus is pruned, what
// is left is clustered (docs/memory.md).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sona/reasoning_bank.h"

namespace ruvltra {

struct PatternBankOptions {
  double duplicate_similarity = 0.95;  // of items of one tenant and kind
  size_t max_kmeans_steps = 25;
  size_t n_recall_probes = 200;    // items whose ten nearest are compared with an exact scan
  double max_recall_loss = 0.005;  // beyond it the index is made anew
  uint64_t seed = 1;
};

struct PruneReport {
  size_t n_before = 0, n_after = 0;
};

// Thread safety: all functions from any thread; the bank may be used meanwhile. Two consolidations exclude
// each other: the second is bank.busy.
class PatternUpkeep {
 public:
  explicit PatternUpkeep(Bank& bank, PatternBankOptions options = {}) : bank_(bank), options_(options) {}

  // Merges duplicates, prunes to the capacity, and replaces the clustering, k = clamp(sqrt(n / 2), 8, 1024),
  // in one transaction. Clusters are made of what is left, not of what is about to go. Recall is measured
  // before and after; where it fell by more than max_recall_loss the index is made anew and measured again.
  // Errors: bank.busy, store.*, index.*.
  Result<ConsolidateReport> consolidate();
  // The nearest centroid. Errors: bank.no_clusters, bank.embedding.
  Result<int32_t> cluster_of(std::span<const float> embedding) const;
  // Removes the items of the lowest LCB x recency, pinned ones last, until at most n are left. Errors:
  // store.*.
  Result<PruneReport> prune_to(size_t n);

 private:
  struct Item {
    PatternId id;
    uint32_t group = 0;
    std::vector<float> embedding;
  };
  Result<std::vector<Item>> read_items() const;  // of the present space
  Result<size_t> merge_duplicates(std::span<const Item> items);
  Result<size_t> merge_into(const Item& keeper);
  Result<void> recluster(ConsolidateReport& report);
  Result<double> recall(std::span<const Item> items) const;

  Bank& bank_;
  const PatternBankOptions options_;
  std::atomic<bool> busy_ = false;
};

}  // namespace ruvltra
