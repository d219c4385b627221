#include "kernels/attention.h"

#include <math.h>

#include "base/num.h"
#include "kernels/scalar/exp.h"

namespace ruvltra {
namespace {

constexpr float kF16Max = 65504.0f;

float clamp_f16(float x) {
  const float low = x > -kF16Max ? x : -kF16Max;
  return low < kF16Max ? low : kF16Max;
}

void to_f16(const float* x, uint16_t* y, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] = f32_to_f16(clamp_f16(x[i]));
}

void from_f16(const uint16_t* x, float* y, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] = f16_to_f32(x[i]);
}

float max_of(float a, float b) { return a > b ? a : b; }

// A quotient within +-127.06, or more where d is denormal.
int8_t nearest_q8(float quotient) {
  const float low = quotient > -127.0f ? quotient : -127.0f;
  return static_cast<int8_t>(nearbyintf(low < 127.0f ? low : 127.0f));
}

void to_q8(const float* x, int8_t* q, uint16_t* d, size_t n) {
  for (size_t block = 0; block < n / kKvBlock; ++block, x += kKvBlock, q += kKvBlock) {
    float amax = 0;
    for (size_t i = 0; i < kKvBlock; ++i) amax = max_of(amax, fabsf(clamp_f16(x[i])));
    d[block] = f32_to_f16(amax / 127.0f);
    const float scale = f16_to_f32(d[block]);
    for (size_t i = 0; i < kKvBlock; ++i) q[i] = scale == 0 ? int8_t{0} : nearest_q8(clamp_f16(x[i]) / scale);
  }
}

void keys_from_q8(const int8_t* q, const uint16_t* d, float* y, size_t d_head) {
  for (size_t dim = 0; dim < d_head; ++dim, q += kPageTokens, y += kPageTokens) {
    const uint16_t* scale = d + dim / kKvBlock * kPageTokens;
    for (size_t t = 0; t < kPageTokens; ++t) y[t] = static_cast<float>(q[t]) * f16_to_f32(scale[t]);
  }
}

void values_from_q8(const int8_t* q, const uint16_t* d, float* y, size_t d_head) {
  for (size_t i = 0; i < kPageTokens * d_head; ++i)
    y[i] = static_cast<float>(q[i]) * f16_to_f32(d[i / kKvBlock]);
}

// Sum of p[64]: p[t] + p[t + 32] first, then halves again.
float tree_sum(const float* p) {
  float lane[kPageTokens / 2];
  for (size_t i = 0; i < kPageTokens / 2; ++i) lane[i] = p[i] + p[i + kPageTokens / 2];
  for (size_t half = kPageTokens / 4; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

void score(const AttentionPage& page) {
  for (size_t row = 0; row < page.n_rows; ++row) {
    const float* q = page.q + row * page.d_head;
    float* p = page.p + row * kPageTokens;
    for (size_t t = 0; t < kPageTokens; ++t) p[t] = 0;
    for (size_t d = 0; d < page.d_head; ++d) {
      for (size_t t = 0; t < kPageTokens; ++t) p[t] = fmaf(page.k[d * kPageTokens + t], q[d], p[t]);
    }
  }
}

void weigh(const AttentionPage& page) {
  for (size_t row = 0; row < page.n_rows; ++row) {
    float* p = page.p + row * kPageTokens;
    float& m = page.state.m[row];
    float& l = page.state.l[row];
    const auto n_visible = static_cast<size_t>(page.n_visible[row]);
    float m_new = m;
    for (size_t t = 0; t < n_visible; ++t) m_new = max_of(m_new, p[t]);
    for (size_t t = 0; t < kPageTokens; ++t) p[t] = t < n_visible ? exp_nonpositive(p[t] - m_new) : 0.0f;
    page.alpha[row] = exp_nonpositive(m - m_new);
    m = m_new;
    l = l * page.alpha[row] + tree_sum(p);
  }
}

void add_values(const AttentionPage& page) {
  for (size_t row = 0; row < page.n_rows; ++row) {
    const float* p = page.p + row * kPageTokens;
    float* o = page.state.o + row * page.d_head;
    for (size_t d = 0; d < page.d_head; ++d) o[d] *= page.alpha[row];
    for (size_t t = 0; t < kPageTokens; ++t) {
      for (size_t d = 0; d < page.d_head; ++d) o[d] = fmaf(p[t], page.v[t * page.d_head + d], o[d]);
    }
  }
}

void merge(const AttentionState& into, const AttentionState& from, size_t n_rows, size_t d_head) {
  for (size_t row = 0; row < n_rows; ++row) {
    const float m = max_of(into.m[row], from.m[row]);
    const float a = exp_nonpositive(into.m[row] - m);
    const float b = exp_nonpositive(from.m[row] - m);
    into.m[row] = m;
    into.l[row] = into.l[row] * a + from.l[row] * b;
    for (size_t i = row * d_head; i < (row + 1) * d_head; ++i) into.o[i] = into.o[i] * a + from.o[i] * b;
  }
}

void finish(const float* o, float l, float* y, size_t d_head) {
  for (size_t d = 0; d < d_head; ++d) y[d] = o[d] / l + 0.0f;
}

}  // namespace

void fill_scalar_attention(AttentionKernels& kernels) {
  kernels.to_f16 = to_f16;
  kernels.from_f16 = from_f16;
  kernels.to_q8 = to_q8;
  kernels.keys_from_q8 = keys_from_q8;
  kernels.values_from_q8 = values_from_q8;
  kernels.score = score;
  kernels.weigh = weigh;
  kernels.add_values = add_values;
  kernels.merge = merge;
  kernels.finish = finish;
}

}  // namespace ruvltra
