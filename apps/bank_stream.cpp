#include "bank_stream.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "base/fail.h"
#include "base/num.h"

namespace ruvltra {
namespace {

constexpr size_t kMinOpening = 50, kMaxOpening = 250;
constexpr size_t kMinAnswer = 120, kMaxAnswer = 350, kMinMore = 60;
constexpr uint32_t kPurposeStream = 0x6273, kPurposeBootstrap = 0x6262;

// In order, line breaks and runs of spaces as one space.
std::vector<std::string> sentences(std::string_view text) {
  std::vector<std::string> found(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (std::isspace(static_cast<unsigned char>(text[i])) == 0) {
      found.back() += text[i];
      continue;
    }
    while (i + 1 < text.size() && std::isspace(static_cast<unsigned char>(text[i + 1])) != 0) ++i;
    const std::string& sentence = found.back();
    const bool ends =
        !sentence.empty() && std::string_view(".!?\"").find(sentence.back()) != std::string_view::npos;
    const bool begins = i + 1 < text.size() &&
                        (std::isupper(static_cast<unsigned char>(text[i + 1])) != 0 || text[i + 1] == '"');
    if (ends && begins) {
      found.emplace_back();
    } else if (!sentence.empty()) {
      found.back() += ' ';
    }
  }
  return found;
}

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> found(1);
  for (const char c : text) {
    if (c == ' ') {
      found.emplace_back();
    } else {
      found.back() += c;
    }
  }
  return found;
}

std::string joined(const std::vector<std::string>& list, size_t begin, size_t end) {
  std::string text;
  for (size_t i = begin; i < end; ++i) text += (text.empty() ? "" : " ") + list[i];
  return text;
}

void append_sentence(std::string& text, const std::string& sentence) {
  if (!text.empty()) text += ' ';
  text += sentence;
}

void read_passages_of(std::string_view text, std::vector<Passage>& passages) {
  const auto list = sentences(text);
  for (size_t i = 0; i + 2 < list.size();) {
    Passage passage;
    passage.opening = list[i++];
    if (passage.opening.size() < kMinOpening || passage.opening.size() > kMaxOpening) continue;
    while (i < list.size() && passage.answer.size() < kMinAnswer) append_sentence(passage.answer, list[i++]);
    while (i < list.size() && passage.more.size() < kMinMore) append_sentence(passage.more, list[i++]);
    if (passage.answer.size() >= kMinAnswer && passage.answer.size() <= kMaxAnswer &&
        passage.more.size() >= kMinMore && passage.more.size() <= kMaxAnswer) {
      passages.push_back(std::move(passage));
    }
  }
}

}  // namespace

Result<std::vector<Passage>> read_passages(std::string_view text, size_t at_least) {
  std::vector<Passage> passages;
  read_passages_of(text.substr(std::min(text.find("\n\n", text.size() / 2), text.size())), passages);
  if (passages.size() < at_least) {
    return fail(ErrorKind::kUsage, "bank.texts",
                "--texts: expected at least {} passages in its second half, found {}", at_least,
                passages.size());
  }
  return passages;
}

BankStream::BankStream(std::vector<Passage> passages, uint64_t seed)
    : passages_(std::move(passages)), seed_(seed) {
  for (size_t i = passages_.size(); i > 1; --i) std::swap(passages_[i - 1], passages_[below(i)]);
}

double BankStream::uniform() { return philox_uniform(seed_, n_drawn_++, 0, kPurposeStream); }
size_t BankStream::below(size_t n) {
  return std::min(static_cast<size_t>(uniform() * static_cast<double>(n)), n - 1);
}

std::vector<Passage> BankStream::take(size_t n) {
  n = std::min(n, passages_.size() - n_taken_);
  const auto from = passages_.begin() + static_cast<ptrdiff_t>(n_taken_);
  n_taken_ += n;
  return std::vector<Passage>(from, from + static_cast<ptrdiff_t>(n));
}

BankTask BankStream::first(const Passage& passage) {
  static constexpr std::string_view kPhrases[] = {"Go on with this story: ", "How does this story go on? ",
                                                  "Tell me what comes after this: "};
  return {std::string(kPhrases[below(3)]) + passage.opening, passage.answer};
}

// In other words, and remembered less well: up to three words of the opening's end are missing.
BankTask BankStream::again(const Passage& passage) {
  static constexpr std::string_view kPhrases[] = {"What happens next? ", "Continue: ", "And then? "};
  const auto list = words(passage.opening);
  const size_t n = list.size() - std::min(below(4), list.size() / 4);
  return {std::string(kPhrases[below(3)]) + joined(list, 0, n), passage.answer};
}

BankTask BankStream::shifted(const Passage& passage) {
  BankTask task = again(passage);
  const auto list = words(passage.answer);
  task.reference = joined(list, list.size() / 2, list.size()) + " " + passage.more;
  return task;
}

BankTask BankStream::short_request(const Passage& passage) {
  std::set<std::pair<size_t, std::string>> longest;  // long words stand for rare ones
  std::string word;
  for (const char c : passage.answer + " ") {
    if (std::isalpha(static_cast<unsigned char>(c))) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      continue;
    }
    if (!word.empty()) longest.emplace(word.size(), word);
    word.clear();
  }
  auto at = longest.rbegin();
  const std::string one = at->second;
  const std::string two = ++at == longest.rend() ? one : at->second;
  return {fmt::format("Tell me a story about a {} and a {}.", one, two), passage.answer};
}

RelativeChange bootstrap_change(const std::vector<double>& change, const std::vector<double>& base,
                                uint64_t seed) {
  constexpr size_t kResamples = 10'000;
  const size_t n = change.size();
  RelativeChange out;
  if (n == 0) return out;
  double sum = 0, sum_base = 0;
  for (size_t i = 0; i < n; ++i) {
    sum += change[i];
    sum_base += base[i];
  }
  out.percent = 100 * sum / sum_base;
  std::vector<double> resampled(kResamples);
  for (size_t r = 0; r < kResamples; ++r) {
    double x = 0, y = 0;
    for (size_t i = 0; i < n; ++i) {
      const double u =
          philox_uniform(seed, static_cast<uint32_t>(r), static_cast<uint32_t>(i), kPurposeBootstrap);
      const size_t at = std::min(static_cast<size_t>(u * static_cast<double>(n)), n - 1);
      x += change[at];
      y += base[at];
    }
    resampled[r] = 100 * x / y;
  }
  std::sort(resampled.begin(), resampled.end());
  out.low = resampled[kResamples / 40];
  out.high = resampled[kResamples - 1 - kResamples / 40];
  return out;
}

}  // namespace ruvltra
