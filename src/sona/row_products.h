// The output matrix times a whole adapter, for the rows that a batch of records needs.
//
// Delta_v = s w_v B phi is an inner product of d numbers for each token of each record. Many records name the
// same tokens again and again. With M = s W B (V, m) at hand it is one of m numbers, and the gradient of
// their sum is dB = s W' C, where C (V, m) adds up c_v phi' of all records. W is then read twice an
// evaluation, and not twice a record.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "sona/output_head.h"

namespace ruvltra {

// What a record adds to dB: sum_v c_v w_v phi', and c_tail times the mean row.
struct RowWeights {
  std::span<const double> rows;  // (k) c_v of the record's tokens
  double tail = 0;
};

// *Thread safety*: dots() may run in parallel, beside add() for different parts.
class RowProducts {
 public:
  RowProducts() = default;  // of no use: n_parts() is 0
  // C is kept in so many parts at most, whatever the threads, and their sums are folded in order.
  static constexpr size_t kMaxParts = 4;

  // At most about max_bytes, touched as rows come in. The head is borrowed. Errors: memory.exhausted.
  static Result<RowProducts> make(const OutputHead& head, size_t n_features, float scale, size_t max_bytes);

  // Parts of C that max_bytes has room for. 0: none, the object is of no use.
  size_t n_parts() const { return n_parts_; }

  // Forgets which rows are wanted; then the rows of each record, and at last their number.
  void clear_rows();
  void want(std::span<const uint32_t> ids);
  size_t number_rows();

  // M at b (m, d). `breathe` is called some rows apart, from any thread; it may be empty.
  void multiply(ThreadPool& pool, std::span<const float> b, const std::function<void()>& breathe);
  // Delta of wanted tokens, into out (ids), and that of the mean row. pointers: scratch; phi: the features,
  // with zeros up to stride().
  float dots(std::span<const uint32_t> ids, const float* phi, std::vector<const float*>& pointers,
             float* out) const;
  // Floats of a row of M: m rounded up to kVectorBlock.
  size_t stride() const { return stride_; }

  // C = 0 in the first n parts.
  void clear_sums(size_t n);
  // C += factor c phi' in one part.
  void add(size_t part, std::span<const uint32_t> ids, const RowWeights& weights, double factor,
           std::span<const float> phi);
  // out (m, d) += s W' C. partial: scratch for kTasks sums like out.
  static constexpr size_t kTasks = 8;
  void add_gradient(ThreadPool& pool, std::span<double> partial, std::span<double> out,
                    const std::function<void()>& breathe);

 private:
  // The wanted rows from `first` on, n of them (the mean row is the last), in turn into `rows`.
  void decode(size_t first, size_t n, float* rows) const;

  const OutputHead* head_ = nullptr;
  size_t m_ = 0, stride_ = 0, n_parts_ = 0, n_sums_ = 0;
  float scale_ = 0;
  static constexpr uint32_t kUnwanted = UINT32_MAX;
  std::vector<uint32_t> slot_of_;           // (V) of wanted rows
  std::vector<uint32_t> ids_;               // of the slots, ascending
  AlignedBuffer<float> columns_;            // (m, head stride) s B
  AlignedBuffer<float> products_;           // (slots + 1, stride); the last: of the mean row
  AlignedBuffer<double> sums_;              // (parts, V + 1, m)
  std::vector<AlignedBuffer<float>> rows_;  // scratch of each task
};

}  // namespace ruvltra
