// Vocabularies nobody vouches for: a small valid one is changed line by line, then loaded and used.
//   t ID TEXT  token     k ID N  type     m RANK TEXT  merge     s KEY N  special id     x N  drop the last N
//   types
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "gguf/reader.h"
#include "text/nfc.h"
#include "text/tokenizer.h"
#include "text/tokenizer_sample.h"

namespace {

using namespace ruvltra;

std::string_view take(std::string_view& text, char end) {
  const size_t n = std::min(text.find(end), text.size());
  const std::string_view part = text.substr(0, n);
  text.remove_prefix(std::min(n + 1, text.size()));
  return part;
}

int64_t number(std::string_view text) {
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// Sets items[index]; the index just behind the end appends.
template <class T>
void put(std::vector<T>& items, int64_t index, T value) {
  if (index < 0 || index > static_cast<int64_t>(items.size())) return;
  if (index == static_cast<int64_t>(items.size())) items.emplace_back();
  items[static_cast<size_t>(index)] = std::move(value);
}

Metadata changed(std::string_view lines) {
  SampleVocabulary vocabulary;
  std::vector<std::pair<std::string, int64_t>> special;
  while (!lines.empty()) {
    std::string_view line = take(lines, '\n');
    const std::string_view verb = take(line, ' ');
    const std::string_view first = take(line, ' ');
    if (verb == "t") put(vocabulary.tokens, number(first), std::string(line));
    if (verb == "k") put(vocabulary.types, number(first), static_cast<int32_t>(number(line)));
    if (verb == "m") put(vocabulary.merges, number(first), std::string(line));
    if (verb == "s") special.emplace_back("tokenizer.ggml." + std::string(first) + "_token_id", number(line));
    if (verb == "x") {
      for (int64_t n = number(first); n > 0 && !vocabulary.types.empty(); --n) vocabulary.types.pop_back();
    }
  }
  Metadata metadata = vocabulary.metadata();
  for (const auto& [key, id] : special) metadata.set(key, id);
  return metadata;
}

void load_and_use(const Metadata& metadata) {
  const auto tokenizer = Tokenizer::load(metadata);
  if (!tokenizer) {
    CHECK(tokenizer.error().id.starts_with("tokenizer.") && !tokenizer.error().message.empty());
    return;
  }
  std::string text = "hello, hell! <|im_end|>! <tool>> caf\u00E9\n\n";
  for (size_t id = 0; id < tokenizer->n_vocab() && text.size() < 4096; ++id) {
    if (tokenizer->kind(static_cast<TokenId>(id)) == TokenKind::kControl)
      text += tokenizer->bytes(static_cast<TokenId>(id));
  }
  for (const Recognise level : {Recognise::kNone, Recognise::kUserDefined, Recognise::kAll}) {
    const auto ids = tokenizer->encode(text, level);
    CHECK(ids.has_value());
    for (const TokenId id : *ids) {
      CHECK(id >= 0 && static_cast<size_t>(id) < tokenizer->n_vocab());
      CHECK(level == Recognise::kAll || tokenizer->kind(id) != TokenKind::kControl);
    }
    if (level == Recognise::kNone) CHECK(tokenizer->decode(*ids, true) == to_nfc(text));
  }
  CHECK(tokenizer->eos() < static_cast<TokenId>(tokenizer->n_vocab()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  load_and_use(changed({reinterpret_cast<const char*>(data), size}));
  const auto header = parse_gguf_header({data, size}, size, "fuzz");
  if (header) load_and_use(header->metadata);
  return 0;
}
