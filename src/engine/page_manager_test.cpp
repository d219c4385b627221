#include "engine/page_manager.h"

#include <gtest/gtest.h>

#include <numeric>

namespace ruvltra {
namespace {

// A pool with some tables, whose invariants are checked after every test.
class PageManagerTest : public ::testing::Test {
 protected:
  using Work = std::vector<PageWork>;

  // A table over `tokens` that has computed the first n_computed of them.
  PageTable& open(std::vector<TokenId> tokens, size_t n_computed = 0, TenantId tenant = 1) {
    auto& [table, text] = *tables_.emplace_back(std::make_unique<Entry>());
    text = std::move(tokens);
    table.tenant = tenant;
    table.chain.reset({});
    table.chain.extend(hash_, text);
    pages_.adopt(table, text);
    if (n_computed > table.n_tokens) {
      EXPECT_TRUE(pages_.reserve(table, n_computed - table.n_tokens, work_));
      pages_.commit(table, n_computed - table.n_tokens);
      pages_.publish(table, text);
    }
    return table;
  }
  static std::vector<TokenId> text(size_t n_tokens, TokenId first = 0) {
    std::vector<TokenId> tokens(n_tokens);
    std::iota(tokens.begin(), tokens.end(), first);
    return tokens;
  }
  void TearDown() override {
    std::vector<const PageTable*> tables;
    for (const auto& entry : tables_) tables.push_back(&entry->table);
    EXPECT_EQ(pages_.first_fault(tables), "");
    for (const auto& entry : tables_) pages_.release(entry->table);
    EXPECT_EQ(pages_.n_available(), kPages);
    pages_.drop_cache();
    EXPECT_EQ(pages_.counts().free, kPages);
    EXPECT_EQ(pages_.first_fault({}), "");
  }

