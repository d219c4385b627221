#include "text/nfc.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>

#include "base/utf8.h"

namespace ruvltra {
namespace {

// utf8proc's own NFC of the whole text: right, but quadratic for long runs of marks.
std::string whole_nfc(const std::string& text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.c_str());
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> out(utf8proc_NFC(bytes), &std::free);
  return reinterpret_cast<const char*>(out.get());
}

TEST(Nfc, Examples) {
  EXPECT_EQ(to_nfc(""), "");
  EXPECT_EQ(to_nfc("plain ascii"), "plain ascii");
  EXPECT_EQ(to_nfc("cafe\u0301!"), "caf\u00E9!");
  EXPECT_EQ(to_nfc("\u0301x"), "\u0301x");
  EXPECT_EQ(to_nfc("e\u0301\u0327"), "\u0229\u0301");        // marks change places, then compose
  EXPECT_EQ(to_nfc("\u1112\u1161\u11AB"), "\uD55C");         // Hangul
  EXPECT_EQ(to_nfc("\u212B\u2126\u212A"), "\u00C5\u03A9K");  // singletons
  EXPECT_EQ(to_nfc("\u0958"), "\u0915\u093C");               // composition exclusion
  EXPECT_EQ(to_nfc("a\u0304\u0301 \u1E17"), "\u0101\u0301 \u1E17");
}

TEST(Nfc, ScanTellsNormalText) {
  EXPECT_TRUE(is_surely_nfc("na\u00EFve \u4E2D\u6587 \uD55C\uAE00 \U0001F642"));
  EXPECT_FALSE(is_surely_nfc("e\u0301"));
  EXPECT_FALSE(is_surely_nfc("\u212B"));
}

TEST(Nfc, AgreesWithUtf8procOnWholeTexts) {
  std::mt19937 rng(11);
  const auto below = [&](uint32_t n) { return std::uniform_int_distribution<uint32_t>(0, n - 1)(rng); };
  constexpr std::pair<uint32_t, uint32_t> kRanges[] = {
      {0x61, 26},      {0xC0, 0x180},    {0x300, 0x70},    {0x370, 0x300},   {0x5B0, 0x15},
      {0x900, 0x400},  {0x1100, 0x100},  {0x1E00, 0x200},  {0x3040, 0x60},   {0xAC00, 0x2BA4},
      {0xF900, 0x200}, {0x2F800, 0x220}, {0x1D100, 0x100}, {0x11000, 0x400}, {1, 0xD7FF}};
  for (int round = 0; round < 40'000; ++round) {
    std::string text;
    for (uint32_t n = 1 + below(12); n > 0; --n) {
      const auto [first, size] = kRanges[below(std::size(kRanges))];
      utf8_append(text, first + below(size));
    }
    const std::string expected = whole_nfc(text);
    ASSERT_EQ(to_nfc(text), expected) << "round " << round;
    if (is_surely_nfc(text)) {
      ASSERT_EQ(text, expected);
    }
    ASSERT_EQ(to_nfc(expected), expected);
  }
}

// Marks in falling order of class: the worst case for sorting by exchange. Hangs if that is quadratic.
TEST(Nfc, LongRunsOfMarks) {
  constexpr size_t kHalf = size_t{1} << 20;
  std::string text = "a", expected = "a";
  for (size_t i = 0; i < kHalf; ++i) text += "\u0345";
  for (size_t i = 0; i < kHalf; ++i) text += "\u0334";
  for (size_t i = 0; i < kHalf; ++i) expected += "\u0334";
  for (size_t i = 0; i < kHalf; ++i) expected += "\u0345";
  EXPECT_TRUE(to_nfc(text) == expected);
}

}  // namespace
}  // namespace ruvltra
