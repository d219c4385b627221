#include "grammar/number_automaton.h"

#include <algorithm>
#include <map>
#include <string>

namespace ruvltra {
namespace {

constexpr int64_t kMostByDefault = 999'999'999'999'999;
constexpr int kFractionDigits = 16, kExponentDigits = 2;

// What is known of a number of which `n` digits were read: how they compare with as many of the bounds'.
struct Prefix {
  size_t n = 0;
  int to_least = 0, to_most = 0;  // -1, 0, 1
  bool is_zero = false;           // no digit may follow a leading zero
  friend auto operator<=>(const Prefix&, const Prefix&) = default;
};

int compare_further(int so_far, const std::string& bound, size_t at, char digit) {
  if (so_far != 0 || at >= bound.size()) return so_far;
  return digit < bound[at] ? -1 : digit > bound[at] ? 1 : 0;
}

struct Range {
  std::string least, most;

  Prefix after(const Prefix& prefix, char digit) const {
    return {prefix.n + 1, compare_further(prefix.to_least, least, prefix.n, digit),
            compare_further(prefix.to_most, most, prefix.n, digit), prefix.n == 0 && digit == '0'};
  }
  // The digits read so far, and then any others up to n in all, can be within the bounds.
  bool can_have(const Prefix& prefix, size_t n) const {
    const bool is_enough = n > least.size() || (n == least.size() && prefix.to_least >= 0);
    const bool is_small = n < most.size() || (n == most.size() && prefix.to_most <= 0);
    return is_enough && is_small;
  }
  bool is_within(const Prefix& prefix) const { return prefix.n > 0 && can_have(prefix, prefix.n); }
  bool is_most(const Prefix& prefix) const { return prefix.n == most.size() && prefix.to_most == 0; }
  bool leads_on(const Prefix& prefix) const {
    if (prefix.is_zero) return false;
    for (size_t n = prefix.n + 1; n <= most.size(); ++n)
      if (can_have(prefix, n)) return true;
    return false;
  }
};

}  // namespace

int NumberAutomaton::symbol_of(uint8_t byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  switch (byte) {
    case '-':
      return 10;
    case '.':
      return 11;
    case 'e':
    case 'E':
      return 12;
    case '+':
      return 13;
    default:
      return -1;
  }
}

uint32_t NumberAutomaton::add_state() {
  states_.emplace_back().next.fill(kNone);
  return static_cast<uint32_t>(states_.size() - 1);
}

void NumberAutomaton::connect(uint32_t from, char byte, uint32_t to) {
  states_[from].next[static_cast<size_t>(symbol_of(static_cast<uint8_t>(byte)))] = to;
  states_[from].goes_on = true;
}

// The state after whole digits from which ".5" and "e3" lead on; it has no end and no digits of its own.
uint32_t NumberAutomaton::add_fraction(bool with_exponent) {
  const uint32_t begin = add_state();
  uint32_t exponent = kNone;
  if (with_exponent) {
    exponent = add_state();
    const uint32_t sign = add_state();
    connect(exponent, '-', sign);
    connect(exponent, '+', sign);
    uint32_t last = kNone;
    for (int i = 0; i < kExponentDigits; ++i) {
      const uint32_t digit = add_state();
      states_[digit].is_end = true;
      for (char c = '0'; c <= '9'; ++c) {
        if (i > 0) {
          connect(last, c, digit);
        } else {
          connect(sign, c, digit);
          connect(exponent, c, digit);
        }
      }
      last = digit;
    }
    connect(begin, 'e', exponent);
  }
  uint32_t last = add_state();
  connect(begin, '.', last);
  for (int i = 0; i < kFractionDigits; ++i) {
    const uint32_t digit = add_state();
    states_[digit].is_end = true;
    for (char c = '0'; c <= '9'; ++c) connect(last, c, digit);
    if (with_exponent) connect(digit, 'e', exponent);
    last = digit;
  }
  return begin;
}

// Digits of least..most after `from`; below `most` a fraction may follow. False if there is no such number.
bool NumberAutomaton::add_magnitudes(uint32_t from, int64_t least, int64_t most, uint32_t fraction) {
  if (least > most) return false;
  const Range range{std::to_string(least), std::to_string(most)};
  std::map<Prefix, uint32_t> known;
  std::vector<std::pair<Prefix, uint32_t>> open{{Prefix{}, from}};
  while (!open.empty()) {
    const auto [prefix, state] = open.back();
    open.pop_back();
    if (prefix.is_zero) continue;
    for (char digit = '0'; digit <= '9'; ++digit) {
      const Prefix next = range.after(prefix, digit);
      if (!range.is_within(next) && !range.leads_on(next)) continue;
      auto [place, is_new] = known.emplace(next, 0);
      if (is_new) {
        place->second = add_state();
        states_[place->second].is_end = range.is_within(next);
        if (fraction != kNone && range.is_within(next) && !range.is_most(next)) {
          for (const char c : {'.', 'e'}) {
            const uint32_t to =
                states_[fraction].next[static_cast<size_t>(symbol_of(static_cast<uint8_t>(c)))];
            if (to != kNone) connect(place->second, c, to);
          }
        }
        open.push_back({next, place->second});
      }
      connect(state, digit, place->second);
    }
  }
  return states_[from].goes_on;
}

std::optional<NumberAutomaton> NumberAutomaton::make(const NumberBounds& bounds) {
  const bool is_bounded = bounds.least || bounds.most;
  // A bound beyond the usual range moves the other end of it along.
  int64_t least = bounds.least.value_or(-kMostByDefault), most = bounds.most.value_or(kMostByDefault);
  if (!bounds.most) most = least > kMostByDefault ? kMostMagnitude : most;
  if (!bounds.least) least = most < -kMostByDefault ? -kMostMagnitude : least;
  if (least > most) return std::nullopt;
  NumberAutomaton out;
  out.add_state();
  const uint32_t fraction = bounds.is_integer ? kNone : out.add_fraction(!is_bounded);
  const bool has_positive =
      most >= 0 && out.add_magnitudes(kStart, std::max<int64_t>(least, 0), most, fraction);
  bool has_negative = false;
  if (least < 0) {
    const int64_t nearest = bounds.is_integer ? 1 : 0;  // "-0.5", but not the integer "-0"
    const uint32_t minus = out.add_state();
    has_negative = out.add_magnitudes(minus, std::max(-most, nearest), -least, fraction);
    if (has_negative) out.connect(kStart, '-', minus);
  }
  if (!has_positive && !has_negative) return std::nullopt;
  return out;
}

}  // namespace ruvltra
