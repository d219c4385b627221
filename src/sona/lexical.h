// Words as evidence: BM25 against labelled texts, and hashed TF-IDF vectors. Nothing here is a meaning; two
// texts without a common word have nothing in common.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ruvltra {

inline constexpr size_t kLexicalDim = 256;

// Labelled texts, and how well a new one fits each label. Stems, and beside them the first four letters of
// longer ones; never any part of a word: "ai" is not in "maintain".
//
// A label scores by BM25 (Robertson, Zaragoza: The Probabilistic Relevance Framework, 2009) twice: all its
// texts as one document, and its best single text. Rarity (IDF) is counted over labels, not texts: a word
// that every agent's examples use tells nothing, however rare it is.
//
// *Thread safety*: const after construction.
class LexicalIndex {
 public:
  struct Document {
    size_t label = 0;
    std::string text;
    double weight = 1;  // of its words in the label's own document
  };

  LexicalIndex() = default;
  LexicalIndex(size_t n_labels, std::span<const Document> documents);

  size_t n_labels() const { return n_labels_; }
  size_t n_documents() const { return lengths_.size(); }

  // Scores (n_labels), at least 0; all 0 where no word is known. `without`: as if that document were not
  // there, for leave-one-out.
  std::vector<double> scores(std::span<const std::string> words, int without = -1) const;

  // The stems that speak most for a label, strongest first, at most n.
  std::vector<std::string> strongest(std::span<const std::string> words, size_t label, size_t n) const;

  // log P(label): softmax of sharpness x score.
  std::vector<double> log_probabilities(std::span<const std::string> words, double sharpness) const;

  // Signed feature hashing (Weinberger et al. 2009) of TF-IDF over words and pairs of neighbours; unit
  // length, or all 0 for no words. (kLexicalDim)
  std::vector<float> hashed(std::span<const std::string> words) const;

  // Like hashed(), with the scores against all labels beside the words: texts that point at the same label
  // with different words come out near (explicit semantic analysis, Gabrilovich & Markovitch 2007). Unit
  // length, or all 0. (kLexicalDim)
  std::vector<float> profile(std::span<const std::string> words, int without = -1) const;

 private:
  struct Posting {
    uint32_t document = 0;
    float frequency = 0;
  };
  struct Term {
    std::vector<Posting> postings;                      // by document
    std::vector<std::pair<uint32_t, double>> in_label;  // label, weighted frequency
  };
  // Where a term is, less what one document adds.
  struct Presence {
    std::vector<std::pair<uint32_t, double>> in_label;
    size_t n_labels = 0;
  };
  Presence presence_of(const Term& term, int without) const;
  double idf(size_t n_labels_with) const;
  double idf_of(const std::string& word) const;

  size_t n_labels_ = 0;
  std::unordered_map<std::string, Term> terms_;
  std::vector<uint32_t> labels_;       // of the documents
  std::vector<double> weights_;        // of the documents
  std::vector<double> lengths_;        // of the documents, in words
  std::vector<double> label_lengths_;  // weighted
  double mean_length_ = 1, mean_label_length_ = 1;
};

// log softmax, in place.
void log_softmax(std::vector<double>& values);

}  // namespace ruvltra
