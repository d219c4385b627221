// Turning generated tokens into text piece by piece: never part of a code point, never part of a stop string.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace ruvltra {

// The text is the bytes pushed so far, each maximal invalid part replaced by U+FFFD. It ends where the stop
// string that completes first begins (of several that complete on the same byte, the longest). The result
// does not depend on how the bytes were cut into pushes. Invariants: 1. the concatenation of all returned
// pieces is valid UTF-8; 2. it is a prefix of the text before the first stop string, and equals it once
// finish() was called; 3. a byte is held back only while it may still belong to an incomplete code point or
// to the beginning of a stop string.
class StreamText {
 public:
  // Stop strings that are empty or not valid UTF-8 never match.
  explicit StreamText(std::vector<std::string> stop = {});

  // Adds a token's bytes; returns the text that may now be shown.
  std::string push(std::string_view bytes);
  // No more tokens: returns the rest; an incomplete code point becomes U+FFFD.
  std::string finish();
  // Whether a stop string was met. Later pushes return nothing.
  bool stopped() const { return stopped_; }

 private:
  // One stop string and how much of it the text now ends with (Knuth, Morris, Pratt 1977).
  struct Stop {
    std::string text;
    std::vector<size_t> border;  // border[n]: longest proper border of the first n bytes
    size_t n_matched = 0;
    void advance(char byte);
  };

  std::string advance(std::string_view text);

  std::vector<Stop> stops_;
  std::string held_;        // text that may be the beginning of a stop string
  std::string incomplete_;  // bytes that may be the beginning of a code point
  bool stopped_ = false;
};

}  // namespace ruvltra
