// A compiled grammar: which byte strings an answer may be. A pushdown automaton (Sipser, "Introduction to the
// Theory of Computation", section 2.2) whose stack holds one frame per JSON value that is open, so that
// schemas that refer to themselves need no expansion.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "grammar/byte_trie.h"
#include "grammar/number_automaton.h"

namespace ruvltra {

// Frames of the deepest stack. JSON readers stop at 64 levels.
inline constexpr uint32_t kMaxGrammarDepth = 48;
// More than any depth: no text of finite length is possible.
inline constexpr uint32_t kEndless = 1'000'000;
inline constexpr uint32_t kUnlimited = ~uint32_t{0};
inline constexpr uint32_t kNoRule = ~uint32_t{0};

// What a frame waits for. The meaning of its numbers `count` and `place` in brackets.
enum class FrameKind : uint8_t {
  kDone,         // nothing: the text is complete
  kText,         // texts[arg] [place: bytes read]
  kChoice,       // one of tries[arg] [place: node]
  kString,       // strings[arg] [count: characters so far, place: StringPlace, or kOpeningQuote]
  kNumber,       // numbers[arg] [place: state]
  kObjectBegin,  // objects[arg]
  kObjectFirst,  // a member or the end
  kObjectNext,   // "," or the end [count: first member that may follow]
  kObjectComma,  // a space or a name [count: likewise]
  kObjectQuote,  // a name [count: likewise]
  kObjectName,   // the rest of a name [count: likewise, place: node of its names]
  kObjectOther,  // the rest of a name that is none of its names [count: node, or kNone, place: StringPlace]
  kObjectColon,  // ":" [count: the member; members.size(): another one]
  kObjectValue,  // a space [count: likewise]
  kArrayBegin,   // arrays[arg]
  kArrayFirst,   // an item or the end
  kArrayNext,    // "," or the end [count: items so far, no further than is of interest]
  kArrayComma,   // a space [count: likewise]
  kSequence,     // sequences[arg] [count: the part, place: as of that part]
};

// One way a value may be. `need` is the depth of stack that the shortest such value takes.
struct Alternative {
  FrameKind kind = FrameKind::kText;
  uint32_t arg = 0;
  uint32_t need = kEndless;
};

// A value: any of its alternatives.
struct Rule {
  std::vector<Alternative> alternatives;
  uint32_t need = kEndless;
};

struct StringRule {
  uint32_t least = 0, most = kUnlimited;  // characters
};

struct ObjectRule {
  struct Member {
    uint32_t rule = 0;
    uint32_t next_required = 0;  // the first required member that is not before this one; or their number
  };
  std::vector<Member> members;  // in the order they are written
  ByteTrie names;               // as they are written, with the closing quote
  uint32_t others = kNoRule;    // of members with other names, after those

  uint32_t next_required(uint32_t member) const {
    return member < members.size() ? members[member].next_required : static_cast<uint32_t>(members.size());
  }
  bool may_end(uint32_t member) const { return next_required(member) == members.size(); }
};

struct ArrayRule {
  std::vector<uint32_t> first;  // rules of the first items
  uint32_t others = kNoRule;    // of all further ones
  uint32_t least = 0, most = kUnlimited;

  uint32_t item(uint32_t i) const { return i < first.size() ? first[i] : others; }
  // Counts that cannot be told apart from here on are one.
  uint32_t clip(uint32_t count) const {
    const auto n_first = static_cast<uint32_t>(first.size());
    const uint32_t interest = std::max(least, n_first);
    return most == kUnlimited && count > interest ? interest : count;
  }
};

// What is written around values. A choice goes on with the sequence of the string that was chosen.
struct SequencePart {
  enum class Kind : uint8_t { kText, kValue, kChoice, kRepeat } kind = Kind::kText;
  uint32_t arg = 0;                // text, rule, or trie; kRepeat: the end, or the sequence `arg`
  std::vector<uint32_t> branches;  // kChoice: sequences by the number of the string
};

// Thread safety: const after it was compiled.
struct Grammar {
  std::vector<std::string> texts;  // none is empty
  std::vector<ByteTrie> tries;
  std::vector<StringRule> strings;
  std::vector<NumberAutomaton> numbers;
  std::vector<ObjectRule> objects;
  std::vector<ArrayRule> arrays;
  std::vector<Rule> rules;
  std::vector<std::vector<SequencePart>> sequences;
  uint32_t root = 0;  // a sequence
};

}  // namespace ruvltra
