#include "engine/suffix_index.h"

#include <gtest/gtest.h>

#include <random>

namespace ruvltra {
namespace {

SuffixIndex::Match find_in(const std::vector<TokenId>& text) {
  SuffixIndex index;
  index.reserve(text.size());
  index.extend(text);
  return index.find(text);
}

// Every earlier place, longest match first, then the latest.
SuffixIndex::Match search(const std::vector<TokenId>& text) {
  SuffixIndex::Match best;
  for (size_t end = SuffixIndex::kLeast; end < text.size(); ++end) {
    size_t n = 0;
    while (n < std::min(end, SuffixIndex::kLongest) && text[end - 1 - n] == text[text.size() - 1 - n]) ++n;
    if (n >= SuffixIndex::kLeast && n >= best.length) best = {n, end};
  }
  return best;
}

TEST(SuffixIndex, FindsWhatFollowed) {
  const auto match = find_in({7, 1, 2, 3, 9, 8, 5, 1, 2, 3});
  EXPECT_EQ(match.length, 3u);
  EXPECT_EQ(match.position, 4u);  // 9 came next
}

TEST(SuffixIndex, PrefersTheLongerThenTheLater) {
  EXPECT_EQ(find_in({4, 1, 2, 3, 5, 9, 1, 2, 3, 6, 4, 1, 2, 3}).position, 4u);
  EXPECT_EQ(find_in({1, 2, 3, 5, 1, 2, 3, 6, 1, 2, 3}).position, 7u);
}

TEST(SuffixIndex, KnowsWhenThereIsNothing) {
  EXPECT_EQ(find_in({}).length, 0u);
  EXPECT_EQ(find_in({1, 2}).length, 0u);
  EXPECT_EQ(find_in({1, 2, 3}).length, 0u);
  EXPECT_EQ(find_in({1, 2, 3, 4, 2, 3}).length, 0u);
}

TEST(SuffixIndex, ARunOfOneTokenMatchesItself) {
  const auto match = find_in(std::vector<TokenId>(40, 5));
  EXPECT_EQ(match.length, SuffixIndex::kLongest);
  EXPECT_EQ(match.position, 39u);
}

// Small alphabets: matches of every length. Grown piece by piece, as answers are.
TEST(SuffixIndex, AgreesWithASearchThroughTheText) {
  std::mt19937 random(1);
  size_t n_found = 0;
  for (int round = 0; round < 300; ++round) {
    const int n_letters = 2 + static_cast<int>(random() % 6);
    std::vector<TokenId> text;
    SuffixIndex index;
    index.reserve(64);
    while (text.size() < 64) {
      const size_t n = std::min<size_t>(1 + random() % 4, 64 - text.size());
      for (size_t i = 0; i < n; ++i) text.push_back(static_cast<TokenId>(random() % n_letters));
      index.extend(text);
      const auto found = index.find(text), expected = search(text);
      // At most 32 places are tried: with few letters a longer match may lie further back.
      EXPECT_LE(found.length, expected.length);
      if (n_letters < 4) continue;
      EXPECT_EQ(found.length, expected.length);
      EXPECT_EQ(found.position, expected.position);
      n_found += found.length > 0;
    }
  }
  EXPECT_GT(n_found, 500u);
}

}  // namespace
}  // namespace ruvltra
