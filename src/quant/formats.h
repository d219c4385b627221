// The families behind the table of format.h: one group of functions per file. Contracts as in struct Format.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/num.h"

namespace ruvltra::quant {

constexpr size_t kSmallBlock = 32;   // weights per block of Q4_0, Q5_0, Q5_1, Q8_0
constexpr size_t kSuperBlock = 256;  // weights per block of Q4_K, Q5_K, Q6_K

// The f16 stored at `bytes`.
inline f16_t load_half(const uint8_t* bytes) {
  f16_t half;
  std::memcpy(&half, bytes, sizeof half);
  return half;
}
inline void store_half(uint8_t* bytes, f16_t half) { std::memcpy(bytes, &half, sizeof half); }
inline bool half_is_finite(f16_t half) { return (half & 0x7c00u) != 0x7c00u; }

// Nearest finite f16: overflow saturates, so that no encoder writes an infinite scale.
inline f16_t to_finite_half(float value) {
  const f16_t half = f32_to_f16(value);
  return half_is_finite(half) ? half : static_cast<f16_t>((half & 0x8000u) | 0x7bffu);
}

#define RUVLTRA_DECLARE_FORMAT(name)                                                           \
  void decode_##name(const uint8_t* blocks, float* out, size_t n);                             \
  void encode_##name(const float* values, uint8_t* blocks, size_t n, const float* importance); \
  bool is_finite_##name(const uint8_t* blocks, size_t n)

RUVLTRA_DECLARE_FORMAT(f32);
RUVLTRA_DECLARE_FORMAT(f16);
RUVLTRA_DECLARE_FORMAT(bf16);
RUVLTRA_DECLARE_FORMAT(q4_0);
RUVLTRA_DECLARE_FORMAT(q5_0);
RUVLTRA_DECLARE_FORMAT(q5_1);
RUVLTRA_DECLARE_FORMAT(q8_0);
RUVLTRA_DECLARE_FORMAT(q4_k);
RUVLTRA_DECLARE_FORMAT(q5_k);
RUVLTRA_DECLARE_FORMAT(q6_k);

#undef RUVLTRA_DECLARE_FORMAT

}  // namespace ruvltra::quant
