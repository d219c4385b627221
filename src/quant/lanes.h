// Four floats at a time, through the compilers' own vector types: the same arithmetic on every machine.
#pragma once

#include <cstring>

namespace ruvltra::quant {

using f32x4 = float __attribute__((vector_size(16)));

inline f32x4 load4(const float* values) {
  f32x4 lanes;
  std::memcpy(&lanes, values, sizeof lanes);
  return lanes;
}
inline void store4(float* values, f32x4 lanes) { std::memcpy(values, &lanes, sizeof lanes); }
inline f32x4 splat4(float value) { return f32x4{value, value, value, value}; }
inline f32x4 min4(f32x4 a, f32x4 b) { return a < b ? a : b; }
inline f32x4 max4(f32x4 a, f32x4 b) { return a > b ? a : b; }
inline float sum4(f32x4 v) { return (v[0] + v[1]) + (v[2] + v[3]); }

// Nearest integer, ties to even. *Requires*: |v| < 2^22 in each lane.
inline f32x4 round4(f32x4 v) {
  const f32x4 magic = splat4(0x1.8p23f);
  return (v + magic) - magic;
}

}  // namespace ruvltra::quant