  static constexpr size_t kPages = 6;
  struct Entry {
    PageTable table;
    std::vector<TokenId> tokens;
  };
  Sha256 hash_;
  PageManager pages_{kPages};
  std::vector<std::unique_ptr<Entry>> tables_;
  Work work_;
};

TEST_F(PageManagerTest, FullPagesArePublishedPartialOnesNot) {
  PageTable& table = open(text(130), 127);
  EXPECT_EQ(table.pages.size(), 2u);
  EXPECT_EQ(table.n_published, 1u);
  EXPECT_EQ(pages_.counts().published, 1u);
  EXPECT_EQ(pages_.counts().in_use, 1u);
  EXPECT_TRUE(work_.empty());
}

TEST_F(PageManagerTest, ASecondSequenceTakesWhatAgrees) {
  const PageTable& first = open(text(200), 200);
  std::vector<TokenId> similar = text(200);
  similar[130] = 9999;
  EXPECT_EQ(open(text(200)).n_tokens, 192u);
  const PageTable& second = open(similar);
  EXPECT_EQ(second.n_tokens, 128u);
  EXPECT_EQ(second.pages, std::vector(first.pages.begin(), first.pages.begin() + 2));
  EXPECT_EQ(open(text(200, 1)).n_tokens, 0u);
  EXPECT_EQ(open(text(63)).n_tokens, 0u);
  EXPECT_EQ(pages_.counts().shared, 3u);
}

// A key that lies about its tokens finds nothing.
TEST_F(PageManagerTest, HitsCompareTokens) {
  open(text(64), 64);
  PageTable table;
  table.chain.reset({});
  table.chain.extend(hash_, text(64));
  EXPECT_EQ(pages_.match(table, text(64)).n_pages, 1u);
  EXPECT_EQ(pages_.match(table, text(64, 5)).n_pages, 0u);
}

TEST_F(PageManagerTest, RootsSeparate) {
  open(text(64), 64);
  PageTable table;
  table.chain.reset(prefix_root({}));
  table.chain.extend(hash_, text(64));
  EXPECT_EQ(pages_.match(table, text(64)).n_pages, 0u);
}

TEST_F(PageManagerTest, TheSecondPublisherTakesTheFirstsPage) {
  PageTable& first = open(text(70));
  PageTable& second = open(text(70));
  for (PageTable* table : {&first, &second}) {
    ASSERT_TRUE(pages_.reserve(*table, 70, work_));
    pages_.commit(*table, 70);
  }
  EXPECT_EQ(pages_.counts().in_use, 4u);
  EXPECT_NE(first.pages[0], second.pages[0]);
  pages_.publish(first, text(70));
  pages_.publish(second, text(70));
  EXPECT_EQ(first.pages[0], second.pages[0]);
  EXPECT_NE(first.pages[1], second.pages[1]);
  EXPECT_EQ(pages_.counts().free, kPages - 3);
}

TEST_F(PageManagerTest, ForkCopiesThePartialPageWhenItIsWritten) {
  PageTable& parent = open(text(100), 100);
  const std::vector<PageId> original = parent.pages;
  PageTable& child = open({});
  pages_.fork(parent, child);
  EXPECT_EQ(pages_.counts().free, kPages - 2);
  EXPECT_EQ(pages_.n_needed(child, 1), 1u);
  EXPECT_EQ(pages_.n_needed(parent, 29), 2u);
  ASSERT_TRUE(pages_.reserve(child, 1, work_));
  ASSERT_EQ(work_.size(), 1u);
  EXPECT_EQ(work_[0].from, original[1]);
  EXPECT_EQ(work_[0].to, child.pages[1]);
  EXPECT_EQ(child.pages[0], original[0]);
  EXPECT_EQ(child.slot(99).page, kNoPage);
  EXPECT_EQ(child.slot(100).page, child.pages[1]);
  EXPECT_EQ(child.slot(100).slot, 36);
  // The last holder writes to the original.
  ASSERT_TRUE(pages_.reserve(parent, 1, work_));
  EXPECT_EQ(work_.size(), 1u);
  EXPECT_EQ(parent.pages, original);
}

TEST_F(PageManagerTest, ATruncatedPublishedPageIsCopied) {
  PageTable& table = open(text(64), 64);
  const PageId published = table.pages[0];
  pages_.truncate(table, 10);
  EXPECT_EQ(table.n_published, 0u);
  ASSERT_TRUE(pages_.reserve(table, 1, work_));
  EXPECT_NE(table.pages[0], published);
  EXPECT_EQ(pages_.counts().evictable, 1u);
}

TEST_F(PageManagerTest, ReserveIsAllOrNothing) {
  PageTable& big = open(text(400), 320);
  PageTable& small = open(text(100, 1000));
  EXPECT_EQ(pages_.room(small), 64u);
  EXPECT_FALSE(pages_.reserve(small, 65, work_));
  EXPECT_TRUE(small.pages.empty());
  EXPECT_TRUE(pages_.reserve(small, 64, work_));
  EXPECT_EQ(pages_.room(small), 64u);
  EXPECT_FALSE(pages_.reserve(big, 1, work_));
}

TEST_F(PageManagerTest, EvictionIsByUseAndFromTheEndOfAChain) {
  PageTable& old = open(text(128), 128);
  PageTable& recent = open(text(128, 500), 128);
  const std::vector<PageId> old_pages = old.pages, recent_pages = recent.pages;
  pages_.release(old);
  pages_.release(recent);
  EXPECT_EQ(pages_.counts().evictable, 4u);
  // Used once more, `old` is the recent one.
  pages_.release(open(text(128)));
  PageTable& other = open(text(300, 9000));
  ASSERT_TRUE(pages_.reserve(other, 128, work_));  // free pages first
  EXPECT_EQ(pages_.counts().evictions, 0u);
  ASSERT_TRUE(pages_.reserve(other, 300, work_));
  EXPECT_EQ(pages_.counts().evictions, 3u);
  EXPECT_EQ(other.pages[2], recent_pages[1]);
  EXPECT_EQ(other.pages[3], recent_pages[0]);
  EXPECT_EQ(other.pages[4], old_pages[1]);
  EXPECT_EQ(open(text(128)).pages, std::vector{old_pages[0]});
}

TEST_F(PageManagerTest, PagesOfAnotherTenantAreZeroed) {
  pages_.release(open(text(30), 30, 1));
  EXPECT_TRUE(work_.empty());  // the pool begins as zeros
  PageTable& same = open(text(30, 7), 30, 1);
  EXPECT_TRUE(work_.empty());
  const PageId used = same.pages[0];
  pages_.release(same);
  open(text(30), 30, 2);
  ASSERT_EQ(work_.size(), 1u);
  EXPECT_EQ(work_[0].from, kNoPage);
  EXPECT_EQ(work_[0].to, used);
}

TEST_F(PageManagerTest, FaultsAreFound) {
  PageTable& table = open(text(100), 100);
  const PageTable* tables[] = {&table};
  EXPECT_EQ(pages_.first_fault(tables), "");
  EXPECT_NE(pages_.first_fault({}), "");  // holders without a table
  PageTable twin = table;
  const PageTable* twins[] = {&table, &twin};
  EXPECT_NE(pages_.first_fault(twins), "");
  const auto fault_after = [&](auto change) {
    PageTable changed = table;
    change(changed);
    const PageTable* only[] = {&changed};
    return pages_.first_fault(only);
  };
  EXPECT_NE(fault_after([](PageTable& it) { it.n_tokens = 129; }), "");
  EXPECT_NE(fault_after([](PageTable& it) { it.n_published = 2; }), "");
  EXPECT_NE(fault_after([](PageTable& it) { it.n_tokens = 0; }), "");
}

}  // namespace
}  // namespace ruvltra
