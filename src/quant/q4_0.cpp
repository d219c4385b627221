// Q4_0: 32 weights in 18 bytes. 0 d f16; 2 qs[16]. Weight = d (q - 8).
#include "quant/fit.h"

namespace ruvltra::quant {
namespace {
constexpr size_t kBlockBytes = 18;
constexpr SymmetricRange kRange{-8, 7};
}  // namespace

void decode_q4_0(const uint8_t* blocks, float* out, size_t n) {
  for (; n != 0; n -= kSmallBlock, blocks += kBlockBytes, out += kSmallBlock) {
    const float d = f16_to_f32(load_half(blocks));
    const uint8_t* qs = blocks + 2;
    for (size_t l = 0; l < 16; ++l) {
      out[l] = d * static_cast<float>((qs[l] & 15) - 8);
      out[l + 16] = d * static_cast<float>((qs[l] >> 4) - 8);
    }
  }
}

void encode_q4_0(const float* values, uint8_t* blocks, size_t n, const float* importance) {
  for (size_t begin = 0; begin < n; begin += kSmallBlock, blocks += kBlockBytes) {
    const WeightedBlock block(values + begin, kSmallBlock, importance ? importance + begin : nullptr);
    const f16_t d = to_finite_half(fit_scale(block.values, block.costs, kSmallBlock, kRange));
    float levels[kSmallBlock];
    round_symmetric(block.values, block.costs, kSmallBlock, f16_to_f32(d), kRange, levels);
    store_half(blocks, d);
    for (size_t l = 0; l < 16; ++l) {
      const int low = static_cast<int>(levels[l]) + 8, high = static_cast<int>(levels[l + 16]) + 8;
      blocks[2 + l] = static_cast<uint8_t>(low | high << 4);
    }
  }
}

bool is_finite_q4_0(const uint8_t* blocks, size_t n) {
  bool all = true;
  for (size_t b = 0; b < n / kSmallBlock; ++b) all &= half_is_finite(load_half(blocks + b * kBlockBytes));
  return all;
}

}  // namespace ruvltra::quant
