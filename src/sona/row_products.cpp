#include "sona/row_products.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "model/adapter.h"

namespace ruvltra {
namespace {

constexpr size_t kRowsAtOnce = 16;

}  // namespace

Result<RowProducts> RowProducts::make(const OutputHead& head, size_t n_features, float scale,
                                      size_t max_bytes) {
  CHECK(n_features <= kMaxFeatures);
  RowProducts made;
  made.head_ = &head;
  made.m_ = n_features;
  made.stride_ = padded_to_block(n_features);
  made.scale_ = scale;
  const size_t n_rows = head.n_rows() + 1;
  const size_t products = n_rows * made.stride_ * sizeof(float), sums = n_rows * n_features * sizeof(double);
  made.n_parts_ = max_bytes < products ? 0 : std::min(kMaxParts, (max_bytes - products) / sums);
  if (made.n_parts_ == 0) return made;
  made.slot_of_.assign(head.n_rows(), kUnwanted);
  made.ids_.reserve(head.n_rows());
  ASSIGN_OR_RETURN(made.columns_, AlignedBuffer<float>::make(n_features * head.stride()));
  ASSIGN_OR_RETURN(made.products_, AlignedBuffer<float>::make(n_rows * made.stride_));
  ASSIGN_OR_RETURN(made.sums_, AlignedBuffer<double>::make(made.n_parts_ * n_rows * n_features));
  for (size_t task = 0; task < kTasks; ++task) {
    ASSIGN_OR_RETURN(auto rows, AlignedBuffer<float>::make(kRowsAtOnce * head.stride()));
    made.rows_.push_back(std::move(rows));
  }
  return made;
}

void RowProducts::clear_rows() { std::fill(slot_of_.begin(), slot_of_.end(), kUnwanted); }

void RowProducts::want(std::span<const uint32_t> ids) {
  for (const uint32_t id : ids) slot_of_[id] = 0;
}

size_t RowProducts::number_rows() {
  ids_.clear();
  for (uint32_t id = 0; id < slot_of_.size(); ++id) {
    if (slot_of_[id] == kUnwanted) continue;
    slot_of_[id] = static_cast<uint32_t>(ids_.size());
    ids_.push_back(id);
  }
  return ids_.size();
}

void RowProducts::decode(size_t first, size_t n, float* rows) const {
  for (size_t r = 0; r < n; ++r) {
    float* const row = rows + r * head_->stride();
    if (first + r < ids_.size()) {
      head_->row(ids_[first + r], row);
    } else {
      std::ranges::copy(head_->mean(), row);
    }
  }
}

void RowProducts::multiply(ThreadPool& pool, std::span<const float> b, const std::function<void()>& breathe) {
  const size_t d = head_->d(), stride = head_->stride();
  DCHECK(b.size() == m_ * d);
  std::vector<const float*> columns(m_);
  for (size_t j = 0; j < m_; ++j) {
    float* const column = columns_.data() + j * stride;
    for (size_t i = 0; i < d; ++i) column[i] = scale_ * b[j * d + i];
    columns[j] = column;
  }
  const VectorKernels& kernels = head_->kernels().vectors;
  const size_t n_rows = ids_.size() + 1;
  pool.parallel_for(kTasks, [&](size_t task, int) {
    float* const rows = rows_[task].data();
    const size_t end = (task + 1) * n_rows / kTasks;
    for (size_t first = task * n_rows / kTasks; first < end; first += kRowsAtOnce) {
      const size_t n = std::min(kRowsAtOnce, end - first);
      decode(first, n, rows);
      for (size_t r = 0; r < n; ++r) {
        kernels.dot_f32_rows(rows + r * stride, columns.data(), m_, stride,
                             products_.data() + (first + r) * stride_);
      }
      if (breathe) breathe();
    }
  });
}

float RowProducts::dots(std::span<const uint32_t> ids, const float* phi, std::vector<const float*>& pointers,
                        float* out) const {
  pointers.resize(ids.size());
  for (size_t k = 0; k < ids.size(); ++k) {
    DCHECK(slot_of_[ids[k]] != kUnwanted);
    pointers[k] = products_.data() + slot_of_[ids[k]] * stride_;
  }
  const VectorKernels& kernels = head_->kernels().vectors;
  kernels.dot_f32_rows(phi, pointers.data(), ids.size(), stride_, out);
  return kernels.dot_f32(phi, products_.data() + ids_.size() * stride_, stride_);
}

void RowProducts::clear_sums(size_t n) {
  DCHECK(n <= n_parts_);
  n_sums_ = n;
  std::fill_n(sums_.data(), n * (ids_.size() + 1) * m_, 0.0);
}

void RowProducts::add(size_t part, std::span<const uint32_t> ids, const RowWeights& weights, double factor,
                      std::span<const float> phi) {
  double* const sums = sums_.data() + part * (ids_.size() + 1) * m_;
  std::array<double, kMaxFeatures> step;  // factor phi
  for (size_t j = 0; j < m_; ++j) step[j] = factor * static_cast<double>(phi[j]);
  const auto add_row = [&](size_t slot, double c) {
    double* const sum = sums + slot * m_;
    for (size_t j = 0; j < m_; ++j) sum[j] += c * step[j];
  };
  for (size_t k = 0; k < ids.size(); ++k) add_row(slot_of_[ids[k]], weights.rows[k]);
  add_row(ids_.size(), weights.tail);
}

void RowProducts::add_gradient(ThreadPool& pool, std::span<double> partial, std::span<double> out,
                               const std::function<void()>& breathe) {
  const size_t d = head_->d(), stride = head_->stride(), n_rows = ids_.size() + 1;
  DCHECK(out.size() == m_ * d && partial.size() >= kTasks * out.size());
  pool.parallel_for(kTasks, [&](size_t task, int) {
    double* const sum = partial.data() + task * out.size();
    std::fill_n(sum, out.size(), 0.0);
    float* const rows = rows_[task].data();
    const float* pointers[kRowsAtOnce];
    for (size_t r = 0; r < kRowsAtOnce; ++r) pointers[r] = rows + r * stride;
    const size_t end = (task + 1) * n_rows / kTasks;
    for (size_t first = task * n_rows / kTasks; first < end; first += kRowsAtOnce) {
      const size_t n = std::min(kRowsAtOnce, end - first);
      decode(first, n, rows);
      for (size_t j = 0; j < m_; ++j) {
        double c[kRowsAtOnce] = {};
        for (size_t r = 0; r < n; ++r)
          for (size_t part = 0; part < n_sums_; ++part) c[r] += sums_[(part * n_rows + first + r) * m_ + j];
        add_rows({pointers, n}, {c, n}, d, sum + j * d);
      }
      if (breathe) breathe();
    }
  });
  const auto scale = static_cast<double>(scale_);
  for (size_t task = 0; task < kTasks; ++task) {
    const double* const sum = partial.data() + task * out.size();
    for (size_t i = 0; i < out.size(); ++i) out[i] += scale * sum[i];
  }
}

}  // namespace ruvltra
