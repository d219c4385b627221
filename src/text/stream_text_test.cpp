#include "text/stream_text.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/utf8.h"

namespace ruvltra {
namespace {

using Strings = std::vector<std::string>;

// The contract, looked at from the end: the whole text, cut before the stop string that is complete first.
struct Expected {
  std::string text;
  bool stopped = false;
};
Expected reference(std::string_view bytes, const Strings& stops) {
  const std::string text = utf8_replace_invalid(bytes);
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t begin = end;
    for (const std::string& stop : stops) {
      if (!stop.empty() && std::string_view(text).substr(0, end).ends_with(stop))
        begin = std::min(begin, end - stop.size());
    }
    if (begin < end) return {text.substr(0, begin), true};
  }
  return {text, false};
}

// Longest end of `text` that begins a stop string: what may still be held back.
size_t longest_open(std::string_view text, const Strings& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    for (size_t n = 1; n < stop.size() && n <= text.size(); ++n) {
      if (text.ends_with(std::string_view(stop).substr(0, n))) longest = std::max(longest, n);
    }
  }
  return longest;
}

void check(const Strings& pushes, const Strings& stops) {
  StreamText stream(stops);
  std::string bytes, shown;
  for (const std::string& push : pushes) {
    const bool was_stopped = stream.stopped();
    const std::string piece = stream.push(push);
    if (was_stopped) {
      ASSERT_EQ(piece, "");
    }
    bytes += push;
    shown += piece;
    ASSERT_TRUE(utf8_is_valid(piece));
    const std::string complete =
        utf8_replace_invalid(std::string_view(bytes).substr(0, bytes.size() - utf8_incomplete_tail(bytes)));
    const Expected now = reference(complete, stops);
    ASSERT_EQ(stream.stopped(), now.stopped);
    ASSERT_EQ(shown,
              now.stopped ? now.text : complete.substr(0, complete.size() - longest_open(complete, stops)));
  }
  shown += stream.finish();
  const Expected expected = reference(bytes, stops);
  ASSERT_EQ(shown, expected.text);
  ASSERT_EQ(stream.stopped(), expected.stopped);
}

// Every way to cut `bytes` into pushes (one bit per gap).
void check_all_cuts(const std::string& bytes, const Strings& stops) {
  ASSERT_LE(bytes.size(), 14u);
  for (uint32_t cuts = 0; cuts < (1u << (bytes.size() - 1)); ++cuts) {
    Strings pushes(1);
    for (size_t i = 0; i < bytes.size(); ++i) {
      pushes.back() += bytes[i];
      if ((cuts >> i & 1) != 0) pushes.emplace_back();
    }
    check(pushes, stops);
    if (testing::Test::HasFatalFailure()) FAIL() << "cuts " << cuts;
  }
}

TEST(StreamText, EveryCutOfMultibyteText) {
  check_all_cuts("a\u00E9\u4E2D\U0001F642b", {});
  check_all_cuts("\xF0\x9F\x99", {});                   // never completes
  check_all_cuts("\xE4\xB8\x61\xFF\x80\xC3", {});       // broken in several ways
  check_all_cuts("\xED\xA0\x80\xF4\x90\x80\x80z", {});  // surrogate, above U+10FFFF
}

TEST(StreamText, EveryCutWithOverlappingStops) {
  check_all_cuts("aaab", {"aab"});
  check_all_cuts("abababac", {"ababac"});
  check_all_cuts("xabcdy", {"abcd", "bc"});  // "bc" is complete first
  check_all_cuts("xabcy", {"c", "bc", "abc"});
  check_all_cuts("no stop here", {"stop!", "her", "zzz"});
  check_all_cuts("one\n\ntwo", {"\n\n"});
  check_all_cuts("\u4E2D\u6587\u4E2Dab", {"\u6587\u4E2D"});
  check_all_cuts("a\xFFstop", {"\uFFFDst"});  // stops see the replaced text
  check_all_cuts("end", {"end", ""});
}

TEST(StreamText, UnfinishedStopIsShownAtTheEnd) {
  StreamText stream({"STOP"});
  EXPECT_EQ(stream.push("abc ST"), "abc ");
  EXPECT_EQ(stream.push("O"), "");
  EXPECT_EQ(stream.finish(), "STO");
  EXPECT_FALSE(stream.stopped());
}

TEST(StreamText, IncompleteCodePointIsReplacedAtTheEnd) {
  StreamText stream;
  EXPECT_EQ(stream.push("a\xE4\xB8"), "a");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

// A stop string that is no UTF-8 would cut a code point.
TEST(StreamText, InvalidStopNeverMatches) {
  StreamText stream({"\xA9"});
  EXPECT_EQ(stream.push("caf\u00E9\u00A9") + stream.finish(), "caf\u00E9\u00A9");
  EXPECT_FALSE(stream.stopped());
}

TEST(StreamText, RandomPushesAndStops) {
  std::mt19937 rng(5);
  const Strings pieces = {"a",    "a",        "b",        "ab",   "\u00E9", "\xC3",
                          "\xA9", "\xF0\x9F", "\x99\x82", "\xFF", " ",      "\uFFFD"};
  const auto some = [&](size_t n_max, size_t n_kinds) {
    std::string out;
    for (size_t n = rng() % (n_max + 1); n > 0; --n) out += pieces[rng() % n_kinds];
    return out;
  };
  for (int round = 0; round < 60'000; ++round) {
    Strings stops, pushes;
    for (size_t n = rng() % 4; n > 0; --n) stops.push_back(some(4, 5));
    for (size_t n = rng() % 8; n > 0; --n) pushes.push_back(some(3, pieces.size()));
    check(pushes, stops);
    if (HasFatalFailure()) FAIL() << "round " << round;
  }
}

}  // namespace
}  // namespace ruvltra
