#include "kernels/rows.h"

#include <math.h>

#include "kernels/avx2/exp.h"

namespace ruvltra {
namespace {

// Pairwise over 8 lanes: (l, l + 4), (l, l + 2), (l, l + 1).
float fold_lanes(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// 32 virtual lanes, element i in lane i % 32.
float sum_of_squares(const float* x, size_t n) {
  __m256 lane[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    for (size_t v = 0; v < 4; ++v) {
      const __m256 value = _mm256_loadu_ps(x + i + 8 * v);
      lane[v] = _mm256_fmadd_ps(value, value, lane[v]);
    }
  }
  if (i < n) {
    float tail[32];
    for (size_t v = 0; v < 4; ++v) _mm256_storeu_ps(tail + 8 * v, lane[v]);
    for (size_t l = 0; i < n; ++i, ++l) tail[l] = fmaf(x[i], x[i], tail[l]);
    for (size_t v = 0; v < 4; ++v) lane[v] = _mm256_loadu_ps(tail + 8 * v);
  }
  const __m256 even = _mm256_add_ps(lane[0], lane[2]);
  const __m256 odd = _mm256_add_ps(lane[1], lane[3]);
  return fold_lanes(_mm256_add_ps(even, odd));
}

void rms_norm(const float* x, const float* w, float eps, float* y, size_t n) {
  const float norm = sqrtf(sum_of_squares(x, n) / static_cast<float>(n) + eps);
  const __m256 norms = _mm256_set1_ps(norm);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 scaled = _mm256_div_ps(_mm256_loadu_ps(x + i), norms);
    _mm256_storeu_ps(y + i, _mm256_mul_ps(scaled, _mm256_loadu_ps(w + i)));
  }
  for (; i < n; ++i) y[i] = x[i] / norm * w[i];
}

__m256 silu(__m256 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const __m256 e = exp_nonpositive(_mm256_or_ps(x, sign));
  const __m256 positive = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GE_OQ);
  const __m256 numerator = _mm256_blendv_ps(_mm256_mul_ps(x, e), x, positive);
  return _mm256_div_ps(numerator, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}

void silu_mul(const float* gate, const float* up, float* y, size_t n) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(y + i, _mm256_mul_ps(silu(_mm256_loadu_ps(gate + i)), _mm256_loadu_ps(up + i)));
  }
  for (; i < n; ++i) y[i] = _mm256_cvtss_f32(silu(_mm256_set1_ps(gate[i]))) * up[i];
}

void rope(float* head, const float* cos, const float* sin, size_t d_head) {
  const size_t half = d_head / 2;
  size_t i = 0;
  for (; i + 8 <= half; i += 8) {
    const __m256 a = _mm256_loadu_ps(head + i);
    const __m256 b = _mm256_loadu_ps(head + i + half);
    const __m256 c = _mm256_loadu_ps(cos + i);
    const __m256 s = _mm256_loadu_ps(sin + i);
    _mm256_storeu_ps(head + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
    _mm256_storeu_ps(head + i + half, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
  }
  for (; i < half; ++i) {
    const float a = head[i];
    const float b = head[i + half];
    head[i] = fmaf(a, cos[i], -(b * sin[i]));
    head[i + half] = fmaf(b, cos[i], a * sin[i]);
  }
}

}  // namespace

void fill_avx2_rows(RowKernels& kernels) {
  kernels.rms_norm = rms_norm;
  kernels.silu_mul = silu_mul;
  kernels.rope = rope;
}

}  // namespace ruvltra
