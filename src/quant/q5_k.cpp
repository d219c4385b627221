// Q5_K: 256 weights in 176 bytes. 0 d f16; 2 dmin f16; 4 s[12]; 16 qh[32]; 48 qs[128]. Weight = d sc_j q -
// dmin m_j. Nibbles as in Q4_K; the fifth bit of weight 32j + l is bit j of qh[l].
#include "quant/k_affine.h"

namespace ruvltra::quant {
namespace {
constexpr size_t kBlockBytes = 176;
}

void decode_q5_k(const uint8_t* blocks, float* out, size_t n) {
  for (; n != 0; n -= kSuperBlock, blocks += kBlockBytes, out += kSuperBlock) {
    const float d = f16_to_f32(load_half(blocks)), dmin = f16_to_f32(load_half(blocks + 2));
    const SubBlockScales scales = unpack_scales(blocks + 4);
    const uint8_t *qh = blocks + 16, *qs = blocks + 48;
    for (size_t j = 0; j < kSubBlocks; ++j) {
      const float scale = d * static_cast<float>(scales.scale[j]),
                  min = dmin * static_cast<float>(scales.min[j]);
      for (size_t l = 0; l < kSubBlock; ++l) {
        const int level = (qs[32 * (j / 2) + l] >> (4 * (j & 1)) & 15) | (qh[l] >> j & 1) << 4;
        out[j * kSubBlock + l] = scale * static_cast<float>(level) - min;
      }
    }
  }
}

void encode_q5_k(const float* values, uint8_t* blocks, size_t n, const float* importance) {
  for (size_t begin = 0; begin < n; begin += kSuperBlock, blocks += kBlockBytes) {
    const WeightedBlock block(values + begin, kSuperBlock, importance ? importance + begin : nullptr);
    const AffineSuperBlock fit = fit_super_block(block, 31);
    store_half(blocks, fit.d);
    store_half(blocks + 2, fit.dmin);
    pack_scales(fit.scales, blocks + 4);
    uint8_t *qh = blocks + 16, *qs = blocks + 48;
    std::memset(qh, 0, 32 + 128);
    for (size_t j = 0; j < kSubBlocks; ++j) {
      for (size_t l = 0; l < kSubBlock; ++l) {
        const int level = static_cast<int>(fit.levels[j * kSubBlock + l]);
        qs[32 * (j / 2) + l] |= static_cast<uint8_t>((level & 15) << (4 * (j & 1)));
        qh[l] |= static_cast<uint8_t>(level >> 4 << j);
      }
    }
  }
}

bool is_finite_q5_k(const uint8_t* blocks, size_t n) {
  bool all = true;
  for (size_t b = 0; b < n / kSuperBlock; ++b) {
    all &= half_is_finite(load_half(blocks + b * kBlockBytes)) &&
           half_is_finite(load_half(blocks + b * kBlockBytes + 2));
  }
  return all;
}

}  // namespace ruvltra::quant
