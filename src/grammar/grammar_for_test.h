// What the tests of grammars share: whether a text is in a grammar's language, and texts drawn from it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <string_view>

#include "grammar/schema.h"
#include "grammar/stacks.h"

namespace ruvltra::testing {

inline std::shared_ptr<const Grammar> grammar_of(std::string_view schema) {
  auto grammar = compile_json_schema(schema, "schema");
  EXPECT_TRUE(grammar) << schema << ": " << (grammar ? "" : grammar.error().message);
  return grammar ? *grammar : nullptr;
}

inline bool is_complete(const Stacks& stacks) {
  for (const StackTop& top : stacks.tops())
    if (top.frame.kind == FrameKind::kDone) return true;
  return false;
}

inline bool read_byte(Stacks& stacks, uint8_t byte) {
  const size_t n = stacks.tops().size();
  stacks.step(0, n, byte);
  if (stacks.tops().size() == n) return false;
  stacks.keep_from(n);
  return true;
}

inline bool accepts(const Grammar& grammar, std::string_view text) {
  Stacks stacks(grammar);
  for (const char byte : text)
    if (!read_byte(stacks, static_cast<uint8_t>(byte))) return false;
  return is_complete(stacks);
}

// A text of the grammar, byte by byte from those that are allowed; after `patience` bytes those that close
// things come first. Empty if it did not end.
inline std::string random_text(const Grammar& grammar, std::mt19937_64& random, size_t patience = 60) {
  Stacks stacks(grammar);
  std::string text;
  while (text.size() < 200 * patience) {
    if (is_complete(stacks) && (stacks.tops().size() == 1 || text.size() > patience || random() % 4 == 0))
      return text;
    std::string allowed;
    for (int byte = 0; byte < 256; ++byte) {
      const auto mark = stacks.mark();
      stacks.step(0, mark.n_tops, static_cast<uint8_t>(byte));
      if (stacks.tops().size() > mark.n_tops) allowed += static_cast<char>(byte);
      stacks.truncate(mark);
    }
    if (allowed.empty()) {
      ADD_FAILURE() << "nothing may follow " << text;
      return "";
    }
    char byte = allowed[random() % allowed.size()];
    const bool hurries = text.size() > patience;
    if (hurries || random() % 3 == 0) {
      // The quote first: inside of strings the others close nothing.
      for (const char closing : std::string_view("]}\"")) {
        if (allowed.find(closing) != std::string::npos) byte = closing;
      }
    }
    EXPECT_TRUE(read_byte(stacks, static_cast<uint8_t>(byte)));
    text += byte;
  }
  return "";
}

}  // namespace ruvltra::testing
