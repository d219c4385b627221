// The Qwen2 pre-tokenizer: splits text into the words that byte-level BPE then works on one by one.
#pragma once

#include <cstddef>
#include <string_view>

namespace ruvltra {

// End of the word that begins at text[begin]. Equals the first match, at `begin`, of the published pattern
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|
//   ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// where \s is White_Space and (?i) also folds U+017F to s. Words follow one another without gaps, and
// splitting a whole text takes time linear in its length. *Requires*: begin < text.size(), text is valid
// UTF-8 and a code point starts at begin.
size_t word_end(std::string_view text, size_t begin);

}  // namespace ruvltra
