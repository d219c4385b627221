#include "ops/autotune.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <vector>

#include "ops/matmul.h"

namespace ruvltra {
namespace {

constexpr int kRounds = 5;
constexpr double kClearly = 0.95;           // of the time of what stands so far
constexpr size_t kPromptColumns = 256;      // of a prefill step
constexpr size_t kStreamBytes = 24u << 20;  // of panels per timing with one column: more than most caches
constexpr size_t kColumnWork = 96u << 20;   // weights times columns per timing with several
constexpr size_t kLeastPanels = 16;
constexpr double kTooSlow = 0.05;  // seconds: a rung this slow is not worth tuning

// Panels of one timing with several columns.
size_t timed_panels(const PackedMatrix& w, size_t n_columns) {
  const size_t panels = kColumnWork / (n_columns * w.k() * kPanelRows);
  return std::min(w.n_panels(), std::max(panels, kLeastPanels));
}

// Room for the results of any timing of w.
size_t result_floats(const PackedMatrix& w) {
  const size_t most = std::max(kColumnWork / w.k(), kLeastPanels * kPanelRows * kPromptColumns);
  return std::max(w.n_panels() * kPanelRows, most);
}

bool same_shape(const PackedMatrix& a, const PackedMatrix& b) {
  return a.type() == b.type() && a.n_rows() == b.n_rows() && a.k() == b.k();
}

// Timings of one shape.
class ShapeTuner {
 public:
  ShapeTuner(const Ctx& ctx, std::span<PackedMatrix* const> matrices, Activations& activations,
             std::span<const float> x, std::span<float> y)
      : ctx_(ctx), matrices_(matrices), activations_(activations), x_(x), y_(y) {}

  MatmulTuning tune() {
    const MatmulTuningChoices choices;
    MatmulTuning best;
    if (seconds(best, kPromptColumns) > kTooSlow) return best;
    choose(best, &MatmulTuning::prefetch_bytes, choices.prefetch_bytes, 1);
    choose(best, &MatmulTuning::column_block, choices.column_block, kPromptColumns);
    choose(best, &MatmulTuning::chunk, choices.chunk, kPromptColumns);
    choose_unpacked_from(best, choices.unpacked_from);
    return best;
  }

 private:
  // The value of one field that is clearly faster than the kernels' own choice, if one is.
  void choose(MatmulTuning& best, uint32_t MatmulTuning::*field, std::span<const uint32_t> values,
              size_t n_columns) {
    std::vector<MatmulTuning> candidates(1 + values.size(), best);
    for (size_t i = 0; i < values.size(); ++i) candidates[1 + i].*field = values[i];
    const std::vector<double> times = compare(candidates, n_columns);
    const auto fastest = std::min_element(times.begin(), times.end());
    if (*fastest < kClearly * times[0]) best = candidates[static_cast<size_t>(fastest - times.begin())];
  }

  // The smallest column count from which the unpacked walk wins.
  void choose_unpacked_from(MatmulTuning& best, std::span<const uint32_t> counts) {
    MatmulTuning direct = best;
    direct.unpacked_from = std::numeric_limits<uint32_t>::max();
    for (const uint32_t n_columns : counts) {
      MatmulTuning unpacked = best;
      unpacked.unpacked_from = 1;
      const MatmulTuning both[] = {direct, unpacked};
      const std::vector<double> times = compare(both, n_columns);
      best.unpacked_from = n_columns;
      if (times[1] < times[0]) return;
    }
    best.unpacked_from = 2 * counts.back();
  }

  // The best time of each candidate, taken in turns.
  std::vector<double> compare(std::span<const MatmulTuning> candidates, size_t n_columns) {
    std::vector<double> times(candidates.size(), std::numeric_limits<double>::infinity());
    for (int round = 0; round < kRounds; ++round) {
      for (size_t i = 0; i < candidates.size(); ++i)
        times[i] = std::min(times[i], seconds(candidates[i], n_columns));
    }
    return times;
  }

  // One column streams some matrices whole, as a decode step does; several multiply a part of one.
  double seconds(const MatmulTuning& tuning, size_t n_columns) {
    const PackedMatrix& first = *matrices_[0];
    activations_.set(x_.data(), n_columns, first.k());
    activations_.prepare(ctx_, activation_format(first.type(), false));
    const size_t n_panels = n_columns == 1 ? first.n_panels() : timed_panels(first, n_columns);
    const size_t n_matrices =
        n_columns == 1
            ? std::clamp<size_t>(kStreamBytes / std::max<size_t>(1, first.n_bytes()), 1, matrices_.size())
            : 1;
    const auto begin = std::chrono::steady_clock::now();
    for (size_t i = 0; i < n_matrices; ++i) {
      PackedMatrix& w = *matrices_[next_++ % matrices_.size()];
      w.set_tuning(tuning);
      const size_t n_groups = (n_panels + kGroupPanels - 1) / kGroupPanels;
      ctx_.pool->parallel_for(n_groups, [&](size_t group, int) {
        const MatmulTask task = {.w = &w, .y = y_.data(), .y_stride = n_panels * kPanelRows};
        matmul_panels(ctx_, activations_, task, group * kGroupPanels,
                      std::min(n_panels, (group + 1) * kGroupPanels), false);
      });
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  static constexpr size_t kGroupPanels = 8;
  const Ctx& ctx_;
  std::span<PackedMatrix* const> matrices_;  // of one shape
  Activations& activations_;
  std::span<const float> x_;  // (kPromptColumns, k)
  std::span<float> y_;        // result_floats()
  size_t next_ = 0;
};

}  // namespace

Result<void> autotune(const Ctx& ctx, std::span<PackedMatrix* const> matrices) {
  size_t max_k = 0;
  size_t n_results = 0;
  for (const PackedMatrix* matrix : matrices) {
    max_k = std::max(max_k, matrix->k());
    n_results = std::max(n_results, result_floats(*matrix));
  }
  ASSIGN_OR_RETURN(auto x, AlignedBuffer<float>::make(kPromptColumns * max_k));
  ASSIGN_OR_RETURN(auto y, AlignedBuffer<float>::make(n_results));
  ASSIGN_OR_RETURN(auto activations, Activations::make(kPromptColumns, max_k));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 255) - 127;  // every level

  std::vector<PackedMatrix*> left(matrices.begin(), matrices.end());
  while (!left.empty()) {
    const PackedMatrix& shape = *left.front();
    const auto others = std::stable_partition(
        left.begin(), left.end(), [&](const PackedMatrix* matrix) { return same_shape(*matrix, shape); });
    const std::span same(left.begin(), others);
    const MatmulTuning tuning = ShapeTuner(ctx, same, activations, x.span(), y.span()).tune();
    for (PackedMatrix* matrix : same) matrix->set_tuning(tuning);
    left.erase(left.begin(), others);
  }
  return {};
}

}  // namespace ruvltra
