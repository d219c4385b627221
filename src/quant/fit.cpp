#include "quant/fit.h"

#include <algorithm>
#include <cmath>

#include "quant/lanes.h"

namespace ruvltra::quant {
namespace {

// Relative to the block's largest: weights nobody multiplies still choose their nearest level.
constexpr float kLeastImportance = 1e-6f;

// Sums of one trial rounding: levels l, values x, costs w.
struct SymmetricSums {
  float wll = 0;
  float wxl = 0;
};

SymmetricSums try_inverse(const float* values, const float* costs, size_t n, float inverse,
                          SymmetricRange range) {
  const f32x4 low = splat4(range.lowest), high = splat4(range.highest), scale = splat4(inverse);
  f32x4 wll = splat4(0), wxl = splat4(0);
  for (size_t i = 0; i < n; i += 4) {
    const f32x4 x = load4(values + i);
    const f32x4 level = round4(max4(low, min4(high, x * scale)));
    const f32x4 weighted = load4(costs + i) * level;
    wll += weighted * level;
    wxl += weighted * x;
  }
  return {sum4(wll), sum4(wxl)};
}

struct AffineSums {
  float wl = 0;
  float wll = 0;
  float wxl = 0;
};

AffineSums try_affine(const float* values, const float* costs, size_t n, float inverse, float offset,
                      float highest) {
  const f32x4 zero = splat4(0), high = splat4(highest), scale = splat4(inverse), shift = splat4(offset);
  f32x4 wl = zero, wll = zero, wxl = zero;
  for (size_t i = 0; i < n; i += 4) {
    const f32x4 x = load4(values + i);
    const f32x4 level = round4(max4(zero, min4(high, (x + shift) * scale)));
    const f32x4 weighted = load4(costs + i) * level;
    wl += weighted;
    wll += weighted * level;
    wxl += weighted * x;
  }
  return {sum4(wl), sum4(wll), sum4(wxl)};
}

// Value-only sums, the same for every trial.
struct ValueSums {
  double w = 0;
  double wx = 0;
};

// The best (scale, offset) for fixed levels, and how much of sum(w x^2) it explains; negative: there is none.
struct AffineSolution {
  AffineFit fit;
  double gain = -1;
};

AffineSolution solve_affine(const ValueSums& v, const AffineSums& s, OffsetSign sign) {
  const double wl = s.wl, wll = s.wll, wxl = s.wxl;
  const double determinant = v.w * wll - wl * wl;
  if (wll <= 0) return {};
  if (determinant > 1e-6 * v.w * wll) {
    const double scale = (v.w * wxl - v.wx * wl) / determinant;
    const double offset = (wl * wxl - wll * v.wx) / determinant;
    if (scale > 0 && (offset >= 0 || sign == OffsetSign::kAny)) {
      return {{static_cast<float>(scale), static_cast<float>(offset)}, scale * wxl - offset * v.wx};
    }
  }
  const double scale = wxl / wll;
  if (scale <= 0) return {};
  return {{static_cast<float>(scale), 0}, scale * wxl};
}

}  // namespace

WeightedBlock::WeightedBlock(const float* source, size_t n, const float* importance) {
  float squares = 0;
  for (size_t i = 0; i < n; ++i) {
    values[i] = std::clamp(source[i], -kMaxMagnitude, kMaxMagnitude);
    squares += values[i] * values[i];
    largest = std::max(largest, std::fabs(values[i]));
  }
  const float mean_square = squares / static_cast<float>(n);
  float top = 0;
  for (size_t i = 0; importance != nullptr && i < n; ++i) top = std::max(top, importance[i]);
  const float normal = top > 1e-30f ? 1 / top : 0;
  for (size_t i = 0; i < n; ++i) {
    const float size = std::sqrt(mean_square + values[i] * values[i]);
    costs[i] = normal > 0 ? size * std::max(importance[i] * normal, kLeastImportance) : size;
  }
}

float fit_scale(const float* values, const float* costs, size_t n, SymmetricRange range) {
  float extreme = 0;
  for (size_t i = 0; i < n; ++i) {
    if (std::fabs(values[i]) > std::fabs(extreme)) extreme = values[i];
  }
  if (extreme == 0) return 0;
  constexpr int kTrials = 9;
  float best_scale = 0, best_gain = -1;
  const auto consider = [&](float inverse) {
    const SymmetricSums sums = try_inverse(values, costs, n, inverse, range);
    if (sums.wll > 0 && sums.wxl * (sums.wxl / sums.wll) > best_gain) {
      best_scale = sums.wxl / sums.wll;
      best_gain = sums.wxl * best_scale;
    }
  };
  for (int trial = -kTrials; trial <= kTrials; ++trial) {
    const float shift = 0.1f * static_cast<float>(trial);
    consider((range.lowest + shift) / extreme);
    if (range.highest != -range.lowest) consider((range.highest + shift) / extreme);
  }
  for (int round = 0; round < 2 && best_scale != 0; ++round) consider(1 / best_scale);
  return best_scale;
}

float round_symmetric(const float* values, const float* costs, size_t n, float scale, SymmetricRange range,
                      float* levels) {
  const f32x4 low = splat4(range.lowest), high = splat4(range.highest), step = splat4(scale);
  const f32x4 inverse = splat4(scale == 0 ? 0 : 1 / scale);
  f32x4 error = splat4(0);
  for (size_t i = 0; i < n; i += 4) {
    const f32x4 x = load4(values + i);
    const f32x4 level = round4(max4(low, min4(high, x * inverse)));
    const f32x4 difference = x - step * level;
    error += load4(costs + i) * (difference * difference);
    store4(levels + i, level);
  }
  return sum4(error);
}

AffineFit fit_affine(const float* values, const float* costs, size_t n, float highest, OffsetSign sign) {
  float low = sign == OffsetSign::kAny ? values[0] : 0, high = sign == OffsetSign::kAny ? values[0] : 0;
  ValueSums sums;
  for (size_t i = 0; i < n; ++i) {
    low = std::min(low, values[i]);
    high = std::max(high, values[i]);
    sums.w += costs[i];
    sums.wx += static_cast<double>(costs[i]) * values[i];
  }
  if (high == low) return {0, -low};
  AffineSolution best;
  best.fit = {(high - low) / highest, -low};
  const auto consider = [&](float inverse, float offset) {
    const AffineSolution solution =
        solve_affine(sums, try_affine(values, costs, n, inverse, offset, highest), sign);
    if (solution.gain > best.gain) best = solution;
  };
  // Both ends of the range may be cut off or left unused by a fraction of a step.
  const float step = (high - low) / highest;
  for (int widen = -3; widen <= 1; ++widen) {
    for (int shift = -2; shift <= 2; ++shift) {
      const float inverse = (highest + 0.4f * static_cast<float>(widen)) / (high - low);
      consider(inverse, -low + 0.25f * step * static_cast<float>(shift));
    }
  }
  for (int round = 0; round < 2 && best.fit.scale > 0; ++round) consider(1 / best.fit.scale, best.fit.offset);
  return best.fit;
}

float round_affine(const float* values, const float* costs, size_t n, AffineFit fit, float highest,
                   float* levels) {
  const f32x4 zero = splat4(0), high = splat4(highest), step = splat4(fit.scale), shift = splat4(fit.offset);
  const f32x4 inverse = splat4(fit.scale == 0 ? 0 : 1 / fit.scale);
  f32x4 error = zero;
  for (size_t i = 0; i < n; i += 4) {
    const f32x4 x = load4(values + i);
    const f32x4 level = round4(max4(zero, min4(high, (x + shift) * inverse)));
    const f32x4 difference = x - (step * level - shift);
    error += load4(costs + i) * (difference * difference);
    store4(levels + i, level);
  }
  return sum4(error);
}

}  // namespace ruvltra::quant
