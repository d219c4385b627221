#include "text/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace ruvltra {
namespace {

// A vocabulary of the letters a.. (ids 0..) and random merges over it.
struct Toy {
  std::vector<std::string> texts;
  std::vector<Merge> merges;
  std::map<std::pair<TokenId, TokenId>, size_t> rank_of;

  Bpe bpe() const {
    std::array<TokenId, 256> byte_ids;
    byte_ids.fill(0);
    for (size_t i = 0; i < texts.size() && texts[i].size() == 1; ++i) {
      byte_ids[static_cast<unsigned char>(texts[i][0])] = static_cast<TokenId>(i);
    }
    Bpe out(byte_ids, 12345);
    out.reserve(merges.size());
    for (const Merge& merge : merges) EXPECT_TRUE(out.add(merge));
    return out;
  }

  // The definition, word for word: merge the leftmost pair of lowest rank until none is left.
  std::vector<TokenId> reference(std::string_view word) const {
    std::vector<TokenId> ids;
    for (const char c : word) ids.push_back(c - 'a');
    for (;;) {
      size_t best = merges.size(), at = 0;
      for (size_t i = 0; i + 1 < ids.size(); ++i) {
        const auto found = rank_of.find({ids[i], ids[i + 1]});
        if (found != rank_of.end() && found->second < best) best = found->second, at = i;
      }
      if (best == merges.size()) return ids;
      ids[at] = merges[best].merged;
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
  }
};

// With `shuffled`, a merge may rank before the merges that make its parts, and one text may have several
// merges.
Toy random_toy(std::mt19937& rng, int n_letters, int n_merges, bool shuffled) {
  Toy toy;
  std::map<std::string, TokenId> id_of;
  for (int i = 0; i < n_letters; ++i) {
    toy.texts.emplace_back(1, static_cast<char>('a' + i));
    id_of[toy.texts.back()] = i;
  }
  std::map<std::pair<TokenId, TokenId>, bool> seen;
  for (int i = 0; i < n_merges; ++i) {
    const auto pick = [&] { return static_cast<TokenId>(rng() % toy.texts.size()); };
    const TokenId left = pick(), right = pick();
    const std::string text = toy.texts[static_cast<size_t>(left)] + toy.texts[static_cast<size_t>(right)];
    if (text.size() > 12 || std::exchange(seen[{left, right}], true)) continue;
    const auto [entry, is_new] = id_of.try_emplace(text, static_cast<TokenId>(toy.texts.size()));
    if (is_new) toy.texts.push_back(text);
    toy.merges.push_back({left, right, entry->second});
  }
  if (shuffled) std::shuffle(toy.merges.begin(), toy.merges.end(), rng);
  for (size_t i = 0; i < toy.merges.size(); ++i) toy.rank_of[{toy.merges[i].left, toy.merges[i].right}] = i;
  return toy;
}

TEST(Bpe, AgreesWithTheDefinition) {
  std::mt19937 rng(3);
  for (int round = 0; round < 300; ++round) {
    const int n_letters = 1 + static_cast<int>(rng() % 4);
    const Toy toy = random_toy(rng, n_letters, static_cast<int>(rng() % 60), round % 2 == 0);
    const Bpe bpe = toy.bpe();
    // Around 256 bytes the short-word method hands over to the queue.
    for (const size_t n : {size_t{0}, size_t{1}, size_t{2}, size_t{3}, size_t{17}, size_t{255}, size_t{256},
                           size_t{257}, size_t{600}}) {
      std::string word;
      for (size_t i = 0; i < n; ++i)
        word += static_cast<char>('a' + rng() % static_cast<unsigned>(n_letters));
      std::vector<TokenId> ids{-7};
      bpe.encode(word, ids);
      std::vector<TokenId> expected = toy.reference(word);
      expected.insert(expected.begin(), -7);
      ASSERT_EQ(ids, expected) << "round " << round << ", " << n << " bytes";
    }
  }
}

TEST(Bpe, TiesGoLeft) {
  const Toy toy{{"a", "aa"}, {{0, 0, 1}}, {{{0, 0}, 0}}};
  for (const size_t n : {size_t{3}, size_t{301}}) {
    std::vector<TokenId> ids;
    toy.bpe().encode(std::string(n, 'a'), ids);
    EXPECT_EQ(ids.size(), n / 2 + 1);
    EXPECT_EQ(ids.front(), 1);
    EXPECT_EQ(ids.back(), 0);
  }
}

TEST(Bpe, APairHasOneMerge) {
  Bpe bpe(std::array<TokenId, 256>{}, 1);
  bpe.reserve(3);
  EXPECT_TRUE(bpe.add({0, 1, 2}));
  EXPECT_TRUE(bpe.add({1, 0, 3}));
  EXPECT_FALSE(bpe.add({0, 1, 4}));
  EXPECT_EQ(bpe.merges().size(), 2u);
}

TEST(Bpe, NoMerges) {
  std::array<TokenId, 256> byte_ids;
  for (size_t i = 0; i < 256; ++i) byte_ids[i] = static_cast<TokenId>(255 - i);
  const Bpe bpe(byte_ids, 0);
  std::vector<TokenId> ids;
  bpe.encode(std::string(300, '\xFF'), ids);
  EXPECT_EQ(ids, std::vector<TokenId>(300, 0));
}

}  // namespace
}  // namespace ruvltra
