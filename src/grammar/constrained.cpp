#include "grammar/constrained.h"

#include <algorithm>

#include "base/check.h"
#include "grammar/string_lexer.h"

namespace ruvltra {

namespace {
constexpr auto kStringText = static_cast<uint32_t>(StringPlace::kText);
}  // namespace

ConstrainedText::ConstrainedText(std::shared_ptr<const Grammar> grammar,
                                 std::shared_ptr<const TokenTrie> trie)
    : grammar_(std::move(grammar)), trie_(std::move(trie)), stacks_(*grammar_) {
  CHECK(!stacks_.tops().empty());
}

bool ConstrainedText::may_end() const {
  const auto tops = stacks_.tops();
  return std::any_of(tops.begin(), tops.end(),
                     [](const StackTop& top) { return top.frame.kind == FrameKind::kDone; });
}

bool ConstrainedText::must_end() const {
  const auto tops = stacks_.tops();
  return std::all_of(tops.begin(), tops.end(),
                     [](const StackTop& top) { return top.frame.kind == FrameKind::kDone; });
}

// Between two characters of a string, where the work was done when the trie was made.
bool ConstrainedText::is_inside_string(const StackTop& top) const {
  return (top.frame.kind == FrameKind::kString || top.frame.kind == FrameKind::kObjectOther) &&
         top.frame.place == kStringText;
}

void ConstrainedText::allow(TokenId token, std::span<uint64_t> mask) {
  for (; token >= 0; token = trie_->twin(token)) {
    mask[static_cast<size_t>(token) / 64] |= uint64_t{1} << static_cast<size_t>(token) % 64;
    allows_any_ = true;
  }
}

void ConstrainedText::fill_mask(std::span<uint64_t> mask) {
  CHECK(mask.size() == trie_->n_words());
  std::fill(mask.begin(), mask.end(), 0);
  n_steps_ = 0;
  allows_any_ = may_end();
  if (allows_any_) {
    for (const TokenId token : trie_->ends())
      mask[static_cast<size_t>(token) / 64] |= uint64_t{1} << static_cast<size_t>(token) % 64;
  }
  const Stacks::Mark now = stacks_.mark();
  // Strings apart, the rest together: as accept() does.
  for (size_t i = 0; i < now.n_tops; ++i) {
    const StackTop top = stacks_.tops()[i];
    if (!is_inside_string(top)) stacks_.append(top);
  }
  if (stacks_.tops().size() > now.n_tops)
    walk(0, static_cast<uint32_t>(trie_->nodes().size()), now.n_tops, mask);
  stacks_.truncate(now);
  for (size_t i = 0; i < now.n_tops; ++i) {
    const StackTop top = stacks_.tops()[i];
    if (is_inside_string(top)) add_string(top, mask);
  }
  CHECK(allows_any_);
}

// All tokens below nodes [first, end), read by the tops from first_top on. Depth first: what a byte leads to
// is computed once for all tokens that begin alike.
void ConstrainedText::walk(uint32_t first_node, uint32_t end_node, size_t first_top,
                           std::span<uint64_t> mask) {
  const auto nodes = trie_->nodes();
  if (first_node == end_node) return;
  const uint32_t first_depth = nodes[first_node].depth;
  levels_.clear();
  levels_.push_back({first_top, stacks_.mark()});
  for (uint32_t i = first_node; i < end_node;) {
    const TokenTrie::Node& node = nodes[i];
    levels_.resize(node.depth - first_depth + 1);
    const Level level = levels_.back();
    stacks_.truncate(level.mark);
    stacks_.step(level.first_top, level.mark.n_tops, node.byte);
    n_steps_ += level.mark.n_tops - level.first_top;
    if (n_steps_ > kMaxSteps && allows_any_) break;
    if (stacks_.tops().size() == level.mark.n_tops) {
      i = node.end;
      continue;
    }
    allow(node.token, mask);
    levels_.push_back({level.mark.n_tops, stacks_.mark()});
    ++i;
  }
  stacks_.truncate(levels_.front().mark);
}

void ConstrainedText::add_string(StackTop top, std::span<uint64_t> mask) {
  const bool is_value = top.frame.kind == FrameKind::kString;
  const StringTokens& tokens = is_value ? trie_->strings() : trie_->plain_strings();
  const uint32_t most = is_value ? grammar_->strings[top.frame.arg].most : kUnlimited;
  const uint32_t n_left = most == kUnlimited ? kUnlimited : most - top.frame.count;
  if (n_left >= tokens.most_characters) {
    for (size_t word = 0; word < mask.size(); ++word) mask[word] |= tokens.all[word];
    allows_any_ = true;
  } else if (n_left > 0) {
    const auto limit = static_cast<uint16_t>(n_left);
    for (size_t id = 0; id < tokens.n_characters.size(); ++id)
      mask[id / 64] |= static_cast<uint64_t>(tokens.n_characters[id] <= limit) << id % 64;
    allows_any_ = true;
  }
  // Behind the quote every exit stands at the same place, however long the string became.
  StackTop closing = top;
  closing.frame.count =
      is_value ? std::max(top.frame.count, grammar_->strings[top.frame.arg].least) : ByteTrie::kNone;
  const Stacks::Mark now = stacks_.mark();
  stacks_.append(closing);
  stacks_.step(now.n_tops, now.n_tops + 1, '"');
  const auto nodes = trie_->nodes();
  for (const StringTokens::Exit& exit : tokens.exits) {
    if (!is_exit(top, tokens, exit)) continue;
    allow(nodes[exit.node].token, mask);
    walk(exit.node + 1, nodes[exit.node].end, now.n_tops + 1, mask);
    if (n_steps_ > kMaxSteps && allows_any_) break;
  }
  stacks_.truncate(now);
}

// Whether the string may be closed after the characters of this exit.
bool ConstrainedText::is_exit(const StackTop& top, const StringTokens& tokens,
                              const StringTokens::Exit& exit) const {
  if (top.frame.kind == FrameKind::kString) {
    const StringRule& rule = grammar_->strings[top.frame.arg];
    const uint64_t n_characters = uint64_t{top.frame.count} + exit.n_characters;
    return n_characters >= rule.least && (rule.most == kUnlimited || n_characters <= rule.most);
  }
  uint32_t node = top.frame.count;
  const ByteTrie& names = grammar_->objects[top.frame.arg].names;
  const std::string_view text = std::string_view(tokens.text).substr(exit.text_begin, exit.text_length);
  for (size_t i = 0; i < text.size() && node != ByteTrie::kNone; ++i)
    node = names.child(node, static_cast<uint8_t>(text[i]));
  return node == ByteTrie::kNone || names.child(node, '"') == ByteTrie::kNone;
}

bool ConstrainedText::accept(std::string_view bytes, bool ends) {
  if (ends) return may_end();
  if (bytes.empty()) return false;
  const Stacks::Mark now = stacks_.mark();
  // Groups as in fill_mask(), so that both give up the same stacks where there are too many.
  std::vector<StackTop>& result = result_;
  result.clear();
  const auto read = [&](size_t first) {
    size_t last = stacks_.tops().size();
    for (const char byte : bytes) {
      if (first == last) break;
      stacks_.step(first, last, static_cast<uint8_t>(byte));
      first = last;
      last = stacks_.tops().size();
    }
    for (size_t i = first; i < last; ++i) {
      const StackTop& top = stacks_.tops()[i];
      if (std::find(result.begin(), result.end(), top) == result.end()) result.push_back(top);
    }
  };
  for (size_t i = 0; i < now.n_tops; ++i) {
    const StackTop top = stacks_.tops()[i];
    if (!is_inside_string(top)) stacks_.append(top);
  }
  read(now.n_tops);
  for (size_t i = 0; i < now.n_tops; ++i) {
    const StackTop top = stacks_.tops()[i];
    if (!is_inside_string(top)) continue;
    const size_t first = stacks_.tops().size();
    stacks_.append(top);
    read(first);
  }
  if (result.empty()) {
    stacks_.truncate(now);
    return false;
  }
  const size_t first = stacks_.tops().size();
  for (const StackTop& top : result) stacks_.append(top);
  stacks_.keep_from(first);
  return true;
}

}  // namespace ruvltra
