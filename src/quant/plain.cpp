// F32, F16, BF16: one number per weight.

#include "quant/formats.h"

namespace ruvltra::quant {

void decode_f32(const uint8_t* blocks, float* out, size_t n) { std::memcpy(out, blocks, n * sizeof(float)); }

void encode_f32(const float* values, uint8_t* blocks, size_t n, const float*) {
  std::memcpy(blocks, values, n * sizeof(float));
}

bool is_finite_f32(const uint8_t* blocks, size_t n) {
  uint32_t any = 0;
  for (size_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, blocks + i * sizeof bits, sizeof bits);
    any |= static_cast<uint32_t>((bits & 0x7f800000u) == 0x7f800000u);
  }
  return any == 0;
}

void decode_f16(const uint8_t* blocks, float* out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = f16_to_f32(load_half(blocks + 2 * i));
}

void encode_f16(const float* values, uint8_t* blocks, size_t n, const float*) {
  for (size_t i = 0; i < n; ++i) store_half(blocks + 2 * i, to_finite_half(values[i]));
}

bool is_finite_f16(const uint8_t* blocks, size_t n) {
  bool all = true;
  for (size_t i = 0; i < n; ++i) all &= half_is_finite(load_half(blocks + 2 * i));
  return all;
}

void decode_bf16(const uint8_t* blocks, float* out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = bf16_to_f32(load_half(blocks + 2 * i));
}

void encode_bf16(const float* values, uint8_t* blocks, size_t n, const float*) {
  for (size_t i = 0; i < n; ++i) {
    bf16_t value = f32_to_bf16(values[i]);
    if ((value & 0x7fffu) == 0x7f80u) --value;  // saturates like the other formats
    store_half(blocks + 2 * i, value);
  }
}

bool is_finite_bf16(const uint8_t* blocks, size_t n) {
  bool all = true;
  for (size_t i = 0; i < n; ++i) all &= (load_half(blocks + 2 * i) & 0x7f80u) != 0x7f80u;
  return all;
}

}  // namespace ruvltra::quant
