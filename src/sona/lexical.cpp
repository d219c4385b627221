#include "sona/lexical.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/utf8.h"
#include "sona/words.h"

namespace ruvltra {
namespace {

// Chosen by cross-validation over the bundled registry's own texts (docs/routing.md).
constexpr double kSaturation = 3;        // k1
constexpr double kLengthSingle = 0.4;    // b of one text
constexpr double kLengthLabel = 0.3;     // b of all texts of a label
constexpr double kBestTextWeight = 0.5;  // of the best single text beside the label as a whole
constexpr double kPairWeight = 0.2;      // of neighbouring words in the hashed vector
constexpr double kProfileShare = 0.8;    // of the label scores in the length of the profile
constexpr size_t kRootLetters = 4;

uint64_t hash_of(std::string_view a, std::string_view b = {}) {
  uint64_t h = 0xcbf29ce484222325u;  // FNV-1a
  const auto mix = [&h](std::string_view text) {
    for (const char c : text) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  };
  mix(a);
  if (!b.empty()) mix(" "), mix(b);
  h ^= h >> 32;
  return h * 0x9E3779B97F4A7C15u;
}

void add_hashed(std::vector<float>& out, uint64_t h, double value) {
  const size_t bucket = h >> 56;
  out[bucket] += static_cast<float>((h >> 55 & 1) != 0 ? value : -value);
}
static_assert(kLexicalDim == 256, "the bucket is eight bits of the hash");

bool normalise(std::span<float> values, double length = 1) {
  double sum = 0;
  for (const float v : values) sum += double{v} * v;
  if (sum <= 0) return false;
  const double scale = length / std::sqrt(sum);
  for (float& v : values) v = static_cast<float>(v * scale);
  return true;
}

std::vector<std::pair<std::string, double>> counted(std::span<const std::string> words) {
  std::unordered_map<std::string_view, size_t> place;
  std::vector<std::pair<std::string, double>> out;  // in order of first use: sums have a fixed order
  for (const std::string& w : words) {
    const auto [it, fresh] = place.emplace(w, out.size());
    if (fresh) out.emplace_back(w, 0);
    out[it->second].second += 1;
  }
  return out;
}

// The first letters of a longer stem stand for its family: what stemming left apart ("analyst", "analysis")
// and cognates of other languages ("Authentifizierung") still meet there.
std::string root_of(std::string_view word) {
  size_t position = 0;
  for (size_t letters = 0; letters < kRootLetters; ++letters) {
    const size_t length = utf8_sequence_length(word.substr(position));
    if (length == 0) return {};
    position += length;
  }
  return "^" + std::string(word.substr(0, position));
}

std::vector<std::string> with_roots(std::span<const std::string> words) {
  std::vector<std::string> out(words.begin(), words.end());
  for (const std::string& word : words) {
    if (std::string root = root_of(word); !root.empty()) out.push_back(std::move(root));
  }
  return out;
}

double saturated(double frequency, double length, double mean, double b) {
  if (frequency <= 0) return 0;
  return frequency * (kSaturation + 1) / (frequency + kSaturation * (1 - b + b * length / mean));
}

}  // namespace

void log_softmax(std::vector<double>& values) {
  if (values.empty()) return;
  const double top = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (const double v : values) sum += std::exp(v - top);
  const double log_sum = top + std::log(sum);
  for (double& v : values) v -= log_sum;
}

LexicalIndex::LexicalIndex(size_t n_labels, std::span<const Document> documents)
    : n_labels_(n_labels), label_lengths_(n_labels, 0) {
  double total = 0;
  for (size_t d = 0; d < documents.size(); ++d) {
    const Document& document = documents[d];
    CHECK(document.label < n_labels);
    const std::vector<std::string> words = with_roots(content_words(document.text));
    for (const auto& [word, count] : counted(words)) {
      Term& term = terms_[word];
      term.postings.push_back({static_cast<uint32_t>(d), static_cast<float>(count)});
      const auto label = static_cast<uint32_t>(document.label);
      auto it = std::find_if(term.in_label.begin(), term.in_label.end(),
                             [label](const auto& entry) { return entry.first == label; });
      if (it == term.in_label.end()) it = term.in_label.insert(term.in_label.end(), {label, 0.0});
      it->second += count * document.weight;
    }
    labels_.push_back(static_cast<uint32_t>(document.label));
    weights_.push_back(document.weight);
    lengths_.push_back(static_cast<double>(words.size()));
    label_lengths_[document.label] += document.weight * static_cast<double>(words.size());
    total += static_cast<double>(words.size());
  }
  if (!documents.empty()) mean_length_ = std::max(1.0, total / static_cast<double>(documents.size()));
  double sum = 0;
  for (const double length : label_lengths_) sum += length;
  if (n_labels > 0) mean_label_length_ = std::max(1.0, sum / static_cast<double>(n_labels));
}

double LexicalIndex::idf(size_t n_labels_with) const {
  const auto n = static_cast<double>(n_labels_);
  const auto df = static_cast<double>(n_labels_with);
  return std::log(1 + (n - df + 0.5) / (df + 0.5));
}

double LexicalIndex::idf_of(const std::string& word) const {
  const auto it = terms_.find(word);
  return idf(it == terms_.end() ? 0 : it->second.in_label.size());
}

LexicalIndex::Presence LexicalIndex::presence_of(const Term& term, int without) const {
  Presence presence{term.in_label, term.in_label.size()};
  if (without < 0) return presence;
  const auto left_out = static_cast<size_t>(without);
  for (const Posting& p : term.postings) {
    if (p.document != left_out) continue;
    for (auto& [label, frequency] : presence.in_label) {
      if (label == labels_[left_out]) frequency -= p.frequency * weights_[left_out];
      if (frequency < 1e-9) --presence.n_labels;
    }
  }
  return presence;
}

std::vector<double> LexicalIndex::scores(std::span<const std::string> words, int without) const {
  std::vector<double> whole(n_labels_, 0), best(n_labels_, 0), single(lengths_.size(), 0);
  for (const auto& [word, count] : counted(with_roots(words))) {
    const auto it = terms_.find(word);
    if (it == terms_.end()) continue;
    const Presence presence = presence_of(it->second, without);
    const double rarity = idf(presence.n_labels);
    for (const auto& [label, frequency] : presence.in_label) {
      whole[label] += rarity * saturated(frequency, label_lengths_[label], mean_label_length_, kLengthLabel);
    }
    for (const Posting& p : it->second.postings) {
      single[p.document] +=
          rarity * saturated(p.frequency, lengths_[p.document], mean_length_, kLengthSingle);
    }
  }
  for (size_t d = 0; d < single.size(); ++d) {
    if (static_cast<int>(d) != without) best[labels_[d]] = std::max(best[labels_[d]], single[d]);
  }
  for (size_t a = 0; a < n_labels_; ++a) whole[a] += kBestTextWeight * best[a];
  return whole;
}

std::vector<std::string> LexicalIndex::strongest(std::span<const std::string> words, size_t label,
                                                 size_t n) const {
  std::vector<std::pair<double, std::string>> found;
  for (const auto& [word, count] : counted(words)) {
    const auto it = terms_.find(word);
    if (it == terms_.end()) continue;
    for (const auto& [with, frequency] : it->second.in_label) {
      if (with != label) continue;
      const double rarity = idf(it->second.in_label.size());
      found.emplace_back(
          -rarity * saturated(frequency, label_lengths_[label], mean_label_length_, kLengthLabel), word);
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> out;
  for (size_t i = 0; i < std::min(n, found.size()); ++i) out.push_back(std::move(found[i].second));
  return out;
}

std::vector<double> LexicalIndex::log_probabilities(std::span<const std::string> words,
                                                    double sharpness) const {
  std::vector<double> values = scores(words);
  for (double& v : values) v *= sharpness;
  log_softmax(values);
  return values;
}

std::vector<float> LexicalIndex::hashed(std::span<const std::string> words) const {
  std::vector<float> out(kLexicalDim, 0);
  for (const auto& [word, count] : counted(words)) {
    add_hashed(out, hash_of(word), (1 + std::log(count)) * idf_of(word));
  }
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const double rarity = std::sqrt(idf_of(words[i]) * idf_of(words[i + 1]));
    add_hashed(out, hash_of(words[i], words[i + 1]), kPairWeight * rarity);
  }
  normalise(out);
  return out;
}

std::vector<float> LexicalIndex::profile(std::span<const std::string> words, int without) const {
  std::vector<float> out = hashed(words);
  const std::vector<double> score = scores(words, without);
  const double top = score.empty() ? 0 : *std::max_element(score.begin(), score.end());
  if (top <= 0) return out;
  // Only what stands out against the best: squared, the long tail of weak matches fades.
  std::vector<float> labels(kLexicalDim, 0);
  for (size_t a = 0; a < score.size(); ++a) {
    const double share = score[a] / top;
    const double value = share * share;
    const std::string name = std::to_string(a);
    for (int copy = 0; copy < 4; ++copy) {
      add_hashed(labels, hash_of(name, std::to_string(copy)), value);
    }
  }
  normalise(labels, std::sqrt(kProfileShare));
  normalise(out, std::sqrt(1 - kProfileShare));
  for (size_t i = 0; i < kLexicalDim; ++i) out[i] += labels[i];
  normalise(out);
  return out;
}

}  // namespace ruvltra
