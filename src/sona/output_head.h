// The model's output matrix as learning sees it: rows decoded when asked for, and three statistics of all
// rows. A dense copy (152k x 2048 floats, 1.2 GB) is never made.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "kernels/table.h"
#include "ops/context.h"
#include "ops/panel.h"
#include "ruvltra/error.h"

namespace ruvltra {

// W (V, d): row w_v gives the logit of token v, z_v = w_v h. V counts the rows in use: Qwen2 files pad the
// vocabulary, and padding is no token.
//
// *Thread safety*: const calls may run in parallel. The matrix and the kernels must outlive the object.
class OutputHead {
 public:
  // Reads every row twice with the threads of ctx; any number of threads gives the same bits.
  // *Requires*: 0 < n_used <= head.n_rows(). Errors: memory.exhausted.
  static Result<OutputHead> make(const Ctx& ctx, const PackedMatrix& head, size_t n_used);

  size_t n_rows() const { return n_rows_; }  // V
  size_t d() const { return d_; }
  // Floats of a row in memory: d rounded up to kVectorBlock, the rest zero.
  size_t stride() const { return stride_; }
  const KernelTable& kernels() const { return *kernels_; }

  // w_v into out (stride).
  void row(size_t v, float* out) const;
  std::span<const float> mean() const { return mean_; }                 // w_mean (stride), over v
  std::span<const double> mean_square() const { return mean_square_; }  // (d) mean over v of W_vi^2
  double radius() const { return radius_; }                             // R = max_v |w_v - w_mean|

 private:
  OutputHead() = default;
  const PackedMatrix* head_ = nullptr;
  const KernelTable* kernels_ = nullptr;
  size_t n_rows_ = 0, d_ = 0, stride_ = 0;
  std::vector<float> mean_;
  std::vector<double> mean_square_;
  double radius_ = 0;
};

// f(four rows, first, count) for all rows, four at a time; where fewer are left the last one stands in for
// the others, with count < 4.
template <class F>
void each_four(std::span<const float* const> rows, F&& f) {
  for (size_t r = 0; r < rows.size(); r += 4) {
    const float* four[4];
    for (size_t k = 0; k < 4; ++k) four[k] = rows[std::min(r + k, rows.size() - 1)];
    f(four, r, std::min(size_t{4}, rows.size() - r));
  }
}
// sum (d) += sum_r c_r row_r. Fours are added up in f32, their sums in f64: fewer conversions than products,
// and the error of a handful of f32 roundings.
void add_rows(std::span<const float* const> rows, std::span<const double> c, size_t d, double* sum);

// Rows decoded lately, in bounded memory. *Thread safety*: none; each thread has its own.
class RowCache {
 public:
  // Room for max_bytes of rows, and always for n_at_once. Memory is touched as rows come in.
  // Errors: memory.exhausted.
  static Result<RowCache> make(const OutputHead& head, size_t max_bytes, size_t n_at_once);

  // Pointers to rows (stride floats each), in the order of ids; valid until the next call.
  // *Requires*: ids.size() <= n_at_once; each id < n_rows.
  std::span<const float* const> rows(std::span<const uint32_t> ids);

 private:
  friend class RecordEvaluator;
  RowCache() = default;
  size_t free_slot();
  const OutputHead* head_ = nullptr;
  AlignedBuffer<float> values_;         // (n_slots, stride)
  std::vector<int32_t> slot_of_;        // (n_rows) -1: not here
  std::vector<uint32_t> id_of_;         // (n_slots)
  std::vector<uint64_t> used_in_;       // (n_slots) the last call that wanted it, 0: never filled
  std::vector<const float*> pointers_;  // of the last call
  size_t hand_ = 0;
  uint64_t call_ = 0;
};

}  // namespace ruvltra
