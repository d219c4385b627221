// Importance matrices: how much each input column of a tensor matters.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "model/convert_source.h"
#include "ruvltra/error.h"

namespace ruvltra {

// Mean squared activations per input column, in the GGUF form of llama.cpp's imatrix tool: for each tensor
// NAME the F32 tensors NAME.in_sum2, one sum of squares per column, and NAME.counts, the number of vectors
// summed.
class ImportanceMatrix {
 public:
  // Errors: imatrix.tensor naming tensor, expected and found; those of the GGUF reader.
  static Result<ImportanceMatrix> load(const std::filesystem::path& path);

  size_t size() const { return columns_.size(); }
  // Null if the file says nothing about this tensor.
  const std::vector<float>* find(std::string_view tensor) const;
  // Errors: imatrix.shape if a row length differs from the model's, imatrix.tensor if no tensor is known to
  // it.
  Result<void> check(const WeightSource& model) const;

 private:
  std::string source_;
  std::map<std::string, std::vector<float>, std::less<>> columns_;
};

}  // namespace ruvltra
