// Prompt lookup: where in a text its own last tokens stood before, and what followed there. No model, no
// weights: it pays where answers repeat their prompt (edits, quotes, code). After Saxena, "Prompt Lookup
// Decoding" (2023).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ruvltra/types.h"

namespace ruvltra {

// The earlier places of every run of kLeast tokens in one growing text, latest first.
//
// Thread safety: none. Memory is taken by reserve(); extending a text of at most so many tokens allocates
// nothing. Every call costs O(new tokens) and a bounded number of comparisons.
class SuffixIndex {
 public:
  static constexpr size_t kLeast = 3;     // shorter matches say little
  static constexpr size_t kLongest = 16;  // longer ones are not told apart

  void reserve(size_t n_tokens);
  // Takes in the tokens from size() on. *Requires*: `text` begins with what was taken in before.
  void extend(std::span<const TokenId> text);
  size_t size() const { return n_tokens_; }

  struct Match {
    size_t length = 0;    // tokens of the suffix that stood there too, kLeast..kLongest; 0: no match
    size_t position = 0;  // of the token that followed; what it and the next ones were is the proposal
  };
  // The longest match of the end of `text`, of equally long ones the latest. *Requires*: extend(text) was
  // called.
  Match find(std::span<const TokenId> text) const;

 private:
  static constexpr size_t kMostTried = 32;
  static constexpr int32_t kNone = -1;

  size_t bucket(const TokenId* run) const;

  std::vector<int32_t> latest_;   // (power of two) by hash of a run: position after its latest place
  std::vector<int32_t> earlier_;  // (n_tokens) position after a place: the one before it in the same bucket
  size_t n_tokens_ = 0;
};

}  // namespace ruvltra
