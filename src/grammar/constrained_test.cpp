// Masks against the plain question, asked for every token of the vocabulary.
#include "grammar/constrained.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <set>

#include "gguf/reader.h"
#include "grammar/grammar_for_test.h"
#include "text/tokenizer_sample.h"

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

// A member that can no longer be written does not come back as an additional one.
TEST(Constrained, OtherNamesAreOther) {
  const Vocabulary& words = vocabulary();
  ConstrainedText text(grammar_of(kSchemas[2]), words.trie);
  std::vector<uint64_t> mask(words.trie->n_words());
  ASSERT_TRUE(text.accept(R"({"then": 1, "the)", false));
  text.fill_mask(mask);
  size_t n_allowed = 0;
  for (size_t id = 0; id < words.tokenizer.n_vocab(); ++id) {
    if ((mask[id / 64] >> id % 64 & 1) == 0) continue;
    ++n_allowed;
    EXPECT_NE(words.tokenizer.bytes(static_cast<TokenId>(id))[0], '"');
  }
  EXPECT_GT(n_allowed, 1000u);
  EXPECT_FALSE(text.accept("\"", false));
  EXPECT_TRUE(text.accept("m\": ", false));
}

// Tokens as large vocabularies have them: words with and without a space before them, punctuation by two and
// three, and words that begin or end with a quote, of which there are more here than in Qwen's.
Tokenizer large_vocabulary(size_t n_tokens) {
  SampleVocabulary out;
  std::set<std::string> seen(out.tokens.begin(), out.tokens.end());
  std::mt19937_64 random(3);
  const auto add = [&](const std::string& text) {
    std::string stored;
    for (const char c : text) {
      if (c == ' ' || c == '\n') {
        utf8_append(stored, c == ' ' ? 0x120 : 0x10a);
      } else {
        stored += c;
      }
    }
    if (!seen.insert(stored).second) return;
    out.tokens.push_back(stored);
    out.types.push_back(1);
  };
  const auto word = [&] {
    std::string text;
    for (uint64_t n = 2 + random() % 8; n > 0; --n)
      text += "etaoinshrdlucmfwypvbgkqjxz"[std::min(random() % 26, random() % 26)];
    return text;
  };
  const std::string marks = "\",:{}[]().?! \n'";
  for (const char a : marks) {
    for (const char b : marks) {
      add({a, b});
      for (const char c : marks) add({a, b, c});
    }
  }
  for (size_t i = 0; i < n_tokens / 50; ++i) {
    for (const std::string& text : {word() + "\"", "\"" + word(), " \"" + word(), word() + "\":"}) add(text);
  }
  while (out.tokens.size() < n_tokens) add((random() % 2 == 0 ? "" : " ") + word());
  return *Tokenizer::load(out.metadata());
}

// Prints the processor time of masks along random walks; RUVLTRA_VOCABULARY=151936 for the size of Qwen2's.
TEST(Constrained, TimePerMask) {
  const char* asked = std::getenv("RUVLTRA_VOCABULARY");
  const Tokenizer tokenizer = large_vocabulary(asked != nullptr ? std::strtoul(asked, nullptr, 10) : 12'000);
  const auto trie = *TokenTrie::make(tokenizer, tokenizer.n_vocab());
  const auto microseconds = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return 1e6 * static_cast<double>(time.tv_sec) + 1e-3 * static_cast<double>(time.tv_nsec);
  };
  std::vector<uint64_t> mask(trie->n_words());
  std::mt19937_64 random(1);
  for (const char* schema : kSchemas) {
    const auto grammar = grammar_of(schema);
    std::vector<double> times;
    for (int walk = 0; walk < 20; ++walk) {
      ConstrainedText text(grammar, trie);
      for (int step = 0; step < 60; ++step) {
        const double begin = microseconds();
        text.fill_mask(mask);
        times.push_back(microseconds() - begin);
        std::vector<TokenId> allowed;
        for (TokenId id = 0; static_cast<size_t>(id) < tokenizer.n_vocab(); ++id)
          if ((mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0) allowed.push_back(id);
        ASSERT_FALSE(allowed.empty());
        const TokenId next = allowed[random() % allowed.size()];
        ASSERT_TRUE(text.accept(tokenizer.bytes(next), tokenizer.ends_generation(next)));
        if (tokenizer.ends_generation(next)) break;
      }
    }
    std::sort(times.begin(), times.end());
    std::printf("vocabulary %zu, %zu masks: p50 %.0f us, p99 %.0f us, most %.0f us: %.50s\n",
                tokenizer.n_vocab(), times.size(), times[times.size() / 2], times[times.size() * 99 / 100],
                times.back(), schema);
  }
}

}  // namespace
}  // namespace ruvltra
