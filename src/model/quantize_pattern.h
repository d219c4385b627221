// Patterns for tensor names, matched in time linear in the name: a simulated automaton, no backtracking
// (Thompson, Regular expression search algorithm, CACM 11(6), 1968).
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

// Syntax: literals, `.`, `*`, `+`, `?`, `|`, `( )`, `[a-z]`, `[^...]`, and `\` before a character that is
// meant literally. Bytes, not code points. At most 256 bytes.
class NamePattern {
 public:
  // Error: quantize.pattern (usage) naming the place.
  static Result<NamePattern> parse(std::string_view pattern);

  // Whether some part of `name` matches.
  bool found_in(std::string_view name) const;

 private:
  friend class PatternParser;
  // One state: consume a byte of `accepted` and go to `next`, or (split) go to both `next` and `other` at
  // once.
  struct State {
    bool split = false;
    std::bitset<256> accepted;
    int next = kOpen;
    int other = kOpen;
  };
  static constexpr int kOpen = -1;
  static constexpr int kMatch = -2;

  std::vector<State> states_;
  int start_ = kMatch;
};

}  // namespace ruvltra
