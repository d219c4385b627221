// Q5_0 and Q5_1: 32 weights, nibbles as in Q4_0 plus a fifth bit each in qh (bit = weight index).
// Q5_0, 22 bytes: 0 d f16; 2 qh u32; 6 qs[16]; weight = d (q - 16).
// Q5_1, 24 bytes: 0 d f16; 2 m f16; 4 qh u32; 8 qs[16]; weight = d q + m.
#include "quant/fit.h"

namespace ruvltra::quant {
namespace {

constexpr size_t kQ5_0Bytes = 22;
constexpr size_t kQ5_1Bytes = 24;
constexpr SymmetricRange kRange{-16, 15};

// `bits` points at qh; qs follows it.
void unpack_levels(const uint8_t* bits, int* levels) {
  uint32_t fifth;
  std::memcpy(&fifth, bits, sizeof fifth);
  const uint8_t* nibbles = bits + 4;
  for (size_t l = 0; l < 16; ++l) {
    levels[l] = static_cast<int>((nibbles[l] & 15u) | (fifth >> l & 1u) << 4);
    levels[l + 16] = static_cast<int>((nibbles[l] >> 4) | (fifth >> (l + 16) & 1u) << 4);
  }
}

void pack_levels(const float* levels, float shift, uint8_t* bits) {
  uint32_t fifth = 0;
  uint8_t* nibbles = bits + 4;
  for (size_t l = 0; l < 16; ++l) {
    const auto low = static_cast<uint32_t>(levels[l] + shift),
               high = static_cast<uint32_t>(levels[l + 16] + shift);
    nibbles[l] = static_cast<uint8_t>((low & 15u) | (high & 15u) << 4);
    fifth |= low >> 4 << l | high >> 4 << (l + 16);
  }
  std::memcpy(bits, &fifth, sizeof fifth);
}

}  // namespace

void decode_q5_0(const uint8_t* blocks, float* out, size_t n) {
  for (; n != 0; n -= kSmallBlock, blocks += kQ5_0Bytes, out += kSmallBlock) {
    const float d = f16_to_f32(load_half(blocks));
    int levels[kSmallBlock];
    unpack_levels(blocks + 2, levels);
    for (size_t l = 0; l < kSmallBlock; ++l) out[l] = d * static_cast<float>(levels[l] - 16);
  }
}

void encode_q5_0(const float* values, uint8_t* blocks, size_t n, const float* importance) {
  for (size_t begin = 0; begin < n; begin += kSmallBlock, blocks += kQ5_0Bytes) {
    const WeightedBlock block(values + begin, kSmallBlock, importance ? importance + begin : nullptr);
    const f16_t d = to_finite_half(fit_scale(block.values, block.costs, kSmallBlock, kRange));
    float levels[kSmallBlock];
    round_symmetric(block.values, block.costs, kSmallBlock, f16_to_f32(d), kRange, levels);
    store_half(blocks, d);
    pack_levels(levels, 16, blocks + 2);
  }
}

bool is_finite_q5_0(const uint8_t* blocks, size_t n) {
  bool all = true;
  for (size_t b = 0; b < n / kSmallBlock; ++b) all &= half_is_finite(load_half(blocks + b * kQ5_0Bytes));
  return all;
}

void decode_q5_1(const uint8_t* blocks, float* out, size_t n) {
  for (; n != 0; n -= kSmallBlock, blocks += kQ5_1Bytes, out += kSmallBlock) {
    const float d = f16_to_f32(load_half(blocks)), m = f16_to_f32(load_half(blocks + 2));
    int levels[kSmallBlock];
    unpack_levels(blocks + 4, levels);
    for (size_t l = 0; l < kSmallBlock; ++l) out[l] = d * static_cast<float>(levels[l]) + m;
  }
}

void encode_q5_1(const float* values, uint8_t* blocks, size_t n, const float* importance) {
  for (size_t begin = 0; begin < n; begin += kSmallBlock, blocks += kQ5_1Bytes) {
    const WeightedBlock block(values + begin, kSmallBlock, importance ? importance + begin : nullptr);
    const AffineFit fit = fit_affine(block.values, block.costs, kSmallBlock, 31, OffsetSign::kAny);
    const f16_t d = to_finite_half(fit.scale), m = to_finite_half(-fit.offset);
    float levels[kSmallBlock];
    round_affine(block.values, block.costs, kSmallBlock, {f16_to_f32(d), -f16_to_f32(m)}, 31, levels);
    store_half(blocks, d);
    store_half(blocks + 2, m);
    pack_levels(levels, 0, blocks + 4);
  }
}

bool is_finite_q5_1(const uint8_t* blocks, size_t n) {
  bool all = true;
  for (size_t b = 0; b < n / kSmallBlock; ++b) {
    all &= half_is_finite(load_half(blocks + b * kQ5_1Bytes)) &&
           half_is_finite(load_half(blocks + b * kQ5_1Bytes + 2));
  }
  return all;
}

}  // namespace ruvltra::quant
