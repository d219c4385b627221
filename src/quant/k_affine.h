// What Q4_K and Q5_K share: super-blocks of 8 sub-blocks of 32 weights, weight = d sc_j q - dmin m_j, with
// 6-bit scales sc and minima m packed into 12 bytes.
#pragma once

#include "quant/fit.h"

namespace ruvltra::quant {

constexpr size_t kSubBlocks = 8;
constexpr size_t kSubBlock = 32;
constexpr size_t kPackedScaleBytes = 12;

struct SubBlockScales {
  uint8_t scale[kSubBlocks];  // 0..63
  uint8_t min[kSubBlocks];    // 0..63
};
SubBlockScales unpack_scales(const uint8_t* packed);
void pack_scales(const SubBlockScales& scales, uint8_t* packed);

struct AffineSuperBlock {
  f16_t d = 0;
  f16_t dmin = 0;
  SubBlockScales scales{};
  float levels[kSuperBlock];  // integers in [0, highest]
};
// Searches d, dmin, scales, minima and levels together.
AffineSuperBlock fit_super_block(const WeightedBlock& block, float highest);

}  // namespace ruvltra::quant
