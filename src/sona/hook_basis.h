// From pooled hidden states to embeddings: centring and PCA whitening, one projection for each hook layer
// (docs/learning.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/sha256.h"
#include "ruvltra/error.h"
#include "ruvltra/learning.h"

namespace ruvltra {

// Immutable, content-addressed: space() is a digest of model, layers and every number in it.
//
//   y = P (x - mean),  e = y / |y|,  P = principal directions i < k times (lambda_i + 0.1 mean lambda)^-1/2
//   (zero where lambda_i is), k = min(kEmbeddingDim, d_model, n_texts / 2), the rest of e zero.
//
// Thread safety: const calls may run in parallel.
class HookBasis {
 public:
  // states: (n_texts, layers, d_model) pooled hidden states of texts of every kind. The same numbers give the
  // same basis. Errors: learning.few_texts (fewer than 4), learning.not_finite.
  static Result<HookBasis> fit(const Sha256Digest& model, std::vector<int> layers, size_t d_model,
                               std::span<const float> states);

  // RVC1 kind basis. Errors: container.*, file.*; basis.shape if the numbers do not fit together;
  // basis.layers if it was made for other layers.
  static Result<HookBasis> load(const std::filesystem::path& file, const Sha256Digest& model,
                                std::span<const int> layers, size_t d_model);
  Result<void> save(const std::filesystem::path& file) const;

  uint64_t space() const { return space_; }
  std::span<const int> layers() const { return layers_; }
  size_t d_model() const { return d_model_; }
  size_t n_directions() const { return n_directions_; }

  // x: (d_model) of layers()[l]; e: (kEmbeddingDim). False if x is the mean itself: it has no direction.
  bool embed(size_t l, std::span<const float> x, std::span<float> e) const;

 private:
  HookBasis() = default;
  void name_space();

  Sha256Digest model_ = {};
  std::vector<int> layers_;
  size_t d_model_ = 0, n_directions_ = 0;
  std::vector<float> mean_;        // (layers, d_model)
  std::vector<float> projection_;  // (layers, n_directions, d_model), scaled
  uint64_t space_ = 0;
};

}  // namespace ruvltra
