#include "base/bandwidth.h"

#include <array>
#include <atomic>
#include <chrono>
#include <vector>

namespace ruvltra {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

// Four chains of 16 bytes: as fast as memory on every CPU tried.
uint64_t sum(std::span<const uint8_t> bytes) {
  std::array<uint64_t, 8> lanes{};
  const auto* words = reinterpret_cast<const uint64_t*>(bytes.data());
  for (size_t i = 0; i + lanes.size() <= bytes.size() / sizeof(uint64_t); i += lanes.size()) {
    for (size_t lane = 0; lane < lanes.size(); ++lane) lanes[lane] += words[i + lane];
  }
  uint64_t total = 0;
  for (const uint64_t lane : lanes) total += lane;
  return total;
}

}  // namespace

double read_bandwidth(ThreadPool& pool, std::span<const std::span<const uint8_t>> blocks) {
  std::vector<std::span<const uint8_t>> pieces;
  size_t n_bytes = 0;
  for (const auto& block : blocks) {
    n_bytes += block.size();
    for (size_t begin = 0; begin < block.size(); begin += kPieceBytes) {
      pieces.push_back(block.subspan(begin, std::min(kPieceBytes, block.size() - begin)));
    }
  }
  volatile uint64_t sink = 0;  // keeps the reads in the program
  std::atomic<uint64_t> total{0};
  const auto begin = std::chrono::steady_clock::now();
  pool.parallel_for(pieces.size(), [&](size_t piece, int) {
    total.fetch_add(sum(pieces[piece]), std::memory_order_relaxed);
  });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  sink = total.load();
  static_cast<void>(sink);
  return static_cast<double>(n_bytes) / seconds;
}

}  // namespace ruvltra
