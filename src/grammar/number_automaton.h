// Numbers in JSON's notation (RFC 8259, section 6) as finite automata, with bounds on their value.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace ruvltra {

// What a number may be. Without bounds integers have at most 15 digits, and so every reader takes them
// exactly; fractions have at most 16 and exponents 2.
struct NumberBounds {
  bool is_integer = false;
  std::optional<int64_t> least, most;  // within +-kMostMagnitude
  friend auto operator<=>(const NumberBounds&, const NumberBounds&) = default;
};

// Thread safety: const after make().
class NumberAutomaton {
 public:
  static constexpr int64_t kMostMagnitude = 999'999'999'999'999'999;
  static constexpr uint32_t kStart = 0;
  static constexpr uint32_t kNone = ~uint32_t{0};

  // Empty if no number is within the bounds. Every state leads to an end.
  static std::optional<NumberAutomaton> make(const NumberBounds& bounds);

  uint32_t next(uint32_t state, uint8_t byte) const {
    const int symbol = symbol_of(byte);
    return symbol < 0 ? kNone : states_[state].next[static_cast<size_t>(symbol)];
  }
  bool is_end(uint32_t state) const { return states_[state].is_end; }
  bool goes_on(uint32_t state) const { return states_[state].goes_on; }
  size_t n_states() const { return states_.size(); }

 private:
  static constexpr size_t kSymbols = 14;  // digits, '-', '.', 'e', '+'
  struct State {
    std::array<uint32_t, kSymbols> next;
    bool is_end = false;
    bool goes_on = false;
  };

  static int symbol_of(uint8_t byte);
  uint32_t add_state();
  void connect(uint32_t from, char byte, uint32_t to);
  uint32_t add_fraction(bool with_exponent);
  bool add_magnitudes(uint32_t from, int64_t least, int64_t most, uint32_t fraction);

  std::vector<State> states_;

 public:
  static constexpr size_t kStateBytes = sizeof(State);
};

}  // namespace ruvltra
