#include "quant/k_affine.h"

#include <algorithm>

#include "quant/lanes.h"

namespace ruvltra::quant {
namespace {

constexpr int kReach = 1;   // neighbours tried on each side of a 6-bit scale or minimum
constexpr int kRounds = 2;  // each ends in a new least-squares d and dmin

// A sub-block and its share of the search.
struct SubBlock {
  const float* values;
  const float* costs;
  bool zero;  // stays exactly zero
};

struct SuperScales {
  float d;
  float dmin;
};

AffineFit decoded(SuperScales super, int scale, int min) {
  return {super.d * static_cast<float>(scale), super.dmin * static_cast<float>(min)};
}

// Tries the 6-bit scales and minima next to the wished ones; leaves the best in scale, min and levels.
float search_sub_block(const SubBlock& block, SuperScales super, AffineFit wish, float highest,
                       int& best_scale, int& best_min, float* levels) {
  const int scale = super.d == 0 ? 0 : static_cast<int>(std::min(63.0f, wish.scale / super.d + 0.5f));
  const int min = super.dmin == 0 ? 0 : static_cast<int>(std::min(63.0f, wish.offset / super.dmin + 0.5f));
  float least = -1;
  float trial[kSubBlock];
  for (int s = std::max(0, scale - kReach); s <= std::min(63, scale + kReach); ++s) {
    for (int m = std::max(0, min - kReach); m <= std::min(63, min + kReach); ++m) {
      const float error =
          round_affine(block.values, block.costs, kSubBlock, decoded(super, s, m), highest, trial);
      if (least >= 0 && error >= least) continue;
      least = error;
      best_scale = s;
      best_min = m;
      std::copy_n(trial, kSubBlock, levels);
    }
  }
  return least;
}

// The (d, dmin) with the least weighted error for fixed scales, minima and levels.
SuperScales refit(const SubBlock* blocks, const AffineSuperBlock& fit, SuperScales old) {
  double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
  for (size_t j = 0; j < kSubBlocks; ++j) {
    const f32x4 scale = splat4(fit.scales.scale[j]);
    f32x4 wl = splat4(0), wll = wl, wxl = wl, wx = wl, w = wl;
    for (size_t i = 0; i < kSubBlock; i += 4) {
      const f32x4 cost = load4(blocks[j].costs + i), x = load4(blocks[j].values + i);
      const f32x4 a = scale * load4(fit.levels + j * kSubBlock + i);
      wl += cost * a;
      wll += cost * (a * a);
      wxl += cost * (x * a);
      wx += cost * x;
      w += cost;
    }
    const double min = fit.scales.min[j];
    aa += sum4(wll);
    ab += sum4(wl) * min;
    bb += sum4(w) * min * min;
    xa += sum4(wxl);
    xb += sum4(wx) * min;
  }
  const double determinant = aa * bb - ab * ab;
  if (determinant > 1e-6 * aa * bb) {
    const double d = (xa * bb - xb * ab) / determinant, dmin = (xa * ab - xb * aa) / determinant;
    return d > 0 && dmin >= 0 ? SuperScales{static_cast<float>(d), static_cast<float>(dmin)} : old;
  }
  return aa > 0 && xa > 0 ? SuperScales{static_cast<float>(xa / aa), old.dmin} : old;
}

}  // namespace

SubBlockScales unpack_scales(const uint8_t* s) {
  SubBlockScales out;
  for (size_t j = 0; j < 4; ++j) {
    out.scale[j] = s[j] & 63;
    out.min[j] = s[j + 4] & 63;
    out.scale[j + 4] = static_cast<uint8_t>((s[j + 8] & 15) | s[j] >> 6 << 4);
    out.min[j + 4] = static_cast<uint8_t>(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
  }
  return out;
}

void pack_scales(const SubBlockScales& scales, uint8_t* s) {
  for (size_t j = 0; j < 4; ++j) {
    s[j] = static_cast<uint8_t>(scales.scale[j] | scales.scale[j + 4] >> 4 << 6);
    s[j + 4] = static_cast<uint8_t>(scales.min[j] | scales.min[j + 4] >> 4 << 6);
    s[j + 8] = static_cast<uint8_t>((scales.scale[j + 4] & 15) | (scales.min[j + 4] & 15) << 4);
  }
}

AffineSuperBlock fit_super_block(const WeightedBlock& block, float highest) {
  SubBlock subs[kSubBlocks];
  AffineFit fits[kSubBlocks];
  AffineFit top;
  for (size_t j = 0; j < kSubBlocks; ++j) {
    subs[j] = {block.values + j * kSubBlock, block.costs + j * kSubBlock, false};
    fits[j] = fit_affine(subs[j].values, subs[j].costs, kSubBlock, highest, OffsetSign::kNonNegative);
    subs[j].zero = fits[j].scale == 0 && fits[j].offset == 0;
    top = {std::max(top.scale, fits[j].scale), std::max(top.offset, fits[j].offset)};
  }
  AffineSuperBlock best;
  float least = -1;
  SuperScales wish{top.scale / 63, top.offset / 63};
  for (int round = 0; round < kRounds; ++round) {
    AffineSuperBlock trial;
    trial.d = to_finite_half(wish.d);
    trial.dmin = to_finite_half(wish.dmin);
    const SuperScales super{f16_to_f32(trial.d), f16_to_f32(trial.dmin)};
    float error = 0;
    for (size_t j = 0; j < kSubBlocks; ++j) {
      int scale = 0, min = 0;
      if (subs[j].zero) {
        std::fill_n(trial.levels + j * kSubBlock, kSubBlock, 0.0f);
        continue;
      }
      error += search_sub_block(subs[j], super, fits[j], highest, scale, min, trial.levels + j * kSubBlock);
      trial.scales.scale[j] = static_cast<uint8_t>(scale);
      trial.scales.min[j] = static_cast<uint8_t>(min);
    }
    if (least < 0 || error < least) {
      least = error;
      best = trial;
    }
    wish = refit(subs, trial, super);
  }
  return best;
}

}  // namespace ruvltra::quant
