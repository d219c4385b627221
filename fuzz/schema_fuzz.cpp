// A schema is compiled, and texts are drawn from its grammar: none leads to where nothing may follow, and
// what ends is JSON. The first byte chooses the walk.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>

#include "base/check.h"
#include "grammar/schema.h"
#include "grammar/stacks.h"

using namespace ruvltra;

namespace {

bool may_end(const Stacks& stacks) {
  for (const StackTop& top : stacks.tops())
    if (top.frame.kind == FrameKind::kDone) return true;
  return false;
}

void walk(const Grammar& grammar, uint64_t seed) {
  constexpr size_t kLongest = 300, kPatience = 100;
  std::mt19937_64 random(seed);
  Stacks stacks(grammar);
  std::string text;
  while (text.size() < kLongest) {
    const bool ends = may_end(stacks);
    if (ends && (text.size() > kPatience || random() % 4 == 0)) break;
    std::string allowed;
    for (int byte = 0; byte < 256; ++byte) {
      const auto mark = stacks.mark();
      stacks.step(0, mark.n_tops, static_cast<uint8_t>(byte));
      if (stacks.tops().size() > mark.n_tops) allowed += static_cast<char>(byte);
      stacks.truncate(mark);
    }
    CHECK(ends || !allowed.empty());
    if (allowed.empty()) break;
    char byte = allowed[random() % allowed.size()];
    if (text.size() > kPatience) {
      for (const char closing : std::string_view("]}\""))
        if (allowed.find(closing) != std::string::npos) byte = closing;
    }
    const size_t n_tops = stacks.tops().size();
    stacks.step(0, n_tops, static_cast<uint8_t>(byte));
    stacks.keep_from(n_tops);
    CHECK(!stacks.tops().empty());
    text += byte;
  }
#ifdef RUVLTRA_PLANT_BUG
  CHECK(text.find("\\u") == std::string::npos);
#endif
  if (may_end(stacks)) CHECK(nlohmann::json::accept(text));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view schema(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto grammar = compile_json_schema(schema, "fuzz");
  if (grammar) {
    walk(**grammar, data[0]);
  } else {
    const std::string_view id = grammar.error().id;
    CHECK(id.substr(0, 7) == "schema." || id.substr(0, 5) == "json.");
  }
  return 0;
}
