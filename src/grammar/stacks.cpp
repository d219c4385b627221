#include "grammar/stacks.h"

#include <algorithm>

#include "base/check.h"
#include "grammar/string_lexer.h"

namespace ruvltra {

namespace {
constexpr auto kStringText = static_cast<uint32_t>(StringPlace::kText);
}  // namespace

void Stacks::begin() {
  tops_.clear();
  below_.assign(1, StackTop{});
  level_ = 0;
  settle_sequence({{FrameKind::kSequence, grammar_->root, 0, 0}, 0, 1});
}

void Stacks::step(size_t first, size_t last, uint8_t byte) {
  level_ = tops_.size();
  for (size_t i = first; i < last; ++i) step(StackTop(tops_[i]), byte);
}

void Stacks::keep_from(size_t first) {
  tops_.erase(tops_.begin(), tops_.begin() + static_cast<std::ptrdiff_t>(first));
  if (tops_.size() > kMaxTops) tops_.resize(kMaxTops);
  // Who lies on whom: a frame always behind the one below it.
  constexpr uint32_t kUnused = 0, kUsed = 1;
  place_of_.assign(below_.size(), kUnused);
  place_of_[0] = kUsed;
  for (const StackTop& top : tops_) place_of_[top.below] = kUsed;
  for (size_t i = below_.size(); i-- > 1;)
    if (place_of_[i] == kUsed) place_of_[below_[i].below] = kUsed;
  uint32_t n_kept = 0;
  for (size_t i = 0; i < below_.size(); ++i) {
    if (place_of_[i] != kUsed) continue;
    below_[n_kept] = below_[i];
    below_[n_kept].below = i == 0 ? 0 : place_of_[below_[i].below];
    place_of_[i] = n_kept++;
  }
  below_.resize(n_kept);
  for (StackTop& top : tops_) top.below = place_of_[top.below];
}

void Stacks::add(const StackTop& top) {
  if (tops_.size() - level_ >= kMaxTops) return;
  if (std::find(tops_.begin() + static_cast<std::ptrdiff_t>(level_), tops_.end(), top) == tops_.end())
    tops_.push_back(top);
}

void Stacks::become(StackTop top, FrameKind kind, uint32_t count, uint32_t place) {
  top.frame.kind = kind;
  top.frame.count = count;
  top.frame.place = place;
  add(top);
}

// The value on top is complete: what waits for it goes on.
void Stacks::pop(const StackTop& top) {
  const StackTop next = below_[top.below];
  if (next.frame.kind == FrameKind::kSequence) {
    settle_sequence(next);
  } else {
    add(next);
  }
}

// `after` is what waits for the value.
void Stacks::push_value(const StackTop& after, uint32_t rule) {
  const auto below = static_cast<uint32_t>(below_.size());
  below_.push_back(after);
  for (const Alternative& alternative : grammar_->rules[rule].alternatives) {
    if (after.depth + alternative.need > kMaxGrammarDepth) continue;
    const uint32_t place = alternative.kind == FrameKind::kString ? kOpeningQuote : 0;
    add({{alternative.kind, alternative.arg, 0, place}, below, after.depth + 1});
  }
}

void Stacks::step(const StackTop& top, uint8_t byte) {
  const Frame& frame = top.frame;
  switch (frame.kind) {
    case FrameKind::kDone:
      return;
    case FrameKind::kText: {
      const std::string& text = grammar_->texts[frame.arg];
      if (static_cast<uint8_t>(text[frame.place]) != byte) return;
      if (frame.place + 1 == text.size()) return pop(top);
      return become(top, frame.kind, 0, frame.place + 1);
    }
    case FrameKind::kChoice: {
      const ByteTrie& trie = grammar_->tries[frame.arg];
      const uint32_t node = trie.child(frame.place, byte);
      if (node == ByteTrie::kNone) return;
      if (trie.has_children(node)) become(top, frame.kind, 0, node);
      if (trie.number(node) != ByteTrie::kNone) pop(top);
      return;
    }
    case FrameKind::kNumber: {
      const NumberAutomaton& number = grammar_->numbers[frame.arg];
      const uint32_t state = number.next(frame.place, byte);
      if (state == NumberAutomaton::kNone) return;
      if (number.goes_on(state)) become(top, frame.kind, 0, state);
      if (number.is_end(state)) pop(top);
      return;
    }
    case FrameKind::kString:
      return step_string(top, byte);
    case FrameKind::kSequence:
      return step_sequence(top, byte);
    case FrameKind::kArrayBegin:
    case FrameKind::kArrayFirst:
    case FrameKind::kArrayNext:
    case FrameKind::kArrayComma:
      return step_array(top, byte);
    default:
      return step_object(top, byte);
  }
}

void Stacks::step_string(StackTop top, uint8_t byte) {
  const StringRule& rule = grammar_->strings[top.frame.arg];
  uint32_t count = top.frame.count;
  if (top.frame.place == kOpeningQuote) {
    if (byte == '"') become(top, FrameKind::kString, 0, kStringText);
    return;
  }
  const uint8_t next = string_table()[top.frame.place][byte];
  if (next == kStringRefused) return;
  if (next == kStringClosed) {
    if (count >= rule.least) pop(top);
    return;
  }
  if (top.frame.place == kStringText && count >= rule.most) return;
  // Counts that cannot be told apart from here on are one.
  if (next == kStringText && (rule.most != kUnlimited || count < rule.least)) ++count;
  become(top, FrameKind::kString, count, next);
}

void Stacks::step_object(StackTop top, uint8_t byte) {
  const ObjectRule& object = grammar_->objects[top.frame.arg];
  const uint32_t count = top.frame.count;
  switch (top.frame.kind) {
    case FrameKind::kObjectBegin:
      if (byte == '{') become(top, FrameKind::kObjectFirst, 0);
      return;
    case FrameKind::kObjectFirst:
      if (byte == '}' && object.may_end(0)) pop(top);
      if (byte == '"') open_name(top, object);
      return;
    case FrameKind::kObjectNext:
      if (byte == '}' && object.may_end(count)) pop(top);
      if (byte == ',' && member_may_follow(top, object)) become(top, FrameKind::kObjectComma, count);
      return;
    case FrameKind::kObjectComma:
      if (byte == ' ') become(top, FrameKind::kObjectQuote, count);
      if (byte == '"') open_name(top, object);
      return;
    case FrameKind::kObjectQuote:
      if (byte == '"') open_name(top, object);
      return;
    case FrameKind::kObjectName:
      return step_name(top, object, byte);
    case FrameKind::kObjectOther:
      return step_other_name(top, object, byte);
    case FrameKind::kObjectColon:
      if (byte != ':') return;
      become(top, FrameKind::kObjectValue, count);
      return begin_member(top, object);
    case FrameKind::kObjectValue:
      if (byte == ' ') begin_member(top, object);
      return;
    default:
      CHECK(false);
  }
}

void Stacks::open_name(const StackTop& top, const ObjectRule& object) {
  const uint32_t from = top.frame.count;
  if (name_fits(top, object, ByteTrie::kRoot)) become(top, FrameKind::kObjectName, from, ByteTrie::kRoot);
  if (others_fit(top, object, from)) become(top, FrameKind::kObjectOther, ByteTrie::kRoot, kStringText);
}

void Stacks::step_name(StackTop top, const ObjectRule& object, uint8_t byte) {
  const uint32_t node = object.names.child(top.frame.place, byte);
  if (node == ByteTrie::kNone || !name_fits(top, object, node)) return;
  const uint32_t member = object.names.number(node);
  if (member == ByteTrie::kNone) return become(top, FrameKind::kObjectName, top.frame.count, node);
  become(top, FrameKind::kObjectColon, member);
}

void Stacks::step_other_name(StackTop top, const ObjectRule& object, uint8_t byte) {
  const uint8_t next = plain_string_table()[top.frame.place][byte];
  if (next == kStringRefused) return;
  uint32_t node = top.frame.count;
  if (node != ByteTrie::kNone) node = object.names.child(node, byte);
  if (next != kStringClosed) return become(top, FrameKind::kObjectOther, node, next);
  if (node == ByteTrie::kNone)
    become(top, FrameKind::kObjectColon, static_cast<uint32_t>(object.members.size()));
}

void Stacks::begin_member(const StackTop& top, const ObjectRule& object) {
  const uint32_t member = top.frame.count;
  const auto n_members = static_cast<uint32_t>(object.members.size());
  StackTop after = top;
  after.frame = {FrameKind::kObjectNext, top.frame.arg, std::min(member + 1, n_members), 0};
  push_value(after, member < n_members ? object.members[member].rule : object.others);
}

// Whether a name that begins with what leads to `node` may be written here. Required members always fit: the
// object was begun only if they do.
bool Stacks::name_fits(const StackTop& top, const ObjectRule& object, uint32_t node) const {
  const uint32_t from = top.frame.count, required = object.next_required(from);
  const auto numbers = object.names.numbers_below(node);
  for (auto at = std::lower_bound(numbers.begin(), numbers.end(), from); at != numbers.end(); ++at) {
    if (*at > required) return false;
    if (fits(top, object.members[*at].rule)) return true;
  }
  return false;
}

bool Stacks::member_may_follow(const StackTop& top, const ObjectRule& object) const {
  return others_fit(top, object, top.frame.count) || name_fits(top, object, ByteTrie::kRoot);
}

void Stacks::step_array(StackTop top, uint8_t byte) {
  const ArrayRule& array = grammar_->arrays[top.frame.arg];
  const uint32_t count = top.frame.count;
  switch (top.frame.kind) {
    case FrameKind::kArrayBegin:
      if (byte != '[') return;
      if (array.least == 0) become(top, FrameKind::kArrayFirst, 0);
      return begin_item(top, array);
    case FrameKind::kArrayFirst:
      if (byte == ']') pop(top);
      return;
    case FrameKind::kArrayNext:
      if (byte == ']' && count >= array.least) pop(top);
      if (byte != ',' || !item_fits(top, array)) return;
      become(top, FrameKind::kArrayComma, count);
      return begin_item(top, array);
    default:
      if (byte == ' ') begin_item(top, array);
  }
}

bool Stacks::item_fits(const StackTop& top, const ArrayRule& array) const {
  return top.frame.count < array.most && fits(top, array.item(top.frame.count));
}

void Stacks::begin_item(const StackTop& top, const ArrayRule& array) {
  if (!item_fits(top, array)) return;
  const uint32_t count = top.frame.count;
  StackTop after = top;
  after.frame = {FrameKind::kArrayNext, top.frame.arg, array.clip(count + 1), 0};
  push_value(after, array.item(count));
}

// Goes on to a part that reads bytes.
void Stacks::settle_sequence(StackTop top) {
  const auto& parts = grammar_->sequences[top.frame.arg];
  top.frame.place = 0;
  if (top.frame.count == parts.size()) return pop(top);
  const SequencePart& part = parts[top.frame.count];
  switch (part.kind) {
    case SequencePart::Kind::kText:
    case SequencePart::Kind::kChoice:
      return add(top);
    case SequencePart::Kind::kValue:
      ++top.frame.count;
      return push_value(top, part.arg);
    case SequencePart::Kind::kRepeat:
      pop(top);
      top.frame = {FrameKind::kSequence, part.arg, 0, 0};
      return settle_sequence(top);
  }
}

void Stacks::step_sequence(StackTop top, uint8_t byte) {
  const SequencePart& part = grammar_->sequences[top.frame.arg][top.frame.count];
  if (part.kind == SequencePart::Kind::kText) {
    const std::string& text = grammar_->texts[part.arg];
    if (static_cast<uint8_t>(text[top.frame.place]) != byte) return;
    if (++top.frame.place < text.size()) return add(top);
    ++top.frame.count;
    return settle_sequence(top);
  }
  const ByteTrie& trie = grammar_->tries[part.arg];
  top.frame.place = trie.child(top.frame.place, byte);
  if (top.frame.place == ByteTrie::kNone) return;
  if (trie.has_children(top.frame.place)) add(top);
  const uint32_t number = trie.number(top.frame.place);
  if (number == ByteTrie::kNone) return;
  top.frame = {FrameKind::kSequence, part.branches[number], 0, 0};
  settle_sequence(top);
}

}  // namespace ruvltra
