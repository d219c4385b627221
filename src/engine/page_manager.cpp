#include "engine/page_manager.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/check.h"

namespace ruvltra {

PageManager::PageManager(size_t n_pages) : pages_(n_pages), index_(n_pages) {
  CHECK(n_pages <= static_cast<size_t>(std::numeric_limits<PageId>::max()));
  free_.reserve(n_pages);
  for (size_t id = n_pages; id-- > 0;) free_.push_back(static_cast<PageId>(id));
}

// ---- The prefix cache.

// A key is 32 bytes of SHA-256, yet what it stands for is compared too: a hit must never be wrong.
bool PageManager::holds(PageId id, const PageTable& table, size_t p, std::span<const TokenId> tokens) const {
  const Page& found = page(id);
  const auto wanted = tokens.subspan(p * kPageTokens, kPageTokens);
  return found.parent == table.chain.parent(p) &&
         std::equal(wanted.begin(), wanted.end(), found.tokens.begin());
}

PageId PageManager::find(const PageTable& table, size_t p, std::span<const TokenId> tokens) const {
  if (p >= table.chain.n_pages() || (p + 1) * kPageTokens > tokens.size()) return kNoPage;
  const PageId id = index_.find(table.chain.key(p));
  return id != kNoPage && holds(id, table, p, tokens) ? id : kNoPage;
}

PageManager::Match PageManager::match(const PageTable& table, std::span<const TokenId> tokens) const {
  Match match;
  if (table.n_tokens != table.pages.size() * kPageTokens) return match;
  while (true) {
    const PageId id = find(table, table.pages.size() + match.n_pages, tokens);
    if (id == kNoPage) return match;
    ++match.n_pages;
    match.n_evictable += page(id).n_holders == 0;
  }
}

size_t PageManager::adopt(PageTable& table, std::span<const TokenId> tokens) {
  const Match found = match(table, tokens);
  for (size_t n = 0; n < found.n_pages; ++n) {
    const PageId id = find(table, table.pages.size(), tokens);
    hold(id);
    table.pages.push_back(id);
  }
  table.n_published += found.n_pages;
  table.n_tokens += found.n_pages * kPageTokens;
  return found.n_pages * kPageTokens;
}

void PageManager::publish(PageTable& table, std::span<const TokenId> tokens) {
  table.chain.extend(hash_, tokens.first(table.n_tokens));
  for (size_t& p = table.n_published; (p + 1) * kPageTokens <= table.n_tokens; ++p) {
    const PageId own = table.pages[p];
    const PageId named = index_.find(table.chain.key(p));
    if (named == own) continue;
    if (named == kNoPage) {
      name(own, table, p, tokens);
    } else {
      if (!holds(named, table, p, tokens)) return;
      hold(named);
      let_go(own);
      table.pages[p] = named;
    }
  }
}

void PageManager::name(PageId id, const PageTable& table, size_t p, std::span<const TokenId> tokens) {
  Page& it = page(id);
  it.published = true;
  it.key = table.chain.key(p);
  it.parent = table.chain.parent(p);
  std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(p * kPageTokens), kPageTokens, it.tokens.begin());
  index_.insert(it.key, id);
  ++n_published_;
}

void PageManager::drop_cache() {
  while (n_evictable_ > 0) free_.push_back(evict_oldest());
}

// ---- Pages of a sequence.

// The page that the next position falls into has begun, and others see it.
bool PageManager::must_copy(const PageTable& table) const {
  if (table.n_tokens % kPageTokens == 0) return false;
  const Page& last = page(table.pages[table.n_tokens / kPageTokens]);
  return last.published || last.n_holders > 1;
}

size_t PageManager::n_needed(const PageTable& table, size_t n_new) const {
  if (n_new == 0) return 0;
  const size_t n_total = std::max(pages_for(table.n_tokens + n_new), table.pages.size());
  return n_total - table.pages.size() + (must_copy(table) ? 1 : 0);
}

size_t PageManager::room(const PageTable& table) const {
  const size_t n_copied = must_copy(table) ? 1 : 0;
  if (n_available() < n_copied) return 0;
  return (table.pages.size() + n_available() - n_copied) * kPageTokens - table.n_tokens;
}

bool PageManager::reserve(PageTable& table, size_t n_new, std::vector<PageWork>& work) {
  if (n_needed(table, n_new) > n_available()) return false;
  if (n_new == 0) return true;
  if (must_copy(table)) copy_last_page(table, work);
  while (table.pages.size() < pages_for(table.n_tokens + n_new)) {
    table.pages.push_back(take_clean(table.tenant, work));
  }
  return true;
}

void PageManager::copy_last_page(PageTable& table, std::vector<PageWork>& work) {
  const size_t p = table.n_tokens / kPageTokens;
  const PageId copy = take();
  page(copy).tenant = table.tenant;
  work.push_back({.from = table.pages[p], .to = copy});
  let_go(table.pages[p]);
  table.pages[p] = copy;
}

void PageManager::commit(PageTable& table, size_t n_new) {
  table.n_tokens += n_new;
  CHECK(table.n_tokens <= table.pages.size() * kPageTokens);
}

