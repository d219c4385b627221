// Attention over 64-token KV pages (docs/kernels.md section 8): an online softmax folded page by page, in
// f32.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ruvltra {

inline constexpr size_t kPageTokens = 64;
// Pages are folded in splits of 8; each split starts afresh and splits are merged in order.
inline constexpr size_t kSplitPages = 8;
// q8_0 pages: dimensions of one token and head that share a scale.
inline constexpr size_t kKvBlock = 32;

// Running softmax of rows over the pages folded so far.
struct AttentionState {
  float* m = nullptr;  // (n_rows) largest score; -inf before the first page
  float* l = nullptr;  // (n_rows) sum of exp(score - m)
  float* o = nullptr;  // (n_rows, d_head) sum of exp(score - m) * value
};

// One page and n_rows rows that share its KV head. Folding it is score, weigh, add_values.
struct AttentionPage {
  const float* k = nullptr;            // (d_head, 64), lane = token
  const float* v = nullptr;            // (64, d_head), lane = dimension
  size_t d_head = 0;                   // even
  const float* q = nullptr;            // (n_rows, d_head), already scaled by 1 / sqrt(d_head)
  const int32_t* n_visible = nullptr;  // (n_rows), 0..64: slots below it are visible; 0 needs a finite m
  size_t n_rows = 0;
  float* p = nullptr;      // (n_rows, 64) scores, then weights
  float* alpha = nullptr;  // (n_rows) exp(old m - new m)
  AttentionState state;
  // What will be read next: score() and add_values() prefetch it beside their work. 0 bytes = nothing.
  const uint8_t* ahead = nullptr;
  size_t ahead_bytes = 0;
};

struct AttentionKernels {
  // f32 -> f16, round to nearest even, clamped to +-65504 first; NaN becomes -65504: pages hold finite values
  // only.
  void (*to_f16)(const float* x, uint16_t* y, size_t n) = nullptr;
  void (*from_f16)(const uint16_t* x, float* y, size_t n) = nullptr;

  // One f16 scale per 32 values, clamped as for f16 first: d = f16(amax / 127),
  // q = round to even(x / d) within +-127; d = 0 gives q = 0. n is a multiple of 32.
  void (*to_q8)(const float* x, int8_t* q, uint16_t* d, size_t n) = nullptr;
  // y (d_head, 64) = q (d_head, 64) times d (d_head / 32, 64): each product is exact.
  void (*keys_from_q8)(const int8_t* q, const uint16_t* d, float* y, size_t d_head) = nullptr;
  // y (64, d_head) = q (64, d_head) times d (64, d_head / 32)
  void (*values_from_q8)(const int8_t* q, const uint16_t* d, float* y, size_t d_head) = nullptr;

  // p[r][t] = chain over d of K[d][t] * q[r][d], all 64 slots.
  void (*score)(const AttentionPage& page) = nullptr;
  // Scores to weights: m, l, alpha updated, p[r][t] = exp(p[r][t] - m[r]), +0 where invisible.
  void (*weigh)(const AttentionPage& page) = nullptr;
  // o[r][d] = chain over t of p[r][t] * V[t][d], starting at o[r][d] * alpha[r].
  void (*add_values)(const AttentionPage& page) = nullptr;

  // into = into merged with `from`: M = max(m), then l and o of both scaled by exp(m - M) and added.
  void (*merge)(const AttentionState& into, const AttentionState& from, size_t n_rows,
                size_t d_head) = nullptr;
  // y[d] = o[d] / l + 0, for one row; the addition removes the sign of a zero.
  void (*finish)(const float* o, float l, float* y, size_t d_head) = nullptr;
};

}  // namespace ruvltra
