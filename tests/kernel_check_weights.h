// Weight files for kernel_check: random and extreme blocks of every format, their panels, and a reference
// that knows the file formats only through Format::decode.
#pragma once

#include <array>
#include <cmath>

#include "kernel_check_base.h"
#include "kernels/dispatch.h"
#include "ops/panel.h"

namespace ruvltra::kernel_check {

// What distinguishes the formats for a generator: where the f16 fields of a block stand (-1 = none).
struct FormatInfo {
  TensorType type;
  int d_at;    // scale, multiplies the levels
  int min_at;  // min or offset, added apart from the levels
};
inline constexpr std::array<FormatInfo, 10> kFormats = {{{TensorType::kF32, -1, -1},
                                                         {TensorType::kF16, -1, -1},
                                                         {TensorType::kBF16, -1, -1},
                                                         {TensorType::kQ4_0, 0, -1},
                                                         {TensorType::kQ5_0, 0, -1},
                                                         {TensorType::kQ5_1, 0, 2},
                                                         {TensorType::kQ8_0, 0, -1},
                                                         {TensorType::kQ4_K, 0, 2},
                                                         {TensorType::kQ5_K, 0, 2},
                                                         {TensorType::kQ6_K, 208, -1}}};

enum class WeightSet { kRandom, kZero, kTinyScales, kExtreme };

inline void put_half(uint8_t* block, int at, float value) {
  if (at < 0) return;
  const f16_t half = f32_to_f16(value);
  std::memcpy(block + at, &half, sizeof half);
}

// Bytes of one block. kExtreme: every level, scale and min at an end of its range; which end, `pattern`
// decides.
inline void fill_block(const FormatInfo& info, WeightSet set, size_t pattern, Random& random,
                       uint8_t* block) {
  const Format& format = format_of(info.type);
  if (format.block_elements == 1) {
    float value = set == WeightSet::kZero ? 0.0f : random.uniform();
    if (set == WeightSet::kTinyScales) value *= 0x1p-24f;
    if (set == WeightSet::kExtreme) value = pattern % 2 == 0 ? 60000.0f : -60000.0f;
    if (info.type == TensorType::kF32) std::memcpy(block, &value, 4);
    const uint16_t half = info.type == TensorType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
    if (info.type != TensorType::kF32) std::memcpy(block, &half, 2);
    return;
  }
  static constexpr uint8_t kEnds[] = {0xff, 0x00, 0x80, 0x7f};
  for (size_t i = 0; i < format.block_bytes; ++i) block[i] = static_cast<uint8_t>(random.bits());
  if (set == WeightSet::kZero) std::memset(block, 0, format.block_bytes);
  if (set == WeightSet::kExtreme) {
    std::memset(block, kEnds[pattern % 4], format.block_bytes);
    if (info.type == TensorType::kQ6_K) std::memset(block + 192, pattern / 4 % 2 == 0 ? 0x80 : 0x7f, 16);
    if (format.block_elements == 256 && info.min_at >= 0) std::memset(block + 4, 0xff, 12);
  }
  const float d = set == WeightSet::kTinyScales ? 0x1p-24f : random.uniform() * 0.02f;
  put_half(block, info.d_at, set == WeightSet::kZero ? 0.0f : d);
  put_half(block, info.min_at, set == WeightSet::kZero ? 0.0f : d * random.uniform());
}

// A weight matrix as a file stores it.
struct WeightFile {
  FormatInfo info;
  size_t n_rows = 0;
  size_t k = 0;
  std::vector<uint8_t> bytes;

  const Format& format() const { return format_of(info.type); }
  size_t row_bytes() const { return format().row_bytes(k); }
};

inline WeightFile make_file(const FormatInfo& info, size_t n_rows, size_t k, WeightSet set, uint64_t seed) {
  WeightFile file{info, n_rows, k, {}};
  const Format& format = file.format();
  file.bytes.resize(n_rows * file.row_bytes());
  Random random(seed);
  for (size_t b = 0; b < file.bytes.size() / format.block_bytes; ++b) {
    // Whole rows of one extreme, so that sums reach their limits.
    const size_t row = b * format.block_bytes / file.row_bytes();
    fill_block(info, set, row, random, file.bytes.data() + b * format.block_bytes);
  }
  return file;
}

inline PackedMatrix pack(const WeightFile& file, const KernelTable& kernels, int n_threads = 1) {
  ThreadPool pool(n_threads);
  const Ctx ctx{&pool, &kernels};
  auto packed =
      PackedMatrix::pack(ctx, "test", file.info.type, file.n_rows, file.k,
                         [&](size_t begin, size_t, std::span<uint8_t> out) -> Result<void> {
                           std::memcpy(out.data(), file.bytes.data() + begin * file.row_bytes(), out.size());
                           return {};
                         });
  CHECK(packed.has_value());
  return std::move(*packed);
}

// The two terms of every weight, each exact in f32: level * scale, and the min or offset. Decoding with one
// f16 field set to zero leaves the other term alone.
struct WeightTerms {
  std::vector<float> scaled;  // (n_rows, k)
  std::vector<float> offset;  // (n_rows, k); empty if the format has none
};

inline WeightTerms decode_terms(const WeightFile& file) {
  const Format& format = file.format();
  const auto decode_without = [&](int zeroed_at) {
    std::vector<uint8_t> bytes = file.bytes;
    for (size_t b = 0; b < bytes.size() / format.block_bytes; ++b) {
      put_half(bytes.data() + b * format.block_bytes, zeroed_at, 0);
    }
    std::vector<float> values(file.n_rows * file.k);
    format.decode(bytes.data(), values.data(), values.size());
    return values;
  };
  WeightTerms terms;
  terms.scaled = decode_without(file.info.min_at);
  if (file.info.min_at >= 0) terms.offset = decode_without(file.info.d_at);
  return terms;
}

}  // namespace ruvltra::kernel_check