void PageManager::truncate(PageTable& table, size_t n_tokens) {
  CHECK(n_tokens <= table.n_tokens);
  // From the end: a page enters the eviction list before its parent.
  for (; table.pages.size() > pages_for(n_tokens); table.pages.pop_back()) let_go(table.pages.back());
  table.n_tokens = n_tokens;
  table.n_published = std::min(table.n_published, n_tokens / kPageTokens);
}

void PageManager::fork(const PageTable& parent, PageTable& child) {
  CHECK(child.pages.empty() && parent.pages.size() == pages_for(parent.n_tokens));
  for (const PageId id : parent.pages) hold(id);
  child = parent;
}

// ---- Single pages.

PageId PageManager::take() {
  PageId id;
  if (free_.empty()) {
    id = evict_oldest();
  } else {
    id = free_.back();
    free_.pop_back();
  }
  page(id).n_holders = 1;
  return id;
}

// No bit of one tenant's conversation is left in a page that another one gets.
PageId PageManager::take_clean(TenantId tenant, std::vector<PageWork>& work) {
  const PageId id = take();
  Page& it = page(id);
  if (it.tenant != tenant && it.tenant != kNobody) work.push_back({.from = kNoPage, .to = id});
  it.tenant = tenant;
  return id;
}

void PageManager::hold(PageId id) {
  Page& it = page(id);
  if (it.n_holders == 0) unlink(id);
  if (++it.n_holders == 2) ++n_shared_;
}

void PageManager::let_go(PageId id) {
  Page& it = page(id);
  CHECK(it.n_holders > 0);
  if (--it.n_holders == 1) --n_shared_;
  if (it.n_holders > 0) return;
  if (it.published) {
    link_newest(id);
  } else {
    free_.push_back(id);
  }
}

PageId PageManager::evict_oldest() {
  const PageId id = oldest_;
  CHECK(id != kNoPage);
  unlink(id);
  index_.erase(page(id).key);
  page(id).published = false;
  --n_published_;
  ++n_evictions_;
  return id;
}

void PageManager::link_newest(PageId id) {
  page(id).older = newest_;
  page(id).newer = kNoPage;
  (newest_ == kNoPage ? oldest_ : page(newest_).newer) = id;
  newest_ = id;
  ++n_evictable_;
}

void PageManager::unlink(PageId id) {
  const auto [older, newer] = std::pair(page(id).older, page(id).newer);
  (older == kNoPage ? oldest_ : page(older).newer) = newer;
  (newer == kNoPage ? newest_ : page(newer).older) = older;
  --n_evictable_;
}

// ---- Numbers and proof.

PageCounts PageManager::counts() const {
  return {.n_pages = pages_.size(),
          .free = free_.size(),
          .in_use = pages_.size() - free_.size() - n_published_,
          .published = n_published_,
          .evictable = n_evictable_,
          .shared = n_shared_,
          .evictions = n_evictions_};
}

std::string PageManager::first_fault(std::span<const PageTable* const> tables) const {
  std::vector<int32_t> n_entries(pages_.size()), n_free(pages_.size()), n_listed(pages_.size());
  for (const PageTable* table : tables) {
    if (table->pages.size() < pages_for(table->n_tokens)) return "a table does not cover its tokens";
    for (size_t p = 0; p < table->pages.size(); ++p) {
      const Page& it = page(table->pages[p]);
      ++n_entries[static_cast<size_t>(table->pages[p])];
      if (p < table->n_published && !(it.published && it.key == table->chain.key(p))) {
        return fmt::format("page {}: not the one its table names", table->pages[p]);
      }
      if (p >= pages_for(table->n_tokens) && (it.published || it.n_holders != 1)) {
        return fmt::format("page {}: reserved for writing, but not private", table->pages[p]);
      }
    }
  }
  for (const PageId id : free_) ++n_free[static_cast<size_t>(id)];
  std::set<Sha256Digest> older;
  for (PageId id = oldest_; id != kNoPage; id = page(id).newer) {
    ++n_listed[static_cast<size_t>(id)];
    if (older.contains(page(id).parent)) return fmt::format("page {}: its parent is evicted first", id);
    older.insert(page(id).key);
  }
  size_t n_published = 0, n_shared = 0;
  for (size_t at = 0; at < pages_.size(); ++at) {
    const Page& it = pages_[at];
    const auto id = static_cast<PageId>(at);
    if (it.n_holders != n_entries[at]) {
      return fmt::format("page {}: {} holders, {} table entries", id, it.n_holders, n_entries[at]);
    }
    if (n_free[at] != (it.n_holders == 0 && !it.published)) return fmt::format("page {}: free list", id);
    if (n_listed[at] != (it.n_holders == 0 && it.published)) return fmt::format("page {}: eviction list", id);
    if ((index_.find(it.key) == id) != it.published) return fmt::format("page {}: index", id);
    n_published += it.published;
    n_shared += it.n_holders > 1;
  }
  if (n_published != n_published_ || n_shared != n_shared_ || older.size() != n_evictable_) return "counters";
  return {};
}

}  // namespace ruvltra
