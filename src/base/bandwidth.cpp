#include "base/bandwidth.h"

#include <array>
#include <chrono>

namespace ruvltra {
namespace {

constexpr size_t kBufferWords = BandwidthMeter::kBufferBytes / sizeof(uint64_t);
constexpr size_t kTaskWords = (size_t{1} << 20) / sizeof(uint64_t);

uint64_t sum(const uint64_t* words) {
  std::array<uint64_t, 16> lanes{};
  for (size_t i = 0; i < kTaskWords; i += lanes.size()) {
    for (size_t lane = 0; lane < lanes.size(); ++lane) lanes[lane] += words[i + lane];
  }
  uint64_t total = 0;
  for (const uint64_t lane : lanes) total += lane;
  return total;
}

}  // namespace

Result<BandwidthMeter> BandwidthMeter::make(ThreadPool& pool) {
  ASSIGN_OR_RETURN(auto words, AlignedBuffer<uint64_t>::make(kBufferWords));
  pool.parallel_for(kBufferWords / kTaskWords, [&](size_t task, int) {
    for (size_t i = task * kTaskWords; i < (task + 1) * kTaskWords; ++i) words[i] = i;
  });
  return BandwidthMeter(std::move(words));
}

double BandwidthMeter::measure(ThreadPool& pool) {
  std::atomic<uint64_t> total{0};
  const auto begin = std::chrono::steady_clock::now();
  pool.parallel_for(kBufferWords / kTaskWords, [&](size_t task, int) {
    total.fetch_add(sum(words_.data() + task * kTaskWords), std::memory_order_relaxed);
  });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  // The sum is known: using it keeps the reads in the program.
  constexpr uint64_t kExpected = uint64_t{kBufferWords} * (kBufferWords - 1) / 2;
  return total.load() == kExpected ? kBufferWords * sizeof(uint64_t) / seconds : 0;
}

}  // namespace ruvltra
