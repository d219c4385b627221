#include "sona/output_head.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace ruvltra {
namespace {

// Rows of one task. Sums are folded task by task, so that their order is the same with any threads.
constexpr size_t kTaskRows = 1024;

}  // namespace

Result<OutputHead> OutputHead::make(const Ctx& ctx, const PackedMatrix& head, size_t n_used) {
  CHECK(n_used > 0 && n_used <= head.n_rows());
  OutputHead result;
  result.head_ = &head;
  result.kernels_ = ctx.kernels;
  result.n_rows_ = n_used;
  result.d_ = head.k();
  result.stride_ = padded_to_block(head.k());
  const size_t d = result.d_, n_tasks = (n_used + kTaskRows - 1) / kTaskRows;
  ASSIGN_OR_RETURN(auto rows, AlignedBuffer<float>::make(static_cast<size_t>(ctx.pool->n_threads()) * d));
  ASSIGN_OR_RETURN(auto sums, AlignedBuffer<double>::make(n_tasks * 2 * d));  // (n_tasks, 2, d)
  const auto each_row = [&](const auto& use) {
    ctx.pool->parallel_for(n_tasks, [&](size_t task, int thread) {
      float* row = rows.data() + static_cast<size_t>(thread) * d;
      for (size_t v = task * kTaskRows; v < std::min(n_used, (task + 1) * kTaskRows); ++v) {
        head.decode_row(v, row);
        use(task, row);
      }
    });
  };
  each_row([&](size_t task, const float* row) {
    double* sum = sums.data() + task * 2 * d;
    for (size_t i = 0; i < d; ++i) {
      const auto value = static_cast<double>(row[i]);
      sum[i] += value;
      sum[d + i] += value * value;
    }
  });
  std::vector<double> mean(d, 0);
  result.mean_square_.assign(d, 0);
  for (size_t task = 0; task < n_tasks; ++task) {
    const double* sum = sums.data() + task * 2 * d;
    for (size_t i = 0; i < d; ++i) {
      mean[i] += sum[i];
      result.mean_square_[i] += sum[d + i];
    }
  }
  result.mean_.assign(result.stride_, 0);
  const double n = static_cast<double>(n_used);
  for (size_t i = 0; i < d; ++i) {
    mean[i] /= n;
    result.mean_square_[i] /= n;
    result.mean_[i] = static_cast<float>(mean[i]);
  }
  std::vector<double> largest(n_tasks, 0);
  each_row([&](size_t task, const float* row) {
    double square = 0;
    for (size_t i = 0; i < d; ++i) {
      const double away = static_cast<double>(row[i]) - static_cast<double>(result.mean_[i]);
      square += away * away;
    }
    largest[task] = std::max(largest[task], square);
  });
  result.radius_ = std::sqrt(*std::max_element(largest.begin(), largest.end()));
  return result;
}

void OutputHead::row(size_t v, float* out) const {
  DCHECK(v < n_rows_);
  head_->decode_row(v, out);
  std::fill(out + d_, out + stride_, 0.0f);
}

void add_rows(std::span<const float* const> rows, std::span<const double> c, size_t d, double* sum) {
  each_four(rows, [&](const float* const* row, size_t r, size_t count) {
    float weight[4] = {};
    for (size_t k = 0; k < count; ++k) weight[k] = static_cast<float>(c[r + k]);
    for (size_t i = 0; i < d; ++i) {
      sum[i] += static_cast<double>((weight[0] * row[0][i] + weight[1] * row[1][i]) +
                                    (weight[2] * row[2][i] + weight[3] * row[3][i]));
    }
  });
}

Result<RowCache> RowCache::make(const OutputHead& head, size_t max_bytes, size_t n_at_once) {
  RowCache cache;
  cache.head_ = &head;
  const size_t fit = max_bytes / (head.stride() * sizeof(float));
  const size_t n_slots = std::min(head.n_rows(), std::max(fit, n_at_once));
  ASSIGN_OR_RETURN(cache.values_, AlignedBuffer<float>::make(n_slots * head.stride()));
  cache.slot_of_.assign(head.n_rows(), -1);
  cache.id_of_.assign(n_slots, 0);
  cache.used_in_.assign(n_slots, 0);
  cache.pointers_.reserve(n_at_once);
  return cache;
}

// A slot that this call does not use: the clock's hand moves on, so that rows leave about in the order they
// came, at a cost that does not grow with the cache.
size_t RowCache::free_slot() {
  while (used_in_[hand_] == call_) hand_ = (hand_ + 1) % used_in_.size();
  const size_t slot = hand_;
  hand_ = (hand_ + 1) % used_in_.size();
  if (used_in_[slot] != 0) slot_of_[id_of_[slot]] = -1;
  return slot;
}

std::span<const float* const> RowCache::rows(std::span<const uint32_t> ids) {
  CHECK(ids.size() <= used_in_.size());
  ++call_;
  // What is here already is claimed first, or a newcomer might take its slot.
  for (const uint32_t id : ids) {
    if (slot_of_[id] >= 0) used_in_[static_cast<size_t>(slot_of_[id])] = call_;
  }
  pointers_.clear();
  for (const uint32_t id : ids) {
    if (slot_of_[id] < 0) {
      const size_t slot = free_slot();
      head_->row(id, values_.data() + slot * head_->stride());
      slot_of_[id] = static_cast<int32_t>(slot);
      id_of_[slot] = id;
      used_in_[slot] = call_;
    }
    pointers_.push_back(values_.data() + static_cast<size_t>(slot_of_[id]) * head_->stride());
  }
  return pointers_;
}

}  // namespace ruvltra
