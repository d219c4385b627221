#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/num.h"
#include "base/sha256.h"
#include "quant/format.h"

namespace ruvltra {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kRandomBlocks = 20'000;
#else
constexpr size_t kRandomBlocks = 1'000'000;
#endif

// A second reading of docs/formats.md, one weight at a time in double: every product there is exact, so the
// cast at the end is the one rounding that a decoder may do.
class Oracle {
 public:
  Oracle(TensorType type, const uint8_t* block)
      : type_(type), b_(block), first_(half(type == TensorType::kQ6_K ? 208 : 0)), second_(half(2)) {}

  float weight(int w) const {
    switch (type_) {
      case TensorType::kQ4_0:
        return static_cast<float>(first_ * (nibble(2, w % 16, w / 16) - 8));
      case TensorType::kQ5_0:
        return static_cast<float>(first_ * (nibble(6, w % 16, w / 16) + 16 * bit(2, w) - 16));
      case TensorType::kQ5_1:
        return static_cast<float>(first_ * (nibble(8, w % 16, w / 16) + 16 * bit(4, w)) + second_);
      case TensorType::kQ8_0:
        return static_cast<float>(first_ * signed_byte(2 + w));
      case TensorType::kQ4_K:
        return affine(w, nibble(16, w / 64 * 32 + w % 32, w / 32 % 2));
      case TensorType::kQ5_K:
        return affine(w, nibble(48, w / 64 * 32 + w % 32, w / 32 % 2) + 16 * bit(16 + w % 32, w / 32));
      case TensorType::kQ6_K:
        return q6(w);
      default:
        return NAN;
    }
  }

 private:
  double half(int at) const {
    const int raw = b_[at] + 256 * b_[at + 1], exponent = raw / 1024 % 32, mantissa = raw % 1024;
    const double size =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    return raw >= 32768 ? -size : size;
  }
  int signed_byte(int at) const { return b_[at] < 128 ? b_[at] : b_[at] - 256; }
  int bit(int at, int index) const { return b_[at + index / 8] / (1 << index % 8) % 2; }
  int nibble(int at, int index, int upper) const { return upper ? b_[at + index] / 16 : b_[at + index] % 16; }
  float affine(int w, int level) const {
    const int j = w / 32;
    const uint8_t* s = b_ + 4;
    const int scale = j < 4 ? s[j] % 64 : s[j + 4] % 16 + s[j - 4] / 64 * 16;
    const int min = j < 4 ? s[j + 4] % 64 : s[j + 4] / 16 + s[j] / 64 * 16;
    return static_cast<float>(first_ * scale * level - second_ * min);
  }
  float q6(int w) const {
    const int n = w / 128, l = w % 32;
    const int part = w % 128 / 32;  // which two bits of qh
    const int low = nibble(0, 64 * n + (part % 2) * 32 + l, part / 2);
    const int high = b_[128 + 32 * n + l] / (1 << 2 * part) % 4;
    return static_cast<float>(first_ * signed_byte(192 + w / 16) * (low + 16 * high - 32));
  }

