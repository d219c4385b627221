#include "quant/k_affine.h"

#include <algorithm>

namespace ruvltra::quant {

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
  AffineFit fits[kSubBlocks];
  float top_scale = 0, top_offset = 0;
  for (size_t j = 0; j < kSubBlocks; ++j) {
    const size_t begin = j * kSubBlock;
    fits[j] =
        fit_affine(block.values + begin, block.costs + begin, kSubBlock, highest, OffsetSign::kNonNegative);
    top_scale = std::max(top_scale, fits[j].scale);
    top_offset = std::max(top_offset, fits[j].offset);
  }
  AffineSuperBlock out;
  out.d = to_finite_half(top_scale / 63);
  out.dmin = to_finite_half(top_offset / 63);
  const float d = f16_to_f32(out.d), dmin = f16_to_f32(out.dmin);
  for (size_t j = 0; j < kSubBlocks; ++j) {
    const size_t begin = j * kSubBlock;
    const float scale = d == 0 ? 0 : std::min(63.0f, fits[j].scale / d + 0.5f);
    const float min = dmin == 0 ? 0 : std::min(63.0f, fits[j].offset / dmin + 0.5f);
    out.scales.scale[j] = static_cast<uint8_t>(scale);
    out.scales.min[j] = static_cast<uint8_t>(min);
    const AffineFit decoded{d * static_cast<float>(out.scales.scale[j]),
                            dmin * static_cast<float>(out.scales.min[j])};
    round_affine(block.values + begin, block.costs + begin, kSubBlock, decoded, highest, out.levels + begin);
  }
  return out;
}

}  // namespace ruvltra::quant
