// Q4_K: 256 weights in 144 bytes. 0 d f16; 2 dmin f16; 4 s[12]; 16 qs[128]. Weight = d sc_j q - dmin m_j, j =
// w / 32. Byte qs[32c + l]: low nibble = weight 64c + l, high nibble = weight 64c + 32 + l.
#include "quant/k_affine.h"

namespace ruvltra::quant {
namespace {
constexpr size_t kBlockBytes = 144;
}

void decode_q4_k(const uint8_t* blocks, float* out, size_t n) {
  for (; n != 0; n -= kSuperBlock, blocks += kBlockBytes, out += kSuperBlock) {
    const float d = f16_to_f32(load_half(blocks)), dmin = f16_to_f32(load_half(blocks + 2));
    const SubBlockScales scales = unpack_scales(blocks + 4);
    const uint8_t* qs = blocks + 16;
    for (size_t j = 0; j < kSubBlocks; ++j) {
      const float scale = d * static_cast<float>(scales.scale[j]),
                  min = dmin * static_cast<float>(scales.min[j]);
      for (size_t l = 0; l < kSubBlock; ++l) {
        const int level = qs[32 * (j / 2) + l] >> (4 * (j & 1)) & 15;
        out[j * kSubBlock + l] = scale * static_cast<float>(level) - min;
      }
    }
  }
}

void encode_q4_k(const float* values, uint8_t* blocks, size_t n, const float* importance) {
  for (size_t begin = 0; begin < n; begin += kSuperBlock, blocks += kBlockBytes) {
    const WeightedBlock block(values + begin, kSuperBlock, importance ? importance + begin : nullptr);
    const AffineSuperBlock fit = fit_super_block(block, 15);
    store_half(blocks, fit.d);
    store_half(blocks + 2, fit.dmin);
    pack_scales(fit.scales, blocks + 4);
    for (size_t c = 0; c < 4; ++c) {
      for (size_t l = 0; l < 32; ++l) {
        const int low = static_cast<int>(fit.levels[64 * c + l]),
                  high = static_cast<int>(fit.levels[64 * c + 32 + l]);
        blocks[16 + 32 * c + l] = static_cast<uint8_t>(low | high << 4);
      }
    }
  }
}

bool is_finite_q4_k(const uint8_t* blocks, size_t n) {
  bool all = true;
  for (size_t b = 0; b < n / kSuperBlock; ++b) {
    all &= half_is_finite(load_half(blocks + b * kBlockBytes)) &&
           half_is_finite(load_half(blocks + b * kBlockBytes + 2));
  }
  return all;
}

}  // namespace ruvltra::quant
