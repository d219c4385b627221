// An answer that follows a grammar: which tokens may come next.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/stacks.h"
#include "grammar/token_trie.h"

namespace ruvltra {

// Thread safety: none; one per answer. Copies are independent of each other.
// Invariants: 1. some token is always allowed; 2. what is allowed is a function of the grammar, the
// vocabulary and the tokens accepted.
class ConstrainedText {
 public:
  ConstrainedText(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie);

  // Sets the bits of the tokens that may come next: (n_words), cleared before. Tokens that end generation
  // are among them if the text may end here, and alone if it must.
  void fill_mask(std::span<uint64_t> mask);
  // False, and nothing happens, if the token may not come next. `bytes`: what it stands for; ends: it ends
  // generation.
  bool accept(std::string_view bytes, bool ends);
  // Whether the text may end here; whether it must.
  bool may_end() const;
  bool must_end() const;

 private:
  // Work of one mask, in stacks stepped. Beyond it, and once some token is allowed, further tokens are left
  // out.
  static constexpr size_t kMaxSteps = size_t{1} << 20;

  bool is_inside_string(const StackTop& top) const;
  void allow(TokenId token, std::span<uint64_t> mask);
  void walk(uint32_t first_node, uint32_t end_node, size_t first_top, std::span<uint64_t> mask);
  void add_string(StackTop top, std::span<uint64_t> mask);
  bool is_exit(const StackTop& top, const StringTokens& tokens, const StringTokens::Exit& exit) const;

  struct Level {
    size_t first_top;
    Stacks::Mark mark;
  };

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const TokenTrie> trie_;
  Stacks stacks_;
  std::vector<Level> levels_;
  std::vector<StackTop> result_;  // of accept()
  size_t n_steps_ = 0;
  bool allows_any_ = false;
};

}  // namespace ruvltra
