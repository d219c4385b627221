// exp(x) for x <= 0 (docs/kernels.md section 7): range reduction by ln 2 in two parts, then a polynomial.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

namespace ruvltra {
namespace {

// Below -87 the result is exactly +0.
inline float exp_nonpositive(float x) {
  if (x < -87.0f) return 0.0f;
  const float t = fmaf(x, 0x1.715476p+0f, 0x1.8p23f);
  const float n = t - 0x1.8p23f;
  float r = fmaf(n, -0x1.62e4p-1f, x);
  r = fmaf(n, -0x1.7f7d1cp-20f, r);
  float q = 0x1.6a23d0p-10f;
  q = fmaf(q, r, 0x1.123a20p-7f);
  q = fmaf(q, r, 0x1.5558f2p-5f);
  q = fmaf(q, r, 0x1.555492p-3f);
  q = fmaf(q, r, 0x1.fffffcp-2f);
  const float u = fmaf(q, r * r, r);
  uint32_t bits;
  memcpy(&bits, &t, sizeof bits);
  bits = (bits << 23) + 0x3f800000u;
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  return fmaf(scale, u, scale);
}

}  // namespace
}  // namespace ruvltra
