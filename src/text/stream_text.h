// Turning generated tokens into text piece by piece: never part of a code point, never part of a stop string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ruvltra {

// Invariants: 1. the concatenation of all returned pieces is valid UTF-8; 2. it is a prefix of the text before the
// first stop string, and equals it once finish() was called; 3. a byte is held back only while it may still belong to
// an incomplete code point or to the beginning of a stop string.
class StreamText {
 public:
  explicit StreamText(std::vector<std::string> stop = {}) : stop_(std::move(stop)) {}

  // Adds a token's bytes; returns the text that may now be shown.
  std::string push(std::string_view bytes);
  // No more tokens: returns the rest; an incomplete code point becomes U+FFFD.
  std::string finish();
  // Whether a stop string was met. Later pushes return nothing.
  bool stopped() const { return stopped_; }

 private:
  std::string take(size_t n_bytes);
  std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace ruvltra
