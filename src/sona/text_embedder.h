// From a text to a vector: what the bank, the index and the router compare.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"
#include "ruvltra/learning.h"

namespace ruvltra {

// A unit vector, and the space it lives in. Vectors of different spaces are never compared.
struct Embedding {
  uint64_t space = 0;
  std::vector<float> values;  // (kEmbeddingDim)
};

// Thread safety: all functions from any thread.
class TextEmbedder {
 public:
  virtual ~TextEmbedder() = default;
  // The space of the vectors that embed() makes now.
  virtual uint64_t space() const = 0;
  // Errors: learning.empty_text, learning.text_too_long, tokenizer.*, engine.stopped.
  virtual Result<Embedding> embed(std::string_view text, std::string_view tenant) = 0;
  // What embed() would give, if it is in the cache: no model pass.
  virtual bool cached(std::string_view text, std::string_view tenant, Embedding* embedding) const = 0;
};

}  // namespace ruvltra
