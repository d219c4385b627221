// The bank of reusable texts: what worked, what was corrected, what to avoid (ReasoningBank, arXiv
// 2509.25140; docs/memory.md). The store is the truth; this class keeps in memory what decisions need -
// counts, times, who owns what - and an index of the embeddings.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/table.h"
#include "ruvltra/learning.h"
#include "sona/bank_index.h"
#include "sona/beta.h"
#include "sona/pattern_extract.h"
#include "sona/text_embedder.h"
#include "store/store.h"

namespace ruvltra {

// What may be put in front of a conversation.
struct BankGates {
  double similarity = 0.60, lcb = 0.25;  // of strategies and corrections
  double avoid_similarity = 0.70;        // of avoid items
  size_t max_avoid = 1;
  size_t max_items = 3, max_tokens = 512;
  size_t candidates = 32;  // nearest items that are ranked
};

struct BankOptions {
  size_t capacity = 50'000;  // 1..10,000,000; not above the store's pattern_capacity
  double quality_threshold = 0.6;
  int hnsw_m = 16, hnsw_ef_construction = 200, hnsw_ef_search = 64;
  uint64_t scan_crossover = 4096;    // up to so many vectors are compared one by one
  std::filesystem::path index_file;  // empty: the index is made anew at every start
  BankGates gates;
  size_t text_cache_bytes = 16 << 20;
  std::function<int64_t()> clock;  // microseconds since the epoch; empty: the system's
};

// Thread safety: all functions from any thread. No lock is held during store I/O, embedding or index work: an
// item that is being changed is marked as taken, and calls that need the same item wait for it.
// Invariants: (1) at most `capacity` items, in memory and in the store, at every moment; (2) a call sees
// items of its scope's tenant only; (3) what the store has not committed is not found; (4) the items found
// are those of the embedder's present space.
class Bank {
 public:
  // Reads the store's patterns and the index file; what the file does not hold is indexed by work(),
  // meanwhile searches scan. A store with more than `capacity` items is pruned. `store`, `embedder` and
  // `kernels` must outlive the bank. Errors: bank.options (usage), store.*, index.*.
  static Result<std::unique_ptr<Bank>> open(Store& store, TextEmbedder& embedder, const KernelTable& kernels,
                                            TokenCounter count_tokens, BankOptions options);

  // Keeps an item; where the bank is full, the item of the lowest LCB x recency goes (pinned ones last, the
  // oldest of equals) in the same transaction. Errors (usage): bank.tenant, bank.empty_text,
  // bank.text_too_long (bytes or tokens), bank.title_too_long, bank.utf8, bank.quality; those of the embedder
  // and the store.
  Result<PatternId> store(const PatternItem& item, const Scope& scope);
  // The items of a trajectory (pattern_extract.h) take the place of those that were made of it, and of it
  // alone, before: one of the same kind and text stays as it is, the others go, in one transaction. Items
  // merged from several trajectories stay, and those of provenance "caller". The ids are of those that stay
  // and of the new ones, in the order of extraction. Errors as store().
  Result<std::vector<PatternId>> learn_from(const TrajectoryRecord& record);

  // The k best by similarity x LCB, best first. Errors (usage): bank.tenant, bank.k (1..1000); those of the
  // embedder, the index and the store.
  Result<std::vector<PatternHit>> search(std::string_view text, size_t k, const Scope& scope,
                                         const PatternFilter& filter = {});
  // The block for a task, to be chosen once per conversation: the same items give the same bytes.
  Result<ContextBlock> context_for(std::string_view task, const Scope& scope);
  // How well it went with these items in the prompt: a += quality, b += 1 - quality. How many of them were
  // still there (and the tenant's) to be updated. Errors (usage): bank.tenant, bank.quality; store.*.
  Result<size_t> outcome(std::span<const PatternId> ids, double quality, const Scope& scope);

  // Work for an idle thread, at most about n items of it: vectors to link, erased slots to sweep, items of
  // another embedding space to embed again. How much is left. Errors: those of the embedder and the store.
  Result<size_t> work(size_t n);
  // Writes the index file. Errors: file.*, index.*.
  Result<void> checkpoint();
  // Store::delete_data() with everything of the bank that goes with it: items and cached texts are forgotten,
  // the index is made anew without their vectors, its file and the clustering are removed. No other change of
  // the bank is under way meanwhile. Errors: store.*, file.*, index.*.
  Result<DeleteReport> delete_data(std::string_view tenant, const std::optional<std::string>& session = {});
  // Reads everything from the store again: after an import. work() does so itself when the embedder's space
  // changed. Errors: store.*, index.*.
  Result<void> reload();

  size_t size() const;
  size_t capacity() const { return options_.capacity; }
  BankStatus status() const;

 private:
  friend class PatternUpkeep;

