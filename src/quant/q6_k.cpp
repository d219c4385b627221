// Q6_K: 256 weights in 210 bytes. 0 ql[128]; 128 qh[64]; 192 sc i8[16]; 208 d f16. Weight = d sc_{w/16} (q -
// 32). Half n, l = 0..31: the low nibbles of weights l, l+32 and the high ones of l+64, l+96 are ql[64n + l],
// ql[64n + 32 + l]; their upper two bits are bits 0-1, 2-3, 4-5, 6-7 of qh[32n + l].
#include <algorithm>
#include <cmath>

#include "quant/fit.h"
#include "quant/lanes.h"

namespace ruvltra::quant {
namespace {

constexpr size_t kBlockBytes = 210;
constexpr size_t kGroups = 16;  // runs of 16 weights that share a scale
constexpr size_t kGroup = 16;
constexpr int kRounds = 3;  // each ends in a new least-squares d
constexpr SymmetricRange kRange{-32, 31};

struct SymmetricSuperBlock {
  f16_t d = 0;
  int8_t scale[kGroups] = {};
  float levels[kSuperBlock];
};

// Tries the 8-bit scales next to the wished one; returns the least error. No wish means a group of zeros.
float search_group(const float* values, const float* costs, float d, float wish, int8_t& best_scale,
                   float* levels) {
  if (wish == 0) {
    best_scale = 0;
    std::fill_n(levels, kGroup, 0.0f);
    return 0;
  }
  const float ratio = d == 0 ? 0 : std::clamp(wish / d, -127.0f, 127.0f);
  const int nearest = static_cast<int>(ratio + (ratio < 0 ? -0.5f : 0.5f));
  float least = -1;
  float trial[kGroup];
  for (int scale = std::max(-128, nearest - 1); scale <= std::min(127, nearest + 1); ++scale) {
    const float error = round_symmetric(values, costs, kGroup, d * static_cast<float>(scale), kRange, trial);
    if (least >= 0 && error >= least) continue;
    least = error;
    best_scale = static_cast<int8_t>(scale);
    std::copy_n(trial, kGroup, levels);
  }
  return least;
}

// The d with the least weighted error for fixed scales and levels.
float refit(const WeightedBlock& block, const SymmetricSuperBlock& fit, float old) {
  f32x4 waa = splat4(0), wxa = waa;
  for (size_t i = 0; i < kSuperBlock; i += 4) {
    const f32x4 a = splat4(fit.scale[i / kGroup]) * load4(fit.levels + i);
    const f32x4 weighted = load4(block.costs + i) * a;
    waa += weighted * a;
    wxa += weighted * load4(block.values + i);
  }
  return sum4(waa) > 0 && sum4(wxa) > 0 ? sum4(wxa) / sum4(waa) : old;
}

SymmetricSuperBlock fit_block(const WeightedBlock& block) {
  float fits[kGroups], top = 0;
  for (size_t g = 0; g < kGroups; ++g) {
    fits[g] = fit_scale(block.values + g * kGroup, block.costs + g * kGroup, kGroup, kRange);
    top = std::max(top, std::fabs(fits[g]));
  }
  SymmetricSuperBlock best;
  float least = -1, wish = top / 127;
  for (int round = 0; round < kRounds; ++round) {
    SymmetricSuperBlock trial;
    trial.d = to_finite_half(wish);
    const float d = f16_to_f32(trial.d);
    float error = 0;
    for (size_t g = 0; g < kGroups; ++g) {
      error += search_group(block.values + g * kGroup, block.costs + g * kGroup, d, fits[g], trial.scale[g],
                            trial.levels + g * kGroup);
    }
    if (least < 0 || error < least) {
      least = error;
      best = trial;
    }
    wish = refit(block, trial, d);
  }
  return best;
}

}  // namespace

void decode_q6_k(const uint8_t* blocks, float* out, size_t n) {
  for (; n != 0; n -= kSuperBlock, blocks += kBlockBytes, out += kSuperBlock) {
    const uint8_t *ql = blocks, *qh = blocks + 128, *scales = blocks + 192;
    const float d = f16_to_f32(load_half(blocks + 208));
    for (size_t w = 0; w < kSuperBlock; ++w) {
      const size_t half = w / 128, quarter = w / 32 % 4, l = w % 32;
      const int low = ql[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
      const int high = qh[32 * half + l] >> (2 * quarter) & 3;
      const float scale = d * static_cast<float>(static_cast<int8_t>(scales[w / kGroup]));
      out[w] = scale * static_cast<float>((low | high << 4) - 32);
    }
  }
}

void encode_q6_k(const float* values, uint8_t* blocks, size_t n, const float* importance) {
  for (size_t begin = 0; begin < n; begin += kSuperBlock, blocks += kBlockBytes) {
    const WeightedBlock block(values + begin, kSuperBlock, importance ? importance + begin : nullptr);
    const SymmetricSuperBlock fit = fit_block(block);
    uint8_t *ql = blocks, *qh = blocks + 128;
    std::memset(blocks, 0, 128 + 64);
    for (size_t w = 0; w < kSuperBlock; ++w) {
      const size_t half = w / 128, quarter = w / 32 % 4, l = w % 32;
      const int level = static_cast<int>(fit.levels[w]) + 32;
      ql[64 * half + 32 * (quarter % 2) + l] |= static_cast<uint8_t>((level & 15) << (4 * (quarter / 2)));
      qh[32 * half + l] |= static_cast<uint8_t>(level >> 4 << (2 * quarter));
    }
    std::memcpy(blocks + 192, fit.scale, kGroups);
    store_half(blocks + 208, fit.d);
  }
}

bool is_finite_q6_k(const uint8_t* blocks, size_t n) {
  bool all = true;
  for (size_t b = 0; b < n / kSuperBlock; ++b)
    all &= half_is_finite(load_half(blocks + b * kBlockBytes + 208));
  return all;
}

}  // namespace ruvltra::quant
