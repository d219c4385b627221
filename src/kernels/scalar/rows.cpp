#include "kernels/rows.h"

#include "kernels/scalar/exp.h"

namespace ruvltra {
namespace {

constexpr size_t kLanes = 32;

void rms_norm(const float* x, const float* w, float eps, float* y, size_t n) {
  float lane[kLanes] = {};
  for (size_t i = 0; i < n; ++i) lane[i % kLanes] = fmaf(x[i], x[i], lane[i % kLanes]);
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  const float norm = sqrtf(lane[0] / static_cast<float>(n) + eps);
  for (size_t i = 0; i < n; ++i) y[i] = x[i] / norm * w[i];
}

void silu_mul(const float* gate, const float* up, float* y, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const float x = gate[i];
    const float e = exp_nonpositive(-fabsf(x));
    const float silu = (x >= 0 ? x : x * e) / (1.0f + e);
    y[i] = silu * up[i];
  }
}

void rope(float* head, const float* cos, const float* sin, size_t d_head) {
  const size_t half = d_head / 2;
  for (size_t i = 0; i < half; ++i) {
    const float a = head[i];
    const float b = head[i + half];
    head[i] = fmaf(a, cos[i], -(b * sin[i]));
    head[i + half] = fmaf(b, cos[i], a * sin[i]);
  }
}

}  // namespace

void fill_scalar_rows(RowKernels& kernels) {
  kernels.rms_norm = rms_norm;
  kernels.silu_mul = silu_mul;
  kernels.rope = rope;
}

}  // namespace ruvltra
