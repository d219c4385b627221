#include "model/synth_blocks.h"

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/num.h"

namespace ruvltra {
namespace {

// 16 random bytes per counter value; `begin` is a multiple of 16.
void fill_random(const BlockStream& stream, uint64_t begin, std::span<uint8_t> out) {
  const std::array<uint32_t, 2> key{static_cast<uint32_t>(stream.seed),
                                    static_cast<uint32_t>(stream.seed >> 32)};
  for (size_t at = 0; at < out.size(); at += 16) {
    const uint64_t counter = (begin + at) / 16;
    const auto words = philox4x32(
        {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), stream.tensor, 0}, key);
    std::memcpy(out.data() + at, words.data(), std::min<size_t>(16, out.size() - at));
  }
}

void store_half(uint8_t* at, float value) {
  const f16_t half = f32_to_f16(value);
  std::memcpy(at, &half, sizeof half);
}

// A step size between 3/4 and 5/4 of `step`, chosen by a random byte.
float vary(float step, uint8_t random) { return step * (static_cast<float>(192 + random / 2) * 0x1p-8f); }
float with_sign(float value, uint8_t random) { return (random & 1) != 0 ? -value : value; }

// Standard deviations of uniform levels: sqrt((n^2 - 1) / 12) for n levels.
constexpr float kLevels16 = 4.6098f;
constexpr float kLevels32 = 9.2331f;
constexpr float kLevels64 = 18.4730f;
constexpr float kLevels255 = 73.6116f;

// Q4_K and Q5_K: sub-block scales of 32..63 with minima that centre the levels, in the 6-bit packing of the
// format.
void shape_affine(uint8_t* block, float deviation, float level_deviation, float level_mean) {
  constexpr float kMeanScale = 47.5f;
  const float d = vary(deviation / (level_deviation * kMeanScale), block[0]);
  store_half(block, d);
  store_half(block + 2, d * level_mean);
  uint8_t* s = block + 4;
  uint8_t scale[8];
  for (int j = 0; j < 8; ++j) scale[j] = static_cast<uint8_t>(32 + (s[j] & 31));
  for (int j = 0; j < 4; ++j) {
    const int low = scale[j], high = scale[j + 4];
    s[j] = s[j + 4] = static_cast<uint8_t>(low | high >> 4 << 6);
    s[j + 8] = static_cast<uint8_t>((high & 15) | (high & 15) << 4);
  }
}

void shape_q6_k(uint8_t* block, float deviation) {
  constexpr float kMeanScale = 95.5f;
  store_half(block + 208, vary(deviation / (kLevels64 * kMeanScale), block[208]));
  for (int g = 0; g < 16; ++g) {
    const int size = 64 + (block[192 + g] & 63);
    block[192 + g] = static_cast<uint8_t>(block[192 + g] & 64 ? size : -size);
  }
}

void shape_block(TensorType type, uint8_t* block, float deviation) {
  switch (type) {
    case TensorType::kQ4_0:
      return store_half(block, with_sign(vary(deviation / kLevels16, block[0]), block[1]));
    case TensorType::kQ5_0:
      return store_half(block, with_sign(vary(deviation / kLevels32, block[0]), block[1]));
    case TensorType::kQ5_1: {
      const float d = vary(deviation / kLevels32, block[0]);
      store_half(block, d);
      return store_half(block + 2, -15.5f * d);
    }
    case TensorType::kQ8_0:
      store_half(block, vary(deviation / kLevels255, block[0]));
      for (int l = 0; l < 32; ++l) {
        if (block[2 + l] == 0x80) block[2 + l] = 0x81;
      }
      return;
    case TensorType::kQ4_K:
      return shape_affine(block, deviation, kLevels16, 7.5f);
    case TensorType::kQ5_K:
      return shape_affine(block, deviation, kLevels32, 15.5f);
    case TensorType::kQ6_K:
      return shape_q6_k(block, deviation);
    default:
      CHECK(false);
  }
}

// Plain types: uniform over [-1, 1] x sqrt(3) deviation, from 16 random bits.
float uniform(uint16_t random, float deviation) {
  return (static_cast<float>(random) - 32767.5f) * (deviation * (1.7320508f * 0x1p-15f));
}

void shape_plain(TensorType type, std::span<uint8_t> out, float deviation) {
  const size_t width = type == TensorType::kF32 ? 4 : 2;
  for (size_t at = 0; at < out.size(); at += width) {
    uint16_t random;
    std::memcpy(&random, out.data() + at, sizeof random);
    const float value = uniform(random, deviation);
    const uint16_t small = type == TensorType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
    if (width == 4) {
      std::memcpy(out.data() + at, &value, 4);
    } else {
      std::memcpy(out.data() + at, &small, 2);
    }
  }
}

}  // namespace

void random_blocks(const BlockStream& stream, const Format& format, uint64_t begin, std::span<uint8_t> out) {
  CHECK(begin % (16 * format.block_bytes) == 0 && out.size() % format.block_bytes == 0);
  fill_random(stream, begin, out);
  if (format.block_elements == 1) return shape_plain(format.type, out, stream.deviation);
  for (size_t at = 0; at < out.size(); at += format.block_bytes) {
    shape_block(format.type, out.data() + at, stream.deviation);
  }
}

}  // namespace ruvltra