  TensorType type_;
  const uint8_t* b_;
  double first_, second_;  // the f16 scales
};

// Offsets of the f16 scales of a block.
std::vector<size_t> scale_offsets(TensorType type) {
  switch (type) {
    case TensorType::kQ6_K:
      return {208};
    case TensorType::kQ5_1:
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      return {0, 2};
    default:
      return {0};
  }
}

void set_half(std::vector<uint8_t>& block, size_t at, uint16_t half) {
  std::memcpy(block.data() + at, &half, 2);
}

void expect_same_as_oracle(const Format& format, const std::vector<uint8_t>& block) {
  float got[256];
  format.decode(block.data(), got, format.block_elements);
  const Oracle oracle(format.type, block.data());
  for (size_t w = 0; w < format.block_elements; ++w) {
    const float want = oracle.weight(static_cast<int>(w));
    if (got[w] == 0 && want == 0) continue;  // the sign of a zero is free
    ASSERT_EQ(std::bit_cast<uint32_t>(got[w]), std::bit_cast<uint32_t>(want))
        << format.name << " weight " << w;
  }
}

std::vector<const Format*> block_formats() {
  std::vector<const Format*> out;
  for (const Format& format : all_formats()) {
    if (format.block_elements > 1) out.push_back(&format);
  }
  return out;
}

TEST(Format, DecodeEqualsOracleOnRandomBlocks) {
  for (const Format* format : block_formats()) {
    std::mt19937_64 random(static_cast<uint64_t>(format->type));
    std::vector<uint8_t> block(format->block_bytes + 8);
    for (size_t i = 0; i < kRandomBlocks; ++i) {
      for (size_t at = 0; at < format->block_bytes; at += 8) {
        const uint64_t bits = random();
        std::memcpy(block.data() + at, &bits, 8);
      }
      for (const size_t at : scale_offsets(format->type)) {
        if ((block[at + 1] & 0x7c) == 0x7c) block[at + 1] &= 0xbf;  // finite
      }
      expect_same_as_oracle(*format, block);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Format, DecodeEqualsOracleOnEdgeBlocks) {
  const uint16_t halves[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x3c00, 0xbc00, 0x7bff, 0xfbff};
  const uint8_t fills[] = {0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0, 0x55, 0xaa};
  for (const Format* format : block_formats()) {
    for (const uint16_t first : halves) {
      for (const uint16_t second : halves) {
        for (const uint8_t fill : fills) {
          std::vector<uint8_t> block(format->block_bytes, fill);
          const auto offsets = scale_offsets(format->type);
          set_half(block, offsets[0], first);
          if (offsets.size() > 1) set_half(block, offsets[1], second);
          EXPECT_TRUE(format->is_finite(block.data(), format->block_elements));
          expect_same_as_oracle(*format, block);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(Format, NonFiniteScalesAreSeen) {
  for (const Format* format : block_formats()) {
    for (const size_t at : scale_offsets(format->type)) {
      for (const uint16_t half : {0x7c00, 0xfc00, 0x7c01, 0x7e00, 0xffff}) {
        std::vector<uint8_t> blocks(3 * format->block_bytes, 0);
        EXPECT_TRUE(format->is_finite(blocks.data(), 3 * format->block_elements));
        set_half(blocks, 2 * format->block_bytes + at, half);
        EXPECT_FALSE(format->is_finite(blocks.data(), 3 * format->block_elements)) << format->name;
        EXPECT_TRUE(format->is_finite(blocks.data(), 2 * format->block_elements)) << format->name;
      }
    }
  }
  const float floats[] = {1, -FLT_MAX, INFINITY};
  EXPECT_TRUE(format_of(TensorType::kF32).is_finite(reinterpret_cast<const uint8_t*>(floats), 2));
  EXPECT_FALSE(format_of(TensorType::kF32).is_finite(reinterpret_cast<const uint8_t*>(floats), 3));
  const uint16_t halves[] = {0x7bff, 0x7c00}, brains[] = {0x7f7f, 0xff80};
  EXPECT_TRUE(format_of(TensorType::kF16).is_finite(reinterpret_cast<const uint8_t*>(halves), 1));
  EXPECT_FALSE(format_of(TensorType::kF16).is_finite(reinterpret_cast<const uint8_t*>(halves), 2));
  EXPECT_TRUE(format_of(TensorType::kBF16).is_finite(reinterpret_cast<const uint8_t*>(brains), 1));
  EXPECT_FALSE(format_of(TensorType::kBF16).is_finite(reinterpret_cast<const uint8_t*>(brains), 2));
}

TEST(Format, TableIsConsistent) {
  uint32_t last = 0;
  for (const Format& format : all_formats()) {
    EXPECT_TRUE(&format == &all_formats()[0] || static_cast<uint32_t>(format.type) > last);
    last = static_cast<uint32_t>(format.type);
    EXPECT_EQ(find_format(last), &format);
    EXPECT_EQ(find_format(format.name), &format);
    EXPECT_EQ(gguf_type_name(last), format.name);
  }
  EXPECT_EQ(find_format("q4_k"), &format_of(TensorType::kQ4_K));
  EXPECT_EQ(find_format("q4_"), nullptr);
  EXPECT_EQ(find_format("q4_kk"), nullptr);
  EXPECT_EQ(find_format(uint32_t{10}), nullptr);
  EXPECT_EQ(gguf_type_name(10), "Q2_K");
  EXPECT_EQ(gguf_type_name(39), "MXFP4");
  EXPECT_EQ(gguf_type_name(1000), "");
  EXPECT_EQ(format_of(TensorType::kQ6_K).row_bytes(512), 420u);
}

// Near-normal weights from integers alone, so that the bytes below hold on every machine.
std::vector<float> normal_like(size_t n, uint64_t seed) {
  std::vector<float> out(n);
  for (size_t i = 0; i < n; ++i) {
    const auto x = philox4x32({static_cast<uint32_t>(i), 0, 0, 0}, {static_cast<uint32_t>(seed), 0});
    int32_t sum = 0;
    for (const uint32_t word : x)
      sum += static_cast<int32_t>(word & 0xffff) + static_cast<int32_t>(word >> 16) - 65535;
    out[i] = static_cast<float>(sum) * 0x1p-22f;
  }
  return out;
}

std::vector<float> round_trip(const Format& format, const std::vector<float>& values,
                              const float* importance = nullptr) {
  std::vector<uint8_t> blocks(format.row_bytes(values.size()));
  std::vector<float> out(values.size());
  format.encode(values.data(), blocks.data(), values.size(), importance);
  EXPECT_TRUE(format.is_finite(blocks.data(), values.size()));
  format.decode(blocks.data(), out.data(), values.size());
  return out;
}

double relative_error(const std::vector<float>& values, const std::vector<float>& decoded) {
  double error = 0, total = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += std::pow(static_cast<double>(values[i]) - decoded[i], 2);
    total += std::pow(static_cast<double>(values[i]), 2);
  }
  return std::sqrt(error / total);
}

TEST(Encode, ErrorOnNormalWeights) {
  const auto values = normal_like(256 * 400, 1);
  const struct {
    TensorType type;
    double limit;
  } limits[] = {{TensorType::kF32, 0},       {TensorType::kF16, 3e-4},    {TensorType::kBF16, 2e-3},
                {TensorType::kQ8_0, 0.0054}, {TensorType::kQ6_K, 0.0173}, {TensorType::kQ5_K, 0.0345},
                {TensorType::kQ5_1, 0.0345}, {TensorType::kQ5_0, 0.0415}, {TensorType::kQ4_K, 0.0715},
                {TensorType::kQ4_0, 0.083}};
  for (const auto& [type, limit] : limits) {
    EXPECT_LE(relative_error(values, round_trip(format_of(type), values)), limit) << format_of(type).name;
  }
}

TEST(Encode, ZeroStaysExactlyZero) {
  for (const Format* format : block_formats()) {
    const std::vector<float> zeros(512, 0.0f);
    for (const float w : round_trip(*format, zeros)) EXPECT_EQ(w, 0) << format->name;
    const size_t run = format->type == TensorType::kQ6_K ? 16 : 32;
    for (size_t shift = 0; shift < 64; ++shift) {
      auto values = normal_like(512, 100 + shift);
      for (float& value : values) value *= shift % 3 == 0 ? 1.0f : shift % 3 == 1 ? 1e-4f : 1e4f;
      const size_t begin = shift * run % 512;
      std::fill_n(values.begin() + static_cast<ptrdiff_t>(begin), run, 0.0f);
      const auto decoded = round_trip(*format, values);
      for (size_t i = begin; i < begin + run; ++i) ASSERT_EQ(decoded[i], 0) << format->name << " " << i;
    }
  }
}

TEST(Encode, ExtremeValuesStayFinite) {
  const std::vector<std::vector<float>> cases = {
      std::vector<float>(256, FLT_MAX),      std::vector<float>(256, -FLT_MAX),
      std::vector<float>(256, FLT_TRUE_MIN), std::vector<float>(256, -FLT_MIN),
      std::vector<float>(256, 3e-8f),        std::vector<float>(256, -0.0f),
      std::vector<float>(256, 65504.0f),     std::vector<float>(256, -1.0f)};
  for (const Format& format : all_formats()) {
    for (auto values : cases) {
      for (const float spike : {0.0f, 1.0f, -FLT_MAX, 1e-30f}) {
        values[17] = spike;
        for (const float w : round_trip(format, values)) EXPECT_TRUE(std::isfinite(w)) << format.name;
      }
    }
    // Constants of a plain size survive well in every type.
    const std::vector<float> constant(256, -1.0f);
    EXPECT_LT(relative_error(constant, round_trip(format, constant)), 2e-3) << format.name;
  }
}

TEST(Encode, ImportanceMovesTheError) {
  const auto values = normal_like(256 * 40, 7);
  std::vector<float> importance(values.size());
  for (size_t i = 0; i < importance.size(); ++i) importance[i] = i % 4 == 0 ? 100.0f : 0.01f;
  for (const Format* format : block_formats()) {
    const auto plain = round_trip(*format, values), guided = round_trip(*format, values, importance.data());
    double plain_error = 0, guided_error = 0;
    for (size_t i = 0; i < values.size(); i += 4) {
      plain_error += std::pow(plain[i] - values[i], 2);
      guided_error += std::pow(guided[i] - values[i], 2);
    }
    EXPECT_LT(guided_error, 0.9 * plain_error) << format->name;
    const std::vector<float> nothing(values.size(), 0.0f);
    EXPECT_EQ(round_trip(*format, values, nothing.data()), plain) << format->name;
  }
}

// Columns that never mattered in the sample still get their nearest levels.
TEST(Encode, UnimportantRunsKeepTheirWeights) {
  const auto values = normal_like(256 * 40, 8);
  std::vector<float> importance(values.size());
  for (size_t i = 0; i < importance.size(); ++i) importance[i] = i / 32 % 2 == 0 ? 1.0f : 0.0f;
  for (const Format* format : block_formats()) {
    const auto plain = round_trip(*format, values), guided = round_trip(*format, values, importance.data());
    EXPECT_LT(relative_error(values, guided), 1.15 * relative_error(values, plain)) << format->name;
  }
}

TEST(Encode, Q8NeverWritesMinus128) {
  const Format& format = format_of(TensorType::kQ8_0);
  const auto values = normal_like(32 * 2000, 9);
  std::vector<uint8_t> blocks(format.row_bytes(values.size()));
  format.encode(values.data(), blocks.data(), values.size(), nullptr);
  for (size_t b = 0; b < blocks.size(); b += 34) {
    EXPECT_EQ(std::count(blocks.begin() + static_cast<ptrdiff_t>(b) + 2,
                         blocks.begin() + static_cast<ptrdiff_t>(b) + 34, 0x80),
              0);
  }
}

// The bytes of every encoder on fixed input: the same for each compiler and machine.
TEST(Encode, BytesArePinned) {
  auto values = normal_like(256 * 200, 3);
  for (size_t i = 0; i < values.size(); i += 97) values[i] *= 6;
  Sha256 hash;
  for (const Format& format : all_formats()) {
    std::vector<uint8_t> blocks(format.row_bytes(values.size()));
    format.encode(values.data(), blocks.data(), values.size(), nullptr);
    hash.update(blocks);
  }
  EXPECT_EQ(to_hex(hash.finish()), "ed82344cd33ab03b5d13c123cb9c6ff444094135c6474d1b28945626c3e0a47f");
}

}  // namespace
}  // namespace ruvltra
