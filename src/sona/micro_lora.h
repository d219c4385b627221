// MicroLoRA: a ladder adapter at the output head (model/adapter.h has the formula). The projections A_t are
// fixed and shared by every adapter of a model; B (d x m) is all that learns. So the loss is convex in B,
// averages of adapters are exact, and no gradient passes through a layer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/sha256.h"
#include "model/adapter.h"
#include "ruvltra/error.h"

namespace ruvltra {

inline constexpr size_t kMaxAdapterRank = 16;
inline constexpr size_t kMaxHooks = 4;
// Fewer canary tokens do not say what a feature's mean and deviation are.
inline constexpr size_t kMinBasisTokens = 1024;

// What a basis is made for.
struct BasisSpec {
  Sha256Digest model = {};  // of the model file
  size_t n_layers = 0, d_model = 0;
  float eps = 1e-6f;        // of the model's norms
  std::vector<int> layers;  // hooks: 1..4, ascending, each < n_layers
  bool final_tap = true;    // one more block of features, of the last layer's residual
  size_t rank = 4;          // 1..16
  uint64_t seed = 1;        // the user's

  size_t n_taps() const { return layers.size() + (final_tap ? 1 : 0); }
  size_t n_features() const { return n_taps() * rank + 1; }
  // Errors (usage): learning.bad_rank, learning.too_many_hooks, learning.hook_out_of_range,
  // learning.dim_mismatch (rank above d_model, or a size of 0).
  Result<void> validate() const;
};

// Projections, means and deviations of the features: immutable, named by the hash of all it holds.
//
// *Thread safety*: const calls may run in parallel.
class AdapterBasis {
 public:
  const BasisSpec& spec() const { return spec_; }
  const Sha256Digest& hash() const { return hash_; }
  size_t d() const { return spec_.d_model; }
  size_t n_features() const { return spec_.n_features(); }  // m
  float scale() const;                                      // s = 1 / sqrt(m)
  // The layers to tap, in the order of features; ends with n_layers - 1 for the final tap.
  std::span<const int> tap_layers() const { return tap_layers_; }
  FeatureView view() const;  // of arrays of this object

  // RVC1 kind basis. Errors: container.*; basis.shape, basis.values.
  static Result<AdapterBasis> parse(std::span<const uint8_t> bytes, std::string_view name,
                                    const Sha256Digest& model);
  static Result<AdapterBasis> load(const std::filesystem::path& file, const Sha256Digest& model);
  std::vector<uint8_t> bytes() const;
  Result<void> save(const std::filesystem::path& file) const;

 private:
  friend class BasisBuilder;
  AdapterBasis() = default;
  void name_taps();
  void name_contents();

  BasisSpec spec_;
  std::vector<int> tap_layers_;
  std::vector<float> a_;                   // (n_taps, rank, d)
  std::vector<float> mu_, inverse_sigma_;  // (n_taps, rank)
  Sha256Digest hash_ = {};
};

// Draws A, then measures mu and sigma on canary tokens.
//
//   A_t: rank rows of N(0, 1), made orthonormal; counter-based random numbers whose seed is
//   SHA-256(model, layer, user's seed). The final tap counts as layer n_layers.
//
// *Thread safety*: none.
class BasisBuilder {
 public:
  // Errors: those of BasisSpec::validate().
  static Result<BasisBuilder> make(BasisSpec spec);

  std::span<const int> tap_layers() const { return basis_.tap_layers(); }
  size_t n_tokens() const { return n_tokens_; }
  // One token; taps[t] is x_t (d).
  void add(const float* const* taps);
  // A feature that never varies gets weight 0: nothing is known of its scale. Errors: learning.few_tokens
  // below kMinBasisTokens, learning.not_finite.
  Result<AdapterBasis> finish() &&;

 private:
  BasisBuilder() = default;
  AdapterBasis basis_;
  std::vector<double> sum_, square_;  // (n_taps, rank), of A n less shift_
  std::vector<double> shift_;         // the first token's: keeps the difference of squares exact
  std::vector<float> projected_;
  size_t n_tokens_ = 0;
};

// One generation of a scope: B and the basis it belongs to. Immutable; named by its content hash, SHA-256
// over "ruvltra-adapter-v1", model hash, basis hash, r, s and B, each with its length before it.
//
// *Thread safety*: const calls may run in parallel.
class Adapter {
 public:
  // b: (m, d), row j is column j of B. Errors: learning.dim_mismatch, learning.not_finite.
  static Result<Adapter> make(std::shared_ptr<const AdapterBasis> basis, std::vector<float> b);
  static Adapter zero(std::shared_ptr<const AdapterBasis> basis);

  const AdapterBasis& basis() const { return *basis_; }
  const std::shared_ptr<const AdapterBasis>& shared_basis() const { return basis_; }
  const Sha256Digest& hash() const { return hash_; }
  std::span<const float> b() const { return b_; }
  bool is_zero() const { return zero_; }  // bit-identical to the model without an adapter
  AdapterView view() const;               // of arrays of this object

  // RVC1 kind adapter. Errors: container.* (container.model_mismatch among them);
  // learning.model_mismatch if it was made for another basis; adapter.hash.
  static Result<Adapter> parse(std::span<const uint8_t> bytes, std::string_view name,
                               std::shared_ptr<const AdapterBasis> basis);
  static Result<Adapter> load(const std::filesystem::path& file, std::shared_ptr<const AdapterBasis> basis);
  std::vector<uint8_t> bytes() const;
  Result<void> save(const std::filesystem::path& file) const;

 private:
  Adapter() = default;
  std::shared_ptr<const AdapterBasis> basis_;
  std::vector<float> b_;
  Sha256Digest hash_ = {};
  bool zero_ = false;
};

}  // namespace ruvltra
