// Q8_0: 32 weights in 34 bytes. 0 d f16; 2 q i8[32]. Weight = d q.
#include "quant/fit.h"

namespace ruvltra::quant {
namespace {
constexpr size_t kBlockBytes = 34;
constexpr SymmetricRange kRange{-127, 127};  // -128 is legal to read, never written
}  // namespace

void decode_q8_0(const uint8_t* blocks, float* out, size_t n) {
  for (; n != 0; n -= kSmallBlock, blocks += kBlockBytes, out += kSmallBlock) {
    const float d = f16_to_f32(load_half(blocks));
    for (size_t l = 0; l < kSmallBlock; ++l)
      out[l] = d * static_cast<float>(static_cast<int8_t>(blocks[2 + l]));
  }
}

void encode_q8_0(const float* values, uint8_t* blocks, size_t n, const float* importance) {
  for (size_t begin = 0; begin < n; begin += kSmallBlock, blocks += kBlockBytes) {
    const WeightedBlock block(values + begin, kSmallBlock, importance ? importance + begin : nullptr);
    const f16_t d = to_finite_half(fit_scale(block.values, block.costs, kSmallBlock, kRange));
    float levels[kSmallBlock];
    round_symmetric(block.values, block.costs, kSmallBlock, f16_to_f32(d), kRange, levels);
    store_half(blocks, d);
    for (size_t l = 0; l < kSmallBlock; ++l) {
      blocks[2 + l] = static_cast<uint8_t>(static_cast<int8_t>(static_cast<int>(levels[l])));
    }
  }
}

bool is_finite_q8_0(const uint8_t* blocks, size_t n) {
  bool all = true;
  for (size_t b = 0; b < n / kSmallBlock; ++b) all &= half_is_finite(load_half(blocks + b * kBlockBytes));
  return all;
}

}  // namespace ruvltra::quant
