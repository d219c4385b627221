// A grammar being followed byte by byte: all stacks that the text so far can have led to.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "grammar/grammar.h"

namespace ruvltra {

struct Frame {
  FrameKind kind = FrameKind::kDone;
  uint32_t arg = 0, count = 0, place = 0;  // FrameKind says what they mean
  friend bool operator==(const Frame&, const Frame&) = default;
};

// The top frame of a stack, and where the next one lies.
struct StackTop {
  Frame frame;
  uint32_t below = 0;
  uint32_t depth = 0;  // frames of the stack
  friend bool operator==(const StackTop&, const StackTop&) = default;
};

// Tops lie in levels, one after the other: a step reads a level and appends the next one. Frames below tops
// are shared by all.
//
// Thread safety: none. The grammar must outlive it.
// Invariants: 1. every stack can be completed: a frame is pushed only if the shortest value it allows fits
// below kMaxGrammarDepth; 2. frames below tops never change, so that levels can be taken back by
// truncate().
class Stacks {
 public:
  // Of one level. Where a text can be read in more ways, the last ones are given up: less may be written
  // then, and all of it is as the grammar says.
  static constexpr size_t kMaxTops = 128;
  static constexpr uint32_t kOpeningQuote = 0x100;  // StringPlace of a string that has not begun

  explicit Stacks(const Grammar& grammar) : grammar_(&grammar) { begin(); }
  void begin();

  struct Mark {
    size_t n_tops, n_below;
  };
  Mark mark() const { return {tops_.size(), below_.size()}; }
  void truncate(const Mark& mark) {
    tops_.resize(mark.n_tops);
    below_.resize(mark.n_below);
  }
  std::span<const StackTop> tops() const { return tops_; }
  const Grammar& grammar() const { return *grammar_; }

  // Appends what tops [first, last) become with `byte`. Nothing: no stack can read it.
  void step(size_t first, size_t last, uint8_t byte);
  void append(const StackTop& top) { tops_.push_back(top); }
  // Keeps tops [first, size()), at most kMaxTops of them, and what lies below them.
  void keep_from(size_t first);

 private:
  void step(const StackTop& top, uint8_t byte);
  void step_string(StackTop top, uint8_t byte);
  void step_object(StackTop top, uint8_t byte);
  void step_array(StackTop top, uint8_t byte);
  void step_sequence(StackTop top, uint8_t byte);
  void step_name(StackTop top, const ObjectRule& object, uint8_t byte);
  void step_other_name(StackTop top, const ObjectRule& object, uint8_t byte);

  void add(const StackTop& top);
  void become(StackTop top, FrameKind kind, uint32_t count, uint32_t place = 0);
  void pop(const StackTop& top);
  void settle_sequence(StackTop top);
  void push_value(const StackTop& after, uint32_t rule);
  void open_name(const StackTop& top, const ObjectRule& object);
  void begin_member(const StackTop& top, const ObjectRule& object);
  void begin_item(const StackTop& top, const ArrayRule& array);

  bool fits(const StackTop& top, uint32_t rule) const {
    return rule != kNoRule && top.depth + grammar_->rules[rule].need <= kMaxGrammarDepth;
  }
  bool others_fit(const StackTop& top, const ObjectRule& object, uint32_t from) const {
    return object.may_end(from) && fits(top, object.others);
  }
  bool name_fits(const StackTop& top, const ObjectRule& object, uint32_t node) const;
  bool member_may_follow(const StackTop& top, const ObjectRule& object) const;
  bool item_fits(const StackTop& top, const ArrayRule& array) const;

  const Grammar* grammar_;
  std::vector<StackTop> tops_;
  std::vector<StackTop> below_;     // [0] is under every stack
  size_t level_ = 0;                // where the level that is being made begins
  std::vector<uint32_t> place_of_;  // of keep_from()
};

}  // namespace ruvltra
