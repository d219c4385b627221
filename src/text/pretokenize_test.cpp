#include "text/pretokenize.h"

#include <gtest/gtest.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "text/unicode_tables.h"

namespace ruvltra {
namespace {

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = word_end(text, begin);
    EXPECT_GT(end, begin);
    EXPECT_LE(end, text.size());
    out.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return out;
}

using Words = std::vector<std::string>;

// A compiled PCRE2 pattern with UTF and Unicode properties.
class Pattern {
 public:
  explicit Pattern(const char* source) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source), PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    EXPECT_NE(code_, nullptr) << "at " << offset;
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
    match_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  }
  // End of the match at exactly `begin`, or 0.
  size_t end_of_match(std::string_view text, size_t begin) const {
    const int n = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin,
                              PCRE2_ANCHORED, match_.get(), nullptr);
    return n > 0 ? pcre2_get_ovector_pointer(match_.get())[1] : 0;
  }
  Words split(std::string_view text) const {
    Words out;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = end_of_match(text, begin);
      if (end <= begin) return {"no match"};
      out.emplace_back(text.substr(begin, end - begin));
      begin = end;
    }
    return out;
  }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
  };
  std::unique_ptr<pcre2_code, Free> code_;
  std::unique_ptr<pcre2_match_data, Free> match_;
};

// The published pattern; PCRE2's own \s also holds U+180E, which is no White_Space, so the property is
// spelled out.
constexpr const char* kPublished =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\p{White_Space}\p{L}\p{N}]+[\r\n]*|)"
    R"(\p{White_Space}*[\r\n]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+)";

std::string utf8(char32_t code_point) {
  std::string out;
  utf8_append(out, code_point);
  return out;
}

TEST(Pretokenize, PublishedExamples) {
  EXPECT_EQ(words("Hello, world!"), (Words{"Hello", ",", " world", "!"}));
  EXPECT_EQ(words("I'm  2024"), (Words{"I", "'m", " ", " ", "2", "0", "2", "4"}));
  EXPECT_EQ(words("a\n\n  b  \n"), (Words{"a", "\n\n", " ", " b", "  \n"}));
  EXPECT_EQ(words("x !?\r\n\ny"), (Words{"x", " !?\r\n\n", "y"}));
  EXPECT_EQ(words("   "), (Words{"   "}));
  EXPECT_EQ(words("\tfoo(bar)"), (Words{"\tfoo", "(bar", ")"}));
  EXPECT_EQ(words("''ll'LLx"), (Words{"''", "ll", "'LL", "x"}));
  EXPECT_EQ(words(""), Words{});
}

// Where JavaScript, PCRE2 and Rust disagree, Unicode's White_Space and simple case folding rule.
TEST(Pretokenize, CornersSettledByHand) {
  EXPECT_EQ(words("it'\u017F"), (Words{"it", "'\u017F"}));        // U+017F folds to s
  EXPECT_EQ(words("it'\u017Fx"), (Words{"it", "'\u017F", "x"}));  // and wins over '\p{L}+
  EXPECT_EQ(words("x'\u212A"), (Words{"x", "'\u212A"}));  // U+212A folds to k: no contraction, ' + letters
  EXPECT_EQ(words("a\uFEFF b"), (Words{"a", "\uFEFF", " b"}));  // U+FEFF is no White_Space: a symbol
  EXPECT_EQ(words(" \uFEFF"), (Words{" \uFEFF"}));
  EXPECT_EQ(words("\uFEFFa"), (Words{"\uFEFFa"}));
  EXPECT_EQ(words("a\u0085\u0085b"), (Words{"a", "\u0085", "\u0085b"}));  // U+0085 is White_Space, no \r\n
  EXPECT_EQ(words("a \u0085\n"), (Words{"a", " \u0085\n"}));
  EXPECT_EQ(words("a \u180E"), (Words{"a", " \u180E"}));  // U+180E is no White_Space
  EXPECT_EQ(words("\x1C a"), (Words{"\x1C", " a"}));      // nor are U+001C..U+001F
}

TEST(Pretokenize, ClassesAgreeWithPcre2) {
  const Pattern letter("\\p{L}"), number("\\p{N}"), space("\\p{White_Space}"), unassigned("\\p{Cn}");
  int n_compared = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string text = utf8(c);
    // PCRE2 10.42 knows Unicode 14.
    if (unassigned.end_of_match(text, 0) != 0) continue;
    const auto expected = letter.end_of_match(text, 0) != 0   ? unicode::CharClass::kLetter
                          : number.end_of_match(text, 0) != 0 ? unicode::CharClass::kNumber
                          : space.end_of_match(text, 0) != 0  ? unicode::CharClass::kSpace
                                                              : unicode::CharClass::kOther;
    ASSERT_EQ(unicode::char_class(c), expected) << "U+" << std::hex << static_cast<uint32_t>(c);
    ++n_compared;
  }
  EXPECT_GT(n_compared, 270'000);
  EXPECT_EQ(unicode::char_class(0x10FFFF), unicode::CharClass::kOther);
}

// Random strings over characters that the pattern tells apart, and over all of Unicode.
TEST(Pretokenize, AgreesWithPcre2) {
  const Pattern published(kPublished), unassigned("\\p{Cn}");
  const std::vector<std::string> pieces = {
      "a",      "B",      "s",      "S",          "t",      "re",     "vE",     "ll",     "L",
      "m",      "d",      "'",      "'",          "'s",     "1",      "9",      " ",      " ",
      "  ",     "\n",     "\r",     "\t",         "\v",     ".",      "!?",     "-",      "\u00E9",
      "\u4E2D", "\u0301", "\u0661", "\u00BD",     "\u00A0", "\u3000", "\u2028", "\u0085", "\uFEFF",
      "\u017F", "\u212A", "\u180E", "\U0001F642", "\x1C"};
  std::mt19937 rng(7);
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(rng); };
  for (int round = 0; round < 150'000; ++round) {
    std::string text;
    for (size_t n = 1 + below(14); n > 0; --n) {
      if (round % 3 != 0 || below(2) == 0) {
        text += pieces[below(pieces.size())];
        continue;
      }
      auto c = static_cast<char32_t>(below(below(2) == 0 ? 0x3000 : 0x110000));
      if (c >= 0xD800 && c < 0xE000) c = 'x';
      const std::string one = utf8(c);
      if (unassigned.end_of_match(one, 0) == 0) text += one;
    }
    ASSERT_EQ(words(text), published.split(text)) << "round " << round << ": " << text;
  }
}

TEST(Pretokenize, LongRunsAreLinear) {
  for (const std::string_view piece :
       {"a", " ", "\n", " \n", "\n ", "'", "1", ".", ".\n", "\u0085", "\u4E2D"}) {
    std::string text;
    while (text.size() < (size_t{2} << 20)) text += piece;
    text += 'x';
    size_t n_bytes = 0;
    for (const std::string& word : words(text)) n_bytes += word.size();
    EXPECT_EQ(n_bytes, text.size());
  }
}

}  // namespace
}  // namespace ruvltra
