// What Tokenizer keeps after load; shared by tokenizer_load.cpp (checks and builds it) and tokenizer.cpp
// (uses it).
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/bpe.h"
#include "text/tokenizer.h"

namespace ruvltra {

// The control and user-defined tokens, found in raw text before anything else looks at it.
class AddedTokens {
 public:
  struct Entry {
    std::string_view text;
    TokenId id;
    bool control;
  };
  struct Match {
    TokenId id = -1;
    size_t n_bytes = 0;
  };

  AddedTokens() = default;
  // Texts are distinct and not empty.
  explicit AddedTokens(std::vector<Entry> entries);

  bool may_start_with(char first) const { return starts_[static_cast<unsigned char>(first)]; }
  // The longest token that begins at text[begin] and ends by user_end, or by control_end if it is a control
  // token. *Requires*: begin <= control_end <= user_end <= text.size().
  Match longest(std::string_view text, size_t begin, size_t control_end, size_t user_end) const;
  TokenId find(std::string_view text) const;  // -1 if there is none

 private:
  std::vector<Entry> entries_;  // in byte order
  std::array<bool, 256> starts_{};
};

struct Tokenizer::Impl {
  Impl(const std::array<TokenId, 256>& byte_ids, uint64_t seed) : bpe(byte_ids, seed) {}

  std::string bytes;              // of all tokens, one after another
  std::vector<uint32_t> offsets;  // (n_vocab + 1)
  std::vector<TokenKind> kinds;   // (n_vocab)
  Bpe bpe;
  AddedTokens added;
  std::string digest;
  TokenId bos = -1;
  TokenId eos = -1;
  std::array<TokenId, 3> ends{-1, -1, -1};
  bool nfc = true;

  std::string_view token(TokenId id) const {
    const auto i = static_cast<size_t>(id);
    return std::string_view(bytes).substr(offsets[i], offsets[i + 1] - offsets[i]);
  }
  void encode_plain(std::string_view text, std::vector<TokenId>& ids) const;
};

}  // namespace ruvltra
