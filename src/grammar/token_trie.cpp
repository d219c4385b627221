#include "grammar/token_trie.h"

#include <algorithm>
#include <array>
#include <bitset>

#include "base/fail.h"
#include "grammar/string_lexer.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxNodes = size_t{1} << 25;

size_t common_prefix(std::string_view a, std::string_view b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(end.first - a.begin());
}

bool may_be_written(const Tokenizer& tokenizer, TokenId id) {
  const TokenKind kind = tokenizer.kind(id);
  const size_t n_bytes = tokenizer.bytes(id).size();
  return (kind == TokenKind::kNormal || kind == TokenKind::kUserDefined || kind == TokenKind::kByte) &&
         !tokenizer.ends_generation(id) && n_bytes > 0 && n_bytes <= TokenTrie::kMaxTokenBytes;
}

}  // namespace

Result<std::shared_ptr<const TokenTrie>> TokenTrie::make(const Tokenizer& tokenizer, size_t n_vocab) {
  std::shared_ptr<TokenTrie> trie(new TokenTrie);
  trie->n_vocab_ = n_vocab;
  std::vector<TokenId> sorted;
  std::bitset<256> bytes;
  size_t n_bytes = 0;
  for (size_t i = 0; i < std::min(n_vocab, tokenizer.n_vocab()); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (tokenizer.ends_generation(id)) trie->ends_.push_back(id);
    if (!may_be_written(tokenizer, id)) continue;
    const std::string_view text = tokenizer.bytes(id);
    if (text.size() == 1) bytes.set(static_cast<uint8_t>(text[0]));
    n_bytes += text.size();
    sorted.push_back(id);
  }
  if (trie->ends_.empty()) {
    return fail(ErrorKind::kUnsupported, "constraint.vocabulary",
                "vocabulary: expected a token that ends an answer, found none");
  }
  if (!bytes.all() || n_bytes > kMaxNodes) {
    return fail(
        ErrorKind::kUnsupported, "constraint.vocabulary",
        "vocabulary: expected a token for each of 256 bytes and at most {} bytes in all, found {} and {}",
        kMaxNodes, bytes.count(), n_bytes);
  }
  std::sort(sorted.begin(), sorted.end(), [&](TokenId a, TokenId b) {
    const int order = tokenizer.bytes(a).compare(tokenizer.bytes(b));
    return order != 0 ? order < 0 : a < b;
  });
  trie->build(tokenizer, sorted);
  trie->strings_ = trie->string_tokens(true);
  trie->plain_strings_ = trie->string_tokens(false);
  return std::shared_ptr<const TokenTrie>(std::move(trie));
}

void TokenTrie::build(const Tokenizer& tokenizer, std::span<const TokenId> sorted) {
  twins_.assign(n_vocab_, -1);
  std::vector<uint32_t> path;  // nodes of the last token's bytes
  std::string_view last;
  const auto close = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back())
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
  };
  for (const TokenId id : sorted) {
    const std::string_view text = tokenizer.bytes(id);
    const size_t n_common = common_prefix(last, text);
    close(n_common);
    for (size_t depth = n_common; depth < text.size(); ++depth) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.depth = static_cast<uint16_t>(depth), .byte = static_cast<uint8_t>(text[depth])});
    }
    Node& node = nodes_[path.back()];
    twins_[static_cast<size_t>(id)] = node.token;
    node.token = id;
    last = text;
  }
  close(0);
  nodes_.shrink_to_fit();
}

StringTokens TokenTrie::string_tokens(bool escapes) const {
  const StringTable& table = escapes ? string_table() : plain_string_table();
  constexpr auto kText = static_cast<uint8_t>(StringPlace::kText);
  struct State {
    uint8_t place = kText;
    uint16_t n_begun = 0;  // characters
  };
  std::array<State, kMaxTokenBytes + 1> states{};  // before the byte at each depth
  std::array<char, kMaxTokenBytes> text;
  StringTokens out;
  out.n_characters.assign(n_vocab_, StringTokens::kNever);
  out.all.assign(n_words(), 0);
  for (uint32_t i = 0; i < nodes_.size();) {
    const Node& node = nodes_[i];
    State state = states[node.depth];
    const uint8_t next = table[state.place][node.byte];
    text[node.depth] = static_cast<char>(node.byte);
    if (next == kStringRefused || next == kStringClosed) {
      if (next == kStringClosed) {
        out.exits.push_back({i, static_cast<uint32_t>(out.text.size()), node.depth, state.n_begun});
        out.text.append(text.data(), node.depth);
      }
      i = node.end;
      continue;
    }
    if (state.place == kText) ++state.n_begun;
    state.place = next;
    states[node.depth + 1] = state;
    for (TokenId token = node.token; token >= 0; token = twin(token)) {
      const auto id = static_cast<size_t>(token);
      out.n_characters[id] = state.n_begun;
      out.most_characters = std::max(out.most_characters, state.n_begun);
      out.all[id / 64] |= uint64_t{1} << id % 64;
    }
    ++i;
  }
  return out;
}

}  // namespace ruvltra
