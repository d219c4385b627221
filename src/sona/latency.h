// Durations of something that happens often, in logarithmic bins: quantiles within 10 %, from any thread,
// without a lock.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace ruvltra {

class LatencyHistogram {
 public:
  void add(std::chrono::steady_clock::duration duration) {
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
    const double bin = kBinsPerDoubling * std::log2(static_cast<double>(std::max<int64_t>(ns, 1)));
    bins_[std::min(static_cast<size_t>(bin), kBins - 1)].fetch_add(1, std::memory_order_relaxed);
  }
  // Microseconds that a share q of the durations did not exceed; 0 if there are none.
  double quantile_us(double q) const {
    uint64_t n = 0;
    for (const auto& bin : bins_) n += bin.load(std::memory_order_relaxed);
    if (n == 0) return 0;
    const auto wanted = static_cast<uint64_t>(std::ceil(q * static_cast<double>(n)));
    uint64_t seen = 0;
    for (size_t i = 0; i < kBins; ++i) {
      seen += bins_[i].load(std::memory_order_relaxed);
      if (seen >= wanted) return std::exp2(static_cast<double>(i + 1) / kBinsPerDoubling) / 1e3;
    }
    return std::exp2(static_cast<double>(kBins) / kBinsPerDoubling) / 1e3;
  }

 private:
  static constexpr int kBinsPerDoubling = 8;
  static constexpr size_t kBins = 40 * kBinsPerDoubling;  // up to 18 minutes
  std::array<std::atomic<uint64_t>, kBins> bins_ = {};
};

}  // namespace ruvltra
