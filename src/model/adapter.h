// A ladder adapter at the output head, as the forward pass applies it: views of arrays somebody else owns.
// src/sona/micro_lora.h makes, checks and keeps them; docs/learning.md says why.
//
//   n_t   = x_t / sqrt(mean(x_t^2) + eps)                       x_t (d): residual stream at tap t
//   phi   = [clip((A_t n_t - mu_t) / sigma_t, +-4)]_t, 1        (m), m = n_taps * rank + 1
//   delta = s B phi                                             (d), s = 1 / sqrt(m)
//   h'    = h + delta min(1, 0.05 |h| / |delta|)                h (d): input of the output matrix
//
// Nothing before the final norm changes: K, V and every cache of them stay valid whatever the adapter.
#pragma once

#include <cstddef>
#include <span>

namespace ruvltra {

inline constexpr float kFeatureClip = 4;
// The most features there are: 4 hooks and the final tap at rank 16, and the constant.
inline constexpr size_t kMaxFeatures = 5 * 16 + 1;
// The largest |delta| / |h| that reaches the output matrix.
inline constexpr double kMaxDeltaRatio = 0.05;

// How features are read off the residual stream. Tap t stands for the layer `layers[t]`; where `layers` ends
// with the last layer a second time, that is the tap on the final residual.
struct FeatureView {
  size_t d_model = 0, rank = 0, n_taps = 0;
  const int* layers = nullptr;           // (n_taps) ascending
  const float* a = nullptr;              // (n_taps, rank, d_model)
  const float* mu = nullptr;             // (n_taps, rank)
  const float* inverse_sigma = nullptr;  // (n_taps, rank)
  float eps = 0;

  size_t n_features() const { return n_taps * rank + 1; }
};

struct AdapterView {
  FeatureView features;
  const float* b = nullptr;  // (n_features, d_model): row j is the column j of B; null: the zero adapter
  float scale = 0;           // s

  bool is_zero() const { return b == nullptr; }
};

// The features of one tap (rank) at x_t (d_model). 32 lanes folded pairwise: the same bits on every machine.
// Allocates nothing.
void tap_features(const FeatureView& view, size_t tap, const float* x, float* out);
// phi (n_features) of one position, tap by tap; taps[t] points to x_t.
void adapter_features(const FeatureView& view, const float* const* taps, float* phi);

// A_t n_t alone (rank), before it is centred: what mu and sigma are measured on.
void project_tap(const FeatureView& view, size_t tap, const float* x, float* out);

struct DeltaNorms {
  double delta = 0;   // |delta| before the clamp
  double hidden = 0;  // |h|
  bool clamped = false;
};

// delta (d_model) for hidden state h, clamp included; elementwise sums over j in ascending order. A delta
// that overflows becomes 0, and counts as clamped. Allocates nothing. *Requires*: not view.is_zero(): without
// an adapter nothing is to be added, not even zeros.
DeltaNorms adapter_delta(const AdapterView& view, const float* phi, const float* h, float* delta);

// |x| of n values.
double euclidean_norm(const float* x, size_t n);

}  // namespace ruvltra
