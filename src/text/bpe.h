// Byte-level byte-pair encoding by merge rank (Sennrich, Haddow, Birch 2016, applied to bytes).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ruvltra/types.h"

namespace ruvltra {

// "left right" in the list of merges; its place in the list is its rank.
struct Merge {
  TokenId left;
  TokenId right;
  TokenId merged;
};

// Thread safety: const after construction.
// Invariants: 1. no pair of ids stands in two merges; 2. an id stands for one string of bytes,
// that of `merged` is that of `left` followed by that of `right`.
class Bpe {
 public:
  static constexpr uint32_t kNoMerge = UINT32_MAX;

  // byte_ids: the token each byte starts as. `seed` keys the hash table: derived from the contents, it keeps
  // a crafted file from aiming its merges at one slot.
  Bpe(const std::array<TokenId, 256>& byte_ids, uint64_t seed) : byte_ids_(byte_ids), seed_(seed) {}

  // Appends the merge of the next rank; false if the pair already has one. Call reserve() first.
  void reserve(size_t n_merges);
  bool add(const Merge& merge);

  // Appends the ids of one word: while any two neighbours can be merged, the pair of lowest rank is (ties:
  // leftmost). O(n log n). *Requires*: word.size() < 2^32.
  void encode(std::string_view word, std::vector<TokenId>& ids) const;

  const std::vector<Merge>& merges() const { return merges_; }

 private:
  struct Slot {
    uint32_t tag = 0;  // further bits of the hash
    uint32_t rank = kNoMerge;
  };
  uint64_t hash(TokenId left, TokenId right) const;
  uint32_t rank(TokenId left, TokenId right) const;  // kNoMerge if the pair has no merge
  void encode_short(std::string_view word, std::vector<TokenId>& ids) const;
  void encode_long(std::string_view word, std::vector<TokenId>& ids) const;

  std::array<TokenId, 256> byte_ids_;
  uint64_t seed_;
  std::vector<Merge> merges_;  // by rank
  std::vector<Slot> slots_;    // open addressing, a power of two
  friend class LongWord;
};

}  // namespace ruvltra
