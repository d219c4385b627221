#include "engine/prefix_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <random>

namespace ruvltra {
namespace {

Sha256Digest counting_digest() {
  Sha256Digest digest;
  std::iota(digest.begin(), digest.end(), uint8_t{0});
  return digest;
}

const PrefixSpace kSpace{.model = counting_digest(),
                         .kv_type = KvType::kQ8_0,
                         .tenant_salt = "tenant",
                         .cache_salt = "salt",
                         .adapter_kv_tag = "tag"};

// Two pages: 0..63, then 151935 downwards, and a rest that fills no page.
std::vector<TokenId> two_pages_and_a_rest() {
  std::vector<TokenId> tokens(2 * kPageTokens + 10, 7);
  for (TokenId t = 0; t < static_cast<TokenId>(kPageTokens); ++t) {
    tokens[static_cast<size_t>(t)] = t;
    tokens[kPageTokens + static_cast<size_t>(t)] = 151935 - t;
  }
  return tokens;
}

// The digests were computed by Python's hashlib from the definition in the header.
TEST(PrefixChain, KnownDigests) {
  EXPECT_EQ(to_hex(prefix_root({})), "9885bfd789bddf6c0c696033f7860a9d7c696a0a38f61c7dd6a72e72c05a3ddd");
  EXPECT_EQ(to_hex(prefix_root(kSpace)), "e6d1fa25b0179559ed6ab811fbccc21b25f39aaa73aa961224998dbbf2b5047a");
  Sha256 hash;
  PrefixChain chain;
  chain.reset(prefix_root(kSpace));
  chain.extend(hash, two_pages_and_a_rest());
  ASSERT_EQ(chain.n_pages(), 2u);
  EXPECT_EQ(to_hex(chain.key(0)), "c25469806106ab7290c7ed9876465e8f2aac3184b624c4811446e2d400901050");
  EXPECT_EQ(to_hex(chain.key(1)), "1ea0156832702e1890821377de9968563ee2e7d0b8592293c73654c9b9ffd7b5");
  EXPECT_EQ(chain.parent(0), prefix_root(kSpace));
  EXPECT_EQ(chain.parent(1), chain.key(0));
}

TEST(PrefixChain, EveryFieldSeparatesSpaces) {
  const auto root_with = [](auto change) {
    PrefixSpace space = kSpace;
    change(space);
    return prefix_root(space);
  };
  const Sha256Digest roots[] = {
      prefix_root(kSpace),
      root_with([](PrefixSpace& space) { space.model[31] ^= 1; }),
      root_with([](PrefixSpace& space) { space.kv_type = KvType::kF16; }),
      root_with([](PrefixSpace& space) { space.tenant_salt = "tenan"; }),
      root_with([](PrefixSpace& space) { space.cache_salt = "salz"; }),
      root_with([](PrefixSpace& space) { space.adapter_kv_tag = {}; }),
      // The same bytes in a row, divided elsewhere.
      root_with([](PrefixSpace& space) { space.tenant_salt = "tenants", space.cache_salt = "alt"; }),
  };
  for (const auto& a : roots) EXPECT_EQ(std::count(std::begin(roots), std::end(roots), a), 1);
}

TEST(PrefixChain, GrowsByFullPagesHoweverTokensArrive) {
  const std::vector<TokenId> tokens = two_pages_and_a_rest();
  Sha256 hash;
  PrefixChain whole, pieces;
  whole.reset(prefix_root(kSpace));
  whole.extend(hash, tokens);
  pieces.reset(prefix_root(kSpace));
  for (size_t n = 0; n <= tokens.size(); ++n) {
    pieces.extend(hash, std::span(tokens).first(n));
    EXPECT_EQ(pieces.n_pages(), n / kPageTokens);
  }
  for (size_t p = 0; p < 2; ++p) EXPECT_EQ(pieces.key(p), whole.key(p));
}

TEST(PrefixChain, TheLastTokenOfAPageCounts) {
  std::vector<TokenId> tokens(kPageTokens, 5);
  Sha256 hash;
  const Sha256Digest key = page_key(hash, {}, tokens);
  EXPECT_EQ(page_key(hash, {}, tokens), key);
  EXPECT_NE(page_key(hash, prefix_root({}), tokens), key);
  tokens.back() ^= 1 << 24;
  EXPECT_NE(page_key(hash, {}, tokens), key);
}

// Random insertions and erasures against std::map; homes are few, so that probes run into each other.
TEST(PageIndex, AgreesWithAMap) {
  std::mt19937_64 rng(1);
  PageIndex index(40);
  std::map<Sha256Digest, PageId> expected;
  std::vector<Sha256Digest> keys(80);
  for (size_t k = 0; k < keys.size(); ++k) {
    keys[k][0] = static_cast<uint8_t>(rng() % 9 == 0 ? 127 : rng() % 6);
    keys[k][31] = static_cast<uint8_t>(k);
  }
  for (int round = 0; round < 20'000; ++round) {
    const Sha256Digest& key = keys[rng() % keys.size()];
    if (expected.contains(key)) {
      index.erase(key);
      expected.erase(key);
    } else if (expected.size() < 40) {
      index.insert(key, round);
      expected[key] = round;
    }
    const Sha256Digest& other = keys[rng() % keys.size()];
    const auto found = expected.find(other);
    ASSERT_EQ(index.find(other), found == expected.end() ? kNoPage : found->second) << round;
  }
  for (const Sha256Digest& key : keys) EXPECT_EQ(index.find(key) != kNoPage, expected.contains(key));
}

}  // namespace
}  // namespace ruvltra