  // What decisions need of an item; its text stays in the store.
  struct Entry {
    PatternId id;
    RecordId origin;  // the only trajectory it was made of, or none
    uint32_t group = 0;
    PatternKind kind = PatternKind::kStrategy;
    bool pinned = false;
    bool taken = false;  // somebody is changing it
    uint64_t space = 0;
    BetaCounts beta;
    double lcb = 0;
    int64_t last_used_us = 0;
    uint32_t uses = 0;
    uint64_t vector_checksum = 0;
  };
  // Who goes first: the smallest.
  struct Rank {
    bool pinned;
    double value;  // lasting_value()
    PatternId id;
    auto operator<=>(const Rank&) const = default;
  };
  struct CachedText {
    PatternId id;
    std::string title, text;
  };
  struct Clustering {
    uint64_t space = 0;
    std::vector<float> centroids;  // (n, kEmbeddingDim)
  };
  using Lock = std::unique_lock<std::mutex>;

  Bank(Store& store, TextEmbedder& embedder, const KernelTable& kernels, TokenCounter count_tokens,
       BankOptions options);
  // All of memory and index from the store, with nothing else under way. Prunes to the capacity.
  Result<void> load();
  // Counts a change as under way; waits while exclusively() runs.
  class Change {
   public:
    explicit Change(Bank& bank);
    ~Change();
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

   private:
    Bank& bank_;
  };
  // Puts taken items back when it ends; those that are gone by then stay gone.
  class Taken {
   public:
    Taken(Bank& bank, std::vector<PatternId> ids) : bank_(bank), ids_(std::move(ids)) {}
    ~Taken();
    Taken(const Taken&) = delete;
    Taken& operator=(const Taken&) = delete;
    const std::vector<PatternId>& ids() const { return ids_; }

   private:
    Bank& bank_;
    const std::vector<PatternId> ids_;
  };
  // Runs `body` while no change is under way and none begins.
  Result<void> exclusively(const std::function<Result<void>()>& body);

  Result<PatternRecord> make_record(const PatternItem& item, const Scope& scope);
  // `replaced` go as far as they are still made of `origin` alone.
  Result<void> insert(std::vector<PatternRecord> records, std::span<const PatternId> replaced = {},
                      const RecordId& origin = {});
  // Marks as taken what an insertion of n removes: `replaced`, and the lowest where there is no room. False,
  // and nothing is marked, while others have some of them.
  bool take_places(size_t n, std::span<const PatternId> replaced, const RecordId& origin,
                   std::vector<PatternId>& taken);
  Result<std::vector<PatternRecord>> made_of(const TrajectoryRecord& trajectory);
  // Marks items as taken: the n of the lowest rank (false while too few are free), or those of `ids` that
  // exist and are of `group` (if given), waiting for whoever has them.
  bool take_lowest(size_t n, std::vector<PatternId>& taken);
  std::vector<PatternId> take(Lock& lock, std::span<const PatternId> ids, const uint32_t* group);
  void put_back(std::span<const PatternId> ids);
  // In one transaction, and then in memory and the index: `remove`, which are taken, go; `put` are new or
  // replace taken ones, which stay taken. `reserved` is given back to n_reserved_. On an error of the store
  // nothing is changed.
  Result<void> commit(std::span<const PatternId> remove, std::span<const PatternRecord> put,
                      int64_t reserved = 0);
  size_t forget_lost(std::span<const PatternId> taken);
  Result<void> index_record(const PatternRecord& record);
  Result<size_t> reembed(size_t n);
  Result<void> replace_index();

  Entry* find(const PatternId& id);  // with mutex_ held, as the five below
  void drop_entry(const PatternId& id);
  void leave_origin(const Entry& entry);
  uint32_t group_of(const std::string& tenant);
  void add_entry(const PatternRecord& record, bool taken);
  static Rank rank_of(const Entry& entry);

  static uint64_t key_of(const PatternId& id);
  static BankVector vector_of(const PatternRecord& record, uint32_t group);
  int64_t now() const;
  std::shared_ptr<BankIndex> index() const;
  Result<std::vector<PatternHit>> rank(const Embedding& query, size_t k, uint32_t group,
                                       const PatternFilter& filter) const;
  Result<CachedText> text_of(const PatternId& id);
  void cache_text(const CachedText& text);

  Store& store_;
  TextEmbedder& embedder_;
  const TokenCounter count_tokens_;
  const BankOptions options_;
  const KernelTable& kernels_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // an item was put back, or a change ended
  std::shared_ptr<BankIndex> index_;
  uint64_t space_ = 0;                           // of the index
  std::unordered_map<uint64_t, Entry> entries_;  // by key_of(id)
  std::set<Rank> ranked_;                        // of the items not taken
  std::map<std::string, uint32_t, std::less<>> groups_;
  std::set<uint32_t> used_groups_;
  std::set<PatternId> other_space_;
  std::map<RecordId, std::set<PatternId>> made_of_;  // by Entry::origin
  std::set<RecordId> learning_;                      // trajectories that learn_from() has under way
  int64_t n_reserved_ = 0;  // rows that insertions under way add, less those they remove
  size_t n_changes_ = 0;    // under way
  bool exclusive_ = false;
  std::shared_ptr<const Clustering> clustering_;
  std::list<CachedText> texts_;  // first: used last
  std::map<PatternId, std::list<CachedText>::iterator> text_at_;
  size_t text_bytes_ = 0;
};

}  // namespace ruvltra
