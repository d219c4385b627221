// The texts of data/learning, compiled into the library (data/learning/README.md says what they are for).
//
// *Thread safety*: both functions may be called from any thread; the first call splits the text, and what it
// returns lives until the program ends.
#pragma once

#include <span>
#include <string_view>

namespace ruvltra {

// Short texts of every kind a model of text embeddings meets, without labels. Centring and PCA whitening of
// hidden-state embeddings are fitted on them. One line each, no control characters, UTF-8 in NFC.
std::span<const std::string_view> whitening_texts();

struct CanaryText {
  std::string_view id;      // "c001", "c002", ... in order
  std::string_view domain;  // "story", "code", ...
  std::string_view text;    // 60 to 120 words; code keeps its line breaks
};

// Ordinary good prose. A model that learns must keep predicting it as well as before.
std::span<const CanaryText> canary_texts();

}  // namespace ruvltra
