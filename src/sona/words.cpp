#include "sona/words.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <unordered_set>

#include "base/utf8.h"

namespace ruvltra {
namespace {

enum class Kind { kNone, kLower, kUpper, kDigit, kIdeograph };

// Scripts written without spaces, whose characters mean something on their own.
bool is_ideograph(char32_t c) {
  return (c >= 0x3040 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x3FFFF);
}

Kind kind_of(char32_t c) {
  if (c < 0x80) {
    if (c >= 'a' && c <= 'z') return Kind::kLower;
    if (c >= 'A' && c <= 'Z') return Kind::kUpper;
    return c >= '0' && c <= '9' ? Kind::kDigit : Kind::kNone;
  }
  if (is_ideograph(c)) return Kind::kIdeograph;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return Kind::kUpper;
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
      return Kind::kLower;
    case UTF8PROC_CATEGORY_ND:
      return Kind::kDigit;
    default:
      return Kind::kNone;
  }
}

void append_lower(std::string& out, char32_t c) {
  utf8_append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

// One run of letters and digits.
struct Run {
  std::u32string characters;
  std::vector<Kind> kinds;

  // Where a part of an identifier begins: fooBar, HTTPServer.
  bool begins_part(size_t i) const {
    if (i == 0 || kinds[i] != Kind::kUpper) return false;
    if (kinds[i - 1] == Kind::kLower) return true;
    return kinds[i - 1] == Kind::kUpper && i + 1 < kinds.size() && kinds[i + 1] == Kind::kLower;
  }

  void flush(std::vector<std::string>& words) {
    if (characters.empty()) return;
    std::string whole, part;
    std::vector<std::string> parts;
    for (size_t i = 0; i < characters.size(); ++i) {
      if (begins_part(i)) parts.push_back(std::move(part)), part.clear();
      append_lower(whole, characters[i]);
      append_lower(part, characters[i]);
    }
    parts.push_back(std::move(part));
    words.push_back(std::move(whole));
    if (parts.size() > 1) {
      for (std::string& p : parts) {
        if (p.size() > 1) words.push_back(std::move(p));
      }
    }
    characters.clear();
    kinds.clear();
  }
};

bool is_vowel(char c) { return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || c == 'y'; }
bool has_vowel(std::string_view s) { return std::any_of(s.begin(), s.end(), is_vowel); }

struct Ending {
  std::string_view suffix;
  std::string_view becomes;
  size_t min_stem;  // bytes that must stay in front
};

// Tried in this order: an ending stands before those that it ends with.
constexpr std::array kEndings = {
    Ending{"ifications", "ify", 2},
    Ending{"ification", "ify", 2},
    Ending{"ifier", "ify", 2},
    Ending{"ified", "ify", 2},
    Ending{"ifying", "ify", 2},
    Ending{"ibility", "ibl", 3},
    Ending{"ability", "abl", 3},
    Ending{"ization", "iz", 3},
    Ending{"izing", "iz", 3},
    Ending{"izer", "iz", 3},
    Ending{"ized", "iz", 3},
    Ending{"ational", "", 4},
    Ending{"ation", "", 4},
    Ending{"ative", "", 4},
    Ending{"ating", "", 4},
    Ending{"ator", "", 4},
    Ending{"ated", "", 4},
    Ending{"ate", "", 4},
    Ending{"ysis", "ys", 3},
    Ending{"ysing", "ys", 3},
    Ending{"yser", "ys", 3},
    Ending{"ctive", "ct", 2},
    Ending{"tion", "t", 3},
    Ending{"sion", "s", 3},
    Ending{"ency", "ent", 3},
    Ending{"ence", "ent", 3},
    Ending{"ancy", "ant", 3},
    Ending{"ance", "ant", 3},
    Ending{"ment", "", 4},
    Ending{"ness", "", 4},
    Ending{"less", "", 4},
    Ending{"ful", "", 4},
    Ending{"ily", "y", 3},
    Ending{"ly", "", 4},
    Ending{"ity", "", 4},
    Ending{"ical", "ic", 3},
    Ending{"al", "", 5},
    Ending{"ied", "y", 3},
    Ending{"ing", "", 3},
    Ending{"ed", "", 3},
    Ending{"er", "", 4},
};

void strip_plural(std::string& w) {
  const auto ends = [&](std::string_view s) { return w.size() > s.size() + 1 && w.ends_with(s); };
  if (ends("sses") || ends("xes") || ends("ches") || ends("shes") || ends("zes")) {
    w.resize(w.size() - 2);
  } else if (ends("ies") && w.size() > 4) {
    w.replace(w.size() - 3, 3, "y");
  } else if (w.size() > 3 && w.back() == 's') {
    const char before = w[w.size() - 2];
    if (before != 's' && before != 'u' && before != 'i') w.pop_back();
  }
}

bool strip_ending(std::string& w) {
  for (const Ending& e : kEndings) {
    if (w.size() < e.suffix.size() + e.min_stem || !w.ends_with(e.suffix)) continue;
    const std::string_view front(w.data(), w.size() - e.suffix.size());
    if (!has_vowel(front)) continue;
    if (e.suffix == "ed" && front.back() == 'e') continue;  // need, speed
    w.replace(front.size(), e.suffix.size(), e.becomes);
    return true;
  }
  return false;
}

// British spellings and doubled letters meet the others half-way.
void normalise(std::string& w) {
  for (size_t i = 0; i + 1 < w.size(); ++i) {
    if (w[i] == 'y' && w[i + 1] == 'z') w[i + 1] = 's';  // analyze
  }
  if (w.size() > 5) {
    for (const std::string_view british : {"isation", "ising", "iser", "ised", "ise"}) {
      if (!w.ends_with(british) || w.size() < british.size() + 3) continue;
      w[w.size() - british.size() + 1] = 'z';
      break;
    }
    if (w.ends_with("our")) w.erase(w.size() - 2, 1);  // behaviour
  }
}

const std::unordered_set<std::string_view>& stop_words() {
  static const std::unordered_set<std::string_view> words = {
      "a",       "an",     "the",    "this",   "that",   "these",  "those",   "it",     "its",   "i",
      "me",      "my",     "we",     "us",     "our",    "ours",   "you",     "your",   "he",    "she",
      "they",    "them",   "their",  "his",    "her",    "him",    "who",     "whom",   "whose", "which",
      "what",    "when",   "where",  "and",    "or",     "but",    "nor",     "if",     "then",  "else",
      "so",      "than",   "as",     "of",     "at",     "by",     "for",     "with",   "about", "into",
      "onto",    "to",     "from",   "in",     "on",     "off",    "out",     "over",   "under", "up",
      "down",    "is",     "am",     "are",    "was",    "were",   "be",      "been",   "being", "have",
      "has",     "had",    "having", "do",     "does",   "did",    "doing",   "done",   "will",  "would",
      "shall",   "should", "can",    "could",  "may",    "might",  "must",    "let",    "lets",  "please",
      "kindly",  "thanks", "thank",  "just",   "also",   "too",    "very",    "really", "some",  "any",
      "all",     "each",   "every",  "both",   "either", "no",     "not",     "only",   "own",   "same",
      "such",    "there",  "here",   "now",    "while",  "during", "through", "per",    "via",   "im",
      "ive",     "id",     "dont",   "doesnt", "cant",   "isnt",   "wont",    "hey",    "hi",    "hello",
      "because", "since",  "until",  "s",      "t",      "re",     "ll",      "ve",     "d",     "m",
      "get",     "gets",   "got",    "way",    "like",   "want",   "wants",   "need",   "needs", "needed",
  };
  return words;
}

}  // namespace

std::vector<std::string> raw_words(std::string_view text) {
  std::vector<std::string> words;
  Run run;
  size_t position = 0;
  while (position < text.size() && position < kMaxWordsBytes) {
    const char32_t c = utf8_decode(text, position);
    const Kind kind = kind_of(c);
    if (kind == Kind::kIdeograph) {
      run.flush(words);
      words.emplace_back();
      utf8_append(words.back(), c);
    } else if (kind != Kind::kNone) {
      run.characters.push_back(c);
      run.kinds.push_back(kind);
    } else if ((c == '\'' || c == 0x2019) && !run.characters.empty()) {
      // An apostrophe inside a word is dropped: don't, it's.
    } else {
      const bool language = run.characters.size() == 1 && (run.characters[0] | 32) == U'c';
      if (language && (c == '#' || (c == '+' && text.substr(position).starts_with("+")))) {
        words.emplace_back(c == '#' ? "c#" : "c++");
        run.characters.clear();
        run.kinds.clear();
      } else {
        run.flush(words);
      }
    }
  }
  run.flush(words);
  return words;
}

std::string stem(std::string_view word) {
  std::string w(word);
  if (w.size() < 4 || w.size() > 40) return w;
  if (!std::all_of(w.begin(), w.end(), [](char c) { return c >= 'a' && c <= 'z'; })) return w;
  strip_plural(w);
  normalise(w);
  // Every round shortens the word or ends the loop, but for the few endings that become another.
  for (int round = 0; round < 4 && strip_ending(w); ++round) {
  }
  if (w.size() > 3 && w.back() == 'e') w.pop_back();
  if (w.size() > 3 && w.back() == w[w.size() - 2] && !is_vowel(w.back())) w.pop_back();
  if (w.size() > 3 && w.back() == 'y') w.back() = 'i';
  return w;
}

bool is_stop_word(std::string_view word) { return stop_words().count(word) != 0; }

std::vector<std::string> content_words(std::string_view text) {
  std::vector<std::string> words;
  for (const std::string& word : raw_words(text)) {
    if (!is_stop_word(word)) words.push_back(stem(word));
  }
  return words;
}

}  // namespace ruvltra
