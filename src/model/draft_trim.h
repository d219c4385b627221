// Trimmed drafts: a model whose output matrix keeps the rows of the most frequent tokens, so that a step
// reads less. As main model it would never say the other tokens; as draft it only guesses worse. Format:
// docs/formats.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "model/convert_source.h"
#include "ruvltra/types.h"
#include "text/tokenizer.h"

namespace ruvltra {

struct DraftVocabulary {
  std::vector<TokenId> ids;  // ascending
  uint64_t n_corpus_tokens = 0;
  uint64_t n_corpus_covered = 0;  // of these are in ids
};

// The n tokens that a draft keeps: first the control and user-defined ones, then the most frequent of the
// corpus, those alike in the order of their ids, last the unused. Errors: draft.vocab (usage) unless n lies
// between the number of the first kind and the vocabulary's; draft.corpus for a text without tokens or not in
// UTF-8.
Result<DraftVocabulary> choose_draft_vocabulary(const Tokenizer& tokenizer, std::string_view corpus,
                                                size_t n);

// The same model with an output matrix of these rows, its own also where the embedding served before.
// *Requires*: ids ascending, below the vocabulary, at least one. Error: draft.trimmed (usage) for a model
// trimmed already.
Result<std::unique_ptr<WeightSource>> trim_head(std::unique_ptr<WeightSource> source,
                                                std::vector<TokenId> ids);

}  // namespace ruvltra
