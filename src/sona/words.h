// Words of a task as the router compares them: Unicode-lowercased, identifiers taken apart, stemmed, without
// stop words. A short text in another script or a made-up word passes through as it is.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ruvltra {

// Longer texts are read up to here, at a code point.
inline constexpr size_t kMaxWordsBytes = size_t{64} << 10;

// Letters and digits in a row make a word. "parseHttpHeader_v2" gives itself in lower case and its parts;
// ideographs are words of one character; "c++" and "c#" are words. *Requires*: valid UTF-8.
std::vector<std::string> raw_words(std::string_view text);

// A light English stemmer: endings come off step by step until none fits, so that forms of one word meet
// ("deploys", "deployed", "deployment"; "optimise", "optimization"). What it gives is a key, not a word.
// Words with anything but a-z in them are returned unchanged.
std::string stem(std::string_view word);

// Words that carry no topic: articles, pronouns, auxiliaries, polite forms.
bool is_stop_word(std::string_view word);

// Stems of the raw words that are no stop words, in order.
std::vector<std::string> content_words(std::string_view text);

}  // namespace ruvltra
