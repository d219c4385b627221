// Texts through the tokenizer: ids in range, exact round trip, no control token out of untrusted text.
// First byte: where the text is cut into runs; the rest is the text.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "text/nfc.h"
#include "text/stream_text.h"
#include "text/tokenizer.h"
#include "text/tokenizer_sample.h"

namespace {

using namespace ruvltra;
using Ids = std::vector<TokenId>;

Tokenizer load(bool nfc) {
  SampleVocabulary vocabulary;
  // Merges that reach over spaces, newlines, apostrophes and parts of code points, and chains of one letter.
  for (const char* merge :
       {"a a", "aa aa", "e l", "Ġ a", "Ġ Ġ", "ĠĠ ĠĠ", "Ċ Ċ", "' s", "Ã ©", "Ì ģ", "ä ¸", "ä¸ Ń", "< |"}) {
    const std::string_view text(merge);
    const size_t space = text.find(' ');
    vocabulary.tokens.push_back(std::string(text.substr(0, space)) + std::string(text.substr(space + 1)));
    vocabulary.types.push_back(1);
    vocabulary.merges.emplace_back(text);
  }
  auto tokenizer = Tokenizer::load(vocabulary.metadata());
  CHECK(tokenizer.has_value());
  tokenizer->set_nfc(nfc);
  return std::move(*tokenizer);
}

Ids encode(const Tokenizer& tokenizer, std::string_view text, Recognise recognise) {
  const auto ids = tokenizer.encode(text, recognise);
  CHECK(ids.has_value());
  for (const TokenId id : *ids) {
    CHECK(id >= 0 && static_cast<size_t>(id) < tokenizer.n_vocab());
    CHECK(tokenizer.kind(id) != TokenKind::kUnused);
    CHECK(recognise == Recognise::kAll || tokenizer.kind(id) != TokenKind::kControl);
    CHECK(recognise != Recognise::kNone || tokenizer.kind(id) == TokenKind::kNormal);
  }
  return *ids;
}

size_t cut_before(std::string_view text, size_t position) {
  while (position > 0 && position < text.size() && (text[position] & 0xC0) == 0x80) --position;
  return position;
}

void check_runs(const Tokenizer& tokenizer, std::string_view text, uint8_t selector) {
  const size_t cut = cut_before(text, std::min<size_t>(selector, text.size()));
  const std::string head(text.substr(0, cut)), tail(text.substr(cut));
  constexpr Recognise kLevels[] = {Recognise::kNone, Recognise::kUserDefined, Recognise::kAll};
  const Recognise level = kLevels[selector % 3];
  const std::vector<TextRun> runs = {{head, level}, {tail, level}};
  CHECK(tokenizer.encode(runs) == encode(tokenizer, text, level));
  // Trusted text around untrusted text adds no control token to what it would give alone.
  const std::vector<TextRun> mixed = {{head, Recognise::kAll}, {tail, Recognise::kUserDefined}};
  const auto ids = tokenizer.encode(mixed);
  CHECK(ids.has_value());
  const auto count = [&](const Ids& of) {
    return std::count_if(of.begin(), of.end(),
                         [&](TokenId id) { return tokenizer.kind(id) == TokenKind::kControl; });
  };
  CHECK(count(*ids) == count(encode(tokenizer, head, Recognise::kAll)));
}

void check_stream(const Tokenizer& tokenizer, const Ids& ids, std::string_view text) {
  StreamText stream;
  std::string shown;
  for (const TokenId id : ids) shown += stream.push(tokenizer.bytes(id));
  CHECK(shown + stream.finish() == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tokenizer reference = load(true);
  static const Tokenizer as_is = load(false);
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  if (!utf8_is_valid(text)) {
    const auto ids = reference.encode(text, Recognise::kAll);
    CHECK(!ids && ids.error().id == "tokenizer.invalid_utf8");
    return 0;
  }
  CHECK(reference.decode(encode(reference, text, Recognise::kNone), true) == to_nfc(text));
  for (const Recognise level : {Recognise::kNone, Recognise::kUserDefined, Recognise::kAll}) {
    const Ids ids = encode(as_is, text, level);
    CHECK(as_is.decode(ids, true) == text);
    if (level == Recognise::kAll) check_stream(as_is, ids, text);
  }
  check_runs(as_is, text, data[0]);
  return 0;
}
