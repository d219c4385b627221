// Masks against the plain question, asked for every token of the vocabulary.
#include "grammar/constrained.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "gguf/reader.h"
#include "grammar/grammar_for_test.h"

namespace ruvltra {
namespace {

using testing::grammar_of;

struct Vocabulary {
  Tokenizer tokenizer;
  std::shared_ptr<const TokenTrie> trie;

  Vocabulary()
      : tokenizer(*Tokenizer::load(
            GgufFile::open(std::string(RUVLTRA_SOURCE_DIR) + "/models/nano-q8_0.gguf")->metadata())),
        trie(*TokenTrie::make(tokenizer, tokenizer.n_vocab() + 3)) {}

  bool accept(ConstrainedText& text, TokenId id) const {
    return text.accept(tokenizer.bytes(id), tokenizer.ends_generation(id));
  }
};

const Vocabulary& vocabulary() {
  static const Vocabulary kVocabulary;
  return kVocabulary;
}

const std::vector<const char*> kSchemas = {
    "true",
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":12},"age":{"type":"integer","minimum":0,
        "maximum":130},"tags":{"type":"array","items":{"type":"string","minLength":3},"maxItems":3}},
        "required":["name"]})",
    R"({"type":"object","properties":{"the":{"type":"null"},"then":{"type":"number"}},"additionalProperties":true})",
    R"({"anyOf":[{"type":"string","maxLength":4},{"type":"string","minLength":6},{"enum":["the fox","the crow"]}]})",
    R"({"type":"array","items":{"$ref":"#"},"maxItems":2})",
};

// Walks as a sampler does, and asks at every step for every token.
TEST(Constrained, MasksSayWhatAcceptSays) {
  const Vocabulary& words = vocabulary();
  std::mt19937_64 random(5);
  std::vector<uint64_t> mask(words.trie->n_words());
  for (const char* schema : kSchemas) {
    SCOPED_TRACE(schema);
    const auto grammar = grammar_of(schema);
    for (int walk = 0; walk < 8; ++walk) {
      ConstrainedText text(grammar, words.trie);
      std::string written;
      for (int step = 0; step < 25; ++step) {
        text.fill_mask(mask);
        std::vector<TokenId> allowed;
        for (TokenId id = 0; static_cast<size_t>(id) < words.trie->n_vocab(); ++id) {
          const bool is_allowed = (mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0;
          if (static_cast<size_t>(id) >= words.tokenizer.n_vocab()) {
            ASSERT_FALSE(is_allowed);
            continue;
          }
          ConstrainedText ahead = text;
          const bool is_text =
              words.tokenizer.kind(id) != TokenKind::kControl || words.tokenizer.ends_generation(id);
          ASSERT_EQ(is_allowed, is_text && words.accept(ahead, id))
              << written << " + " << words.tokenizer.bytes(id);
          if (is_allowed) allowed.push_back(id);
        }
        ASSERT_FALSE(allowed.empty());
        const TokenId next = allowed[random() % allowed.size()];
        ASSERT_TRUE(words.accept(text, next));
        if (words.tokenizer.ends_generation(next)) {
          EXPECT_TRUE(nlohmann::json::accept(written)) << written;
          break;
        }
        written += words.tokenizer.bytes(next);
      }
    }
  }
}

TEST(Constrained, EndsWhereNothingMayFollow) {
  const Vocabulary& words = vocabulary();
  ConstrainedText text(grammar_of(R"({"const":"x"})"), words.trie);
  EXPECT_FALSE(text.may_end());
  EXPECT_FALSE(text.accept("", true));
  EXPECT_FALSE(text.accept("", false));
  EXPECT_TRUE(text.accept("\"x", false));
  EXPECT_FALSE(text.accept("y", false)) << "and nothing happens";
  EXPECT_TRUE(text.accept("\"", false));
  EXPECT_TRUE(text.may_end() && text.must_end());
  EXPECT_TRUE(text.accept("", true));
  EXPECT_FALSE(text.accept(" ", false));
  std::vector<uint64_t> mask(words.trie->n_words());
  text.fill_mask(mask);
  for (size_t id = 0; id < words.tokenizer.n_vocab(); ++id) {
    EXPECT_EQ((mask[id / 64] >> id % 64 & 1) != 0, words.tokenizer.ends_generation(static_cast<TokenId>(id)));
  }
}

// Texts that can be read in more ways than are followed: what is allowed leads to an end all the same.
TEST(Constrained, AmbiguityHasABound) {
  const Vocabulary& words = vocabulary();
  const auto grammar = grammar_of(
      R"({"anyOf":[{"type":"array","items":{"$ref":"#"},"maxItems":3},{"type":"array","items":{"$ref":"#"},"maxItems":2},
          {"type":"array","items":{"$ref":"#"}},{"type":"string","minLength":1},{"type":"string","maxLength":9}]})");
  std::vector<uint64_t> mask(words.trie->n_words());
  std::mt19937_64 random(1);
  for (int walk = 0; walk < 20; ++walk) {
    ConstrainedText text(grammar, words.trie);
    for (int i = 0; i < 12; ++i) ASSERT_TRUE(text.accept("[", false));
    for (int step = 0; step < 30; ++step) {
      text.fill_mask(mask);
      std::vector<TokenId> allowed;
      for (TokenId id = 0; static_cast<size_t>(id) < words.tokenizer.n_vocab(); ++id)
        if ((mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0) allowed.push_back(id);
      ASSERT_FALSE(allowed.empty());
      ASSERT_TRUE(words.accept(text, allowed[random() % allowed.size()]));
    }
  }
}

}  // namespace
}  // namespace ruvltra
