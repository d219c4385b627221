#include "model/quantize_pattern.h"

#include <utility>

#include "base/fail.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxPatternBytes = 256;

}  // namespace

// Two stacks, operators and fragments, as in the classic translation to postfix: no recursion.
class PatternParser {
 public:
  explicit PatternParser(std::string_view text) : text_(text) {}

  Result<NamePattern> parse() {
    if (text_.empty() || text_.size() > kMaxPatternBytes) return refuse("1..256 bytes");
    while (at_ < text_.size()) RETURN_IF_ERROR(take());
    if (operators_.size() > 0 && find_open_group()) return refuse("')'");
    RETURN_IF_ERROR(close_group());
    patch(fragments_.back(), NamePattern::kMatch);
    pattern_.start_ = fragments_.back().start;
    return std::move(pattern_);
  }

 private:
  // A piece of the automaton with one entry; `exits` are the arrows still to be drawn.
  struct Exit {
    int state;
    bool other;
  };
  struct Fragment {
    int start;
    std::vector<Exit> exits;
  };
  enum class Operator { kGroup, kJoin, kEither };

  tl::unexpected<Error> refuse(std::string_view expected) const {
    return fail(ErrorKind::kUsage, "quantize.pattern",
                "--tensor-type: pattern {} at byte {}: expected {}, found {}", ruvltra::quoted(text_), at_,
                expected, at_ < text_.size() ? ruvltra::quoted(text_.substr(at_, 1)) : "the end");
  }

  Result<void> take() {
    const char c = text_[at_];
    if (c == '*' || c == '+' || c == '?') {
      if (!after_operand_) return refuse("something to repeat");
      ++at_;
      repeat(c);
      return {};
    }
    if (c == '|') {
      if (!after_operand_) return refuse("an alternative");
      while (!operators_.empty() && operators_.back() == Operator::kJoin) reduce();
      operators_.push_back(Operator::kEither);
      after_operand_ = false;
      ++at_;
      return {};
    }
    if (c == ')') {
      if (!find_open_group()) return refuse("no unmatched ')'");
      RETURN_IF_ERROR(close_group());
      operators_.pop_back();
      ++at_;
      return {};
    }
    if (after_operand_) push_operator(Operator::kJoin);
    after_operand_ = false;
    if (c == '(') {
      operators_.push_back(Operator::kGroup);
      ++at_;
      return {};
    }
    std::bitset<256> accepted;
    if (c == '[') {
      RETURN_IF_ERROR(take_class(accepted));
    } else if (c == '.') {
      accepted.set();
      ++at_;
    } else {
      if (c == '\\') ++at_;
      if (at_ == text_.size()) return refuse("a character after '\\'");
      accepted.set(static_cast<uint8_t>(text_[at_++]));
    }
    const int state = add({false, accepted, NamePattern::kOpen, NamePattern::kOpen});
    fragments_.push_back({state, {{state, false}}});
    after_operand_ = true;
    return {};
  }

  Result<void> take_class(std::bitset<256>& accepted) {
    ++at_;
    const bool negated = at_ < text_.size() && text_[at_] == '^';
    if (negated) ++at_;
    bool first = true;
    for (;; first = false) {
      if (at_ >= text_.size()) return refuse("']'");
      if (text_[at_] == ']' && !first) break;
      const auto low = static_cast<uint8_t>(text_[at_++]);
      uint8_t high = low;
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        high = static_cast<uint8_t>(text_[at_ + 1]);
        if (high < low) return refuse("a rising range");
        at_ += 2;
      }
      for (int byte = low; byte <= high; ++byte) accepted.set(static_cast<size_t>(byte));
    }
    ++at_;
    if (negated) accepted.flip();
    return {};
  }

  int add(NamePattern::State state) {
    pattern_.states_.push_back(state);
    return static_cast<int>(pattern_.states_.size()) - 1;
  }

  void patch(const Fragment& fragment, int target) {
    for (const Exit& exit : fragment.exits) {
      NamePattern::State& state = pattern_.states_[static_cast<size_t>(exit.state)];
      (exit.other ? state.other : state.next) = target;
    }
  }

  void repeat(char c) {
    Fragment& top = fragments_.back();
    const int split = add({true, {}, top.start, NamePattern::kOpen});
    if (c == '?') {
      top.exits.push_back({split, true});
      top.start = split;
      return;
    }
    patch(top, split);
    top.exits = {{split, true}};
    if (c == '*') top.start = split;
  }

  bool find_open_group() const {
    for (const Operator op : operators_) {
      if (op == Operator::kGroup) return true;
    }
    return false;
  }

  void push_operator(Operator op) {
    while (!operators_.empty() && operators_.back() == Operator::kJoin) reduce();
    operators_.push_back(op);
  }

  // Everything back to the opening bracket (or the beginning) becomes one fragment.
  Result<void> close_group() {
    if (!after_operand_) return refuse("a pattern");
    while (!operators_.empty() && operators_.back() != Operator::kGroup) reduce();
    return {};
  }

  void reduce() {
    const Operator op = operators_.back();
    operators_.pop_back();
    Fragment second = std::move(fragments_.back());
    fragments_.pop_back();
    Fragment& first = fragments_.back();
    if (op == Operator::kJoin) {
      patch(first, second.start);
      first.exits = std::move(second.exits);
      return;
    }
    first.start = add({true, {}, first.start, second.start});
    first.exits.insert(first.exits.end(), second.exits.begin(), second.exits.end());
  }

  std::string_view text_;
  size_t at_ = 0;
  bool after_operand_ = false;
  NamePattern pattern_;
  std::vector<Operator> operators_;
  std::vector<Fragment> fragments_;
};

Result<NamePattern> NamePattern::parse(std::string_view pattern) { return PatternParser(pattern).parse(); }

bool NamePattern::found_in(std::string_view name) const {
  std::vector<char> active(states_.size(), 0);
  std::vector<int> current, pending;
  // Enters a state and all it splits into; true if the match is reached.
  const auto enter = [&](int state) {
    pending.assign(1, state);
    while (!pending.empty()) {
      const int s = pending.back();
      pending.pop_back();
      if (s == kMatch) return true;
      if (active[static_cast<size_t>(s)] != 0) continue;
      active[static_cast<size_t>(s)] = 1;
      const State& entered = states_[static_cast<size_t>(s)];
      if (!entered.split) {
        current.push_back(s);
        continue;
      }
      pending.push_back(entered.next);
      pending.push_back(entered.other);
    }
    return false;
  };
  if (enter(start_)) return true;
  for (const char c : name) {
    const std::vector<int> last = std::exchange(current, {});
    active.assign(states_.size(), 0);
    for (const int s : last) {
      const State& state = states_[static_cast<size_t>(s)];
      if (state.accepted[static_cast<uint8_t>(c)] && enter(state.next)) return true;
    }
    if (enter(start_)) return true;
  }
  return false;
}

}  // namespace ruvltra
