#include "kernels/attention.h"

#include "base/num.h"
#include "kernels/scalar/exp.h"

namespace ruvltra {
namespace {

constexpr float kF16Max = 65504.0f;

void to_f16(const float* x, uint16_t* y, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const float low = x[i] > -kF16Max ? x[i] : -kF16Max;
    y[i] = f32_to_f16(low < kF16Max ? low : kF16Max);
  }
}

void from_f16(const uint16_t* x, float* y, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] = f16_to_f32(x[i]);
}

float max_of(float a, float b) { return a > b ? a : b; }

// Sum of p[64]: p[t] + p[t + 32] first, then halves again.
float tree_sum(const float* p) {
  float lane[kPageTokens / 2];
  for (size_t i = 0; i < kPageTokens / 2; ++i) lane[i] = p[i] + p[i + kPageTokens / 2];
  for (size_t half = kPageTokens / 4; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

void fold_row(const AttentionFold& fold, size_t row) {
  const float* q = fold.q + row * fold.d_head;
  float* o = fold.state.o + row * fold.d_head;
  float& m = fold.state.m[row];
  float& l = fold.state.l[row];
  const size_t n_visible = static_cast<size_t>(fold.n_visible[row]);

  float p[kPageTokens] = {};
  for (size_t d = 0; d < fold.d_head; ++d) {
    for (size_t t = 0; t < kPageTokens; ++t) p[t] = fmaf(fold.k[d * kPageTokens + t], q[d], p[t]);
  }
  float m_new = m;
  for (size_t t = 0; t < n_visible; ++t) m_new = max_of(m_new, p[t]);
  const float alpha = exp_nonpositive(m - m_new);
  for (size_t t = 0; t < kPageTokens; ++t) p[t] = t < n_visible ? exp_nonpositive(p[t] - m_new) : 0.0f;
  m = m_new;
  l = l * alpha + tree_sum(p);
  for (size_t d = 0; d < fold.d_head; ++d) {
    float sum = o[d] * alpha;
    for (size_t t = 0; t < kPageTokens; ++t) sum = fmaf(p[t], fold.v[t * fold.d_head + d], sum);
    o[d] = sum;
  }
}

void fold_page(const AttentionFold& fold) {
  for (size_t row = 0; row < fold.n_rows; ++row) fold_row(fold, row);
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
  kernels.fold_page = fold_page;
  kernels.merge = merge;
  kernels.finish = finish;
}

}  // namespace ruvltra
