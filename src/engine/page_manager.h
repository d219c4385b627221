// Who owns which KV page: reference counts, copy-on-write, prefix cache. Policy only: the memory is KvPool,
// and what is to be done to it is returned as PageWork.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "engine/prefix_cache.h"
#include "kernels/attention.h"
#include "ops/kv_layer.h"

namespace ruvltra {

using TenantId = uint64_t;

inline size_t pages_for(size_t n_tokens) { return (n_tokens + kPageTokens - 1) / kPageTokens; }

// The pages of one sequence. Written by PageManager alone, apart from `tenant` and `chain` at the start.
struct PageTable {
  TenantId tenant = 0;
  PrefixChain chain;          // names of the full pages
  std::vector<PageId> pages;  // pages[p] holds positions 64 p .. 64 p + 63
  size_t n_tokens = 0;        // positions whose K and V are in the cache
  size_t n_published = 0;     // leading pages that are published

  // Where a row of this step writes its K and V: nowhere if the position is in the cache already.
  // *Requires*: a page is reserved for the position.
  KvSlot slot(size_t position) const {
    if (position < n_tokens) return {};
    return {pages[position / kPageTokens], static_cast<int32_t>(position % kPageTokens)};
  }
};

// To be done to the pool before the step, in the given order.
struct PageWork {
  PageId from = kNoPage;  // copy this page, all layers; kNoPage: fill with zeros
  PageId to = kNoPage;
};

struct PageCounts {
  size_t n_pages = 0;  // free + in_use + published
  size_t free = 0;
  size_t in_use = 0;       // held by sequences and not published
  size_t published = 0;    // named by the prefix cache, held or not
  size_t evictable = 0;    // published and held by nobody
  size_t shared = 0;       // held more than once
  uint64_t evictions = 0;  // since the start
};

// A page is free -> private (one writer) -> published (full, named, never written again) -> free.
// Thread safety: none. Memory is taken once; every call costs O(pages it touches).
// Invariants (first_fault() checks them):
// 1. The holders of all pages sum up to the entries of all tables; free + private + published = pool.
// 2. Only a private page with one holder is written.
// 3. A published page is full of positions that were computed and kept.
// 4. The index names exactly the published pages; those without holder are exactly the eviction list.
// 5. In that list a page comes before its parent: a chain is evicted from its end.
class PageManager {
 public:
  explicit PageManager(size_t n_pages);

  // A table takes over published pages that continue it, as far as `tokens`, the whole sequence, agrees.
  // Returns the tokens gained. *Requires*: table.chain covers `tokens`.
  size_t adopt(PageTable& table, std::span<const TokenId> tokens);
  // What adopt() would take, and how many of these pages count as available now.
  struct Match {
    size_t n_pages = 0;
    size_t n_evictable = 0;
  };
  Match match(const PageTable& table, std::span<const TokenId> tokens) const;

  // Pages that n_new further positions take from available(), copies of shared pages included.
  size_t n_needed(const PageTable& table, size_t n_new) const;
  size_t n_available() const { return free_.size() + n_evictable_; }
  // The most further positions that reserve() would grant.
  size_t room(const PageTable& table) const;
  // Makes the next n_new positions writable. False, and nothing changed, if n_needed() exceeds n_available().
  bool reserve(PageTable& table, size_t n_new, std::vector<PageWork>& work);

  // The step has written n_new positions.
  void commit(PageTable& table, size_t n_new);
  // Names the pages that are full now. Where another sequence was faster with the same page, its page is
  // taken and the own one given back. `tokens` are those of the whole sequence, at least table.n_tokens.
  void publish(PageTable& table, std::span<const TokenId> tokens);
  // Keeps n_tokens positions; gives back pages wholly beyond them. *Requires*: n_tokens <= table.n_tokens.
  void truncate(PageTable& table, size_t n_tokens);
  // `child`, an empty table, comes to share all pages. Whoever writes to a shared page gets a copy; the last
  // holder keeps the original. *Requires*: the parent's full pages are published, or neither table publishes.
  void fork(const PageTable& parent, PageTable& child);
  // Gives everything back. Published pages stay in the cache until they are evicted.
  void release(PageTable& table) { truncate(table, 0); }
  // Forgets every published page that nobody holds.
  void drop_cache();

  PageCounts counts() const;
  // The invariants above, given all tables in use; empty if they hold. For tests: it allocates.
  std::string first_fault(std::span<const PageTable* const> tables) const;

 private:
  static constexpr TenantId kNobody = std::numeric_limits<TenantId>::max();
  struct Page {
    int32_t n_holders = 0;
    bool published = false;
    TenantId tenant = kNobody;  // whose bits it holds
    Sha256Digest key = {}, parent = {};
    std::array<TokenId, kPageTokens> tokens = {};
    PageId older = kNoPage, newer = kNoPage;  // neighbours in the eviction list
  };
  const Page& page(PageId id) const { return pages_[static_cast<size_t>(id)]; }
  Page& page(PageId id) { return pages_[static_cast<size_t>(id)]; }
  bool holds(PageId id, const PageTable& table, size_t p, std::span<const TokenId> tokens) const;
  PageId find(const PageTable& table, size_t p, std::span<const TokenId> tokens) const;
  bool must_copy(const PageTable& table) const;
  PageId take();
  PageId take_clean(TenantId tenant, std::vector<PageWork>& work);
  void copy_last_page(PageTable& table, std::vector<PageWork>& work);
  void name(PageId id, const PageTable& table, size_t p, std::span<const TokenId> tokens);
  void hold(PageId id);
  void let_go(PageId id);
  PageId evict_oldest();
  void link_newest(PageId id);
  void unlink(PageId id);

  std::vector<Page> pages_;
  std::vector<PageId> free_;  // the last one is taken next
  PageIndex index_;
  Sha256 hash_;
  PageId oldest_ = kNoPage, newest_ = kNoPage;  // the eviction list
  size_t n_evictable_ = 0;                      // its length
  size_t n_published_ = 0;
  size_t n_shared_ = 0;
  uint64_t n_evictions_ = 0;
};

}  // namespace ruvltra
