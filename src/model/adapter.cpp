#include "model/adapter.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace ruvltra {
namespace {

// Element i goes to lane i mod 32; lanes are folded pairwise. The compiler may put lanes side by side, but
// the sum is the same.
constexpr size_t kLanes = 32;

template <class T>
T fold(T* lanes) {
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
    for (size_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

float dot(const float* a, const float* b, size_t n) {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  for (size_t lane = 0; i < n; ++i, ++lane) lanes[lane] += a[i] * b[i];
  return fold(lanes);
}

double sum_of_squares(const float* x, size_t n) {
  double lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const auto value = static_cast<double>(x[i + lane]);
      lanes[lane] += value * value;
    }
  }
  for (size_t lane = 0; i < n; ++i, ++lane)
    lanes[lane] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return fold(lanes);
}

}  // namespace

double euclidean_norm(const float* x, size_t n) { return std::sqrt(sum_of_squares(x, n)); }

void project_tap(const FeatureView& view, size_t tap, const float* x, float* out) {
  const size_t d = view.d_model;
  const double mean_square = sum_of_squares(x, d) / static_cast<double>(d);
  const auto inverse_rms = static_cast<float>(1 / std::sqrt(mean_square + static_cast<double>(view.eps)));
  for (size_t k = 0; k < view.rank; ++k) {
    out[k] = inverse_rms * dot(view.a + (tap * view.rank + k) * d, x, d);
  }
}

void tap_features(const FeatureView& view, size_t tap, const float* x, float* out) {
  project_tap(view, tap, x, out);
  for (size_t k = 0; k < view.rank; ++k) {
    const size_t i = tap * view.rank + k;
    out[k] = std::clamp((out[k] - view.mu[i]) * view.inverse_sigma[i], -kFeatureClip, kFeatureClip);
  }
}

void adapter_features(const FeatureView& view, const float* const* taps, float* phi) {
  for (size_t tap = 0; tap < view.n_taps; ++tap) tap_features(view, tap, taps[tap], phi + tap * view.rank);
  phi[view.n_features() - 1] = 1;
}

DeltaNorms adapter_delta(const AdapterView& view, const float* phi, const float* h, float* delta) {
  DCHECK(!view.is_zero());
  const size_t d = view.features.d_model, m = view.features.n_features();
  std::fill_n(delta, d, 0.0f);
  for (size_t j = 0; j < m; ++j) {
    const float weight = view.scale * phi[j];
    const float* column = view.b + j * d;
    for (size_t i = 0; i < d; ++i) delta[i] += weight * column[i];
  }
  DeltaNorms norms = {euclidean_norm(delta, d), euclidean_norm(h, d), false};
  const double most = kMaxDeltaRatio * norms.hidden;
  if (!std::isfinite(norms.delta)) {
    norms.clamped = true;  // overflow: there is no direction to keep
    std::fill_n(delta, d, 0.0f);
  } else if (norms.delta > most) {
    norms.clamped = true;
    const auto factor = static_cast<float>(most / norms.delta);
    for (size_t i = 0; i < d; ++i) delta[i] *= factor;
  }
  return norms;
}

}  // namespace ruvltra
