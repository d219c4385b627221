// Attention over 64-token KV pages (docs/kernels.md section 8): an online softmax folded page by page, in
// f32.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ruvltra {

inline constexpr size_t kPageTokens = 64;
// Pages are folded in splits of 8; each split starts afresh and splits are merged in order.
inline constexpr size_t kSplitPages = 8;

// Running softmax of rows over the pages folded so far.
struct AttentionState {
  float* m = nullptr;  // (n_rows) largest score; -inf before the first page
  float* l = nullptr;  // (n_rows) sum of exp(score - m)
  float* o = nullptr;  // (n_rows, d_head) sum of exp(score - m) * value
};

// Folds one page into the state of n_rows rows that share its KV head.
struct AttentionFold {
  const float* k = nullptr;            // (d_head, 64), lane = token; 64-byte aligned
  const float* v = nullptr;            // (64, d_head), lane = dimension; 64-byte aligned
  size_t d_head = 0;                   // even
  const float* q = nullptr;            // (n_rows, d_head), already scaled by 1 / sqrt(d_head)
  const int32_t* n_visible = nullptr;  // (n_rows), 1..64: slots below it are visible
  size_t n_rows = 0;
  float* p = nullptr;  // (n_rows, 64) scratch, 64-byte aligned
  AttentionState state;
};

struct AttentionKernels {
  // f32 -> f16, round to nearest even, clamped to +-65504 first; NaN becomes -65504: pages hold finite values
  // only.
  void (*to_f16)(const float* x, uint16_t* y, size_t n) = nullptr;
  void (*from_f16)(const uint16_t* x, float* y, size_t n) = nullptr;

  void (*fold_page)(const AttentionFold& fold) = nullptr;
  // into = into merged with `from`: M = max(m), then l and o of both scaled by exp(m - M) and added.
  void (*merge)(const AttentionState& into, const AttentionState& from, size_t n_rows,
                size_t d_head) = nullptr;
  // y[d] = o[d] / l + 0, for one row; the addition removes the sign of a zero.
  void (*finish)(const float* o, float l, float* y, size_t d_head) = nullptr;
};

}  // namespace ruvltra
