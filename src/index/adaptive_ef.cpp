#include "index/adaptive_ef.h"

#include <algorithm>
#include <cmath>

namespace ruvltra {
namespace {

constexpr uint64_t kProbeEvery = 256;
constexpr double kNewest = 0.1;  // share of the newest probe in the moving mean
constexpr double kTooLow = 0.95, kTooHigh = 0.99;
constexpr int kMostEf = 1024;

}  // namespace

void AdaptiveEf::keep(std::span<const float> query, int k, const HnswFilter* filter) {
  if (!adaptive_ || n_queries_.fetch_add(1, std::memory_order_relaxed) % kProbeEvery != 0) return;
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || waiting_) return;
  waiting_ = ProbeQuery{{query.begin(), query.end()}, k, {}};
  if (filter != nullptr) waiting_->filter = *filter;
}

std::optional<ProbeQuery> AdaptiveEf::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(waiting_, std::nullopt);
}

void AdaptiveEf::learn(double recall, int k) {
  const std::lock_guard lock(mutex_);
  const double before = recall_.load(std::memory_order_relaxed);
  const double mean =
      n_probes_.fetch_add(1, std::memory_order_relaxed) == 0 ? recall : before + kNewest * (recall - before);
  recall_.store(mean, std::memory_order_relaxed);
  if (!adaptive_) return;
  const int ef = ef_.load(std::memory_order_relaxed);
  double next = ef;
  if (mean < kTooLow) next = std::ceil(ef * 1.25);
  if (mean > kTooHigh) next = std::floor(ef * 0.9);
  ef_.store(std::clamp(static_cast<int>(next), std::max(k, 1), kMostEf), std::memory_order_relaxed);
}

}  // namespace ruvltra
