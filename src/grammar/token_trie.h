// The vocabulary as a byte trie, for asking a grammar about all tokens at once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"
#include "text/tokenizer.h"

namespace ruvltra {

// How tokens go on inside a string, computed once: which characters they are made of does not depend on the
// string's surroundings (the context-independent tokens of XGrammar: Dong et al. 2024, arXiv:2411.15100,
// section 3.1). Only what follows a closing quote does.
struct StringTokens {
  static constexpr uint16_t kNever = 0xffff;
  // Nodes that a closing quote leads to.
  struct Exit {
    uint32_t node = 0;
    uint32_t text_begin = 0;  // what stands before the quote: in `text`
    uint16_t text_length = 0;
    uint16_t n_characters = 0;
  };
  std::vector<uint16_t> n_characters;  // (n_vocab) begun by a token that leaves the string open, or kNever
  uint16_t most_characters = 0;        // of those
  std::vector<uint64_t> all;           // those tokens, one bit for each
  std::vector<Exit> exits;
  std::string text;
};

// Holds normal, user-defined and byte tokens: a grammar never allows others, but for the ends of generation
// where its text is complete.
//
// Thread safety: const after make().
class TokenTrie {
 public:
  // In preorder: a node's first child, if it has one, follows it.
  struct Node {
    uint32_t end = 0;    // the first node that is not below this one
    TokenId token = -1;  // that ends here, or -1; twin() gives further ones
    uint16_t depth = 0;  // bytes before this one's
    uint8_t byte = 0;
  };
  static constexpr size_t kMaxTokenBytes = 1024;  // longer tokens are left out

  // Errors: constraint.vocabulary (unsupported): nothing ends an answer, a byte has no token, or it is far
  // too large.
  static Result<std::shared_ptr<const TokenTrie>> make(const Tokenizer& tokenizer, size_t n_vocab);

  std::span<const Node> nodes() const { return nodes_; }
  TokenId twin(TokenId token) const {
    return twins_[static_cast<size_t>(token)];
  }                                                        // of the same bytes, or -1
  std::span<const TokenId> ends() const { return ends_; }  // tokens that end generation
  size_t n_vocab() const { return n_vocab_; }
  size_t n_words() const { return (n_vocab_ + 63) / 64; }               // of a mask
  const StringTokens& strings() const { return strings_; }              // with escapes
  const StringTokens& plain_strings() const { return plain_strings_; }  // without

 private:
  TokenTrie() = default;
  void build(const Tokenizer& tokenizer, std::span<const TokenId> sorted);
  StringTokens string_tokens(bool escapes) const;

  size_t n_vocab_ = 0;
  std::vector<Node> nodes_;
  std::vector<TokenId> twins_;
  std::vector<TokenId> ends_;
  StringTokens strings_, plain_strings_;
};

}  // namespace ruvltra
