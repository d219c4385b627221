// The beam width that keeps recall near its aim: 1 of 256 queries is also answered exactly, later and
// elsewhere.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "index/hnsw.h"

namespace ruvltra {

// A query that waits for its exact answer.
struct ProbeQuery {
  std::vector<float> vector;
  int k = 0;
  std::optional<HnswFilter> filter;
};

// Thread safety: all members. keep() never waits: while another thread is in here, the query is not kept.
class AdaptiveEf {
 public:
  explicit AdaptiveEf(const HnswParams& params) : adaptive_(params.adaptive_ef), ef_(params.ef_search) {}

  int ef() const { return ef_.load(std::memory_order_relaxed); }
  // Counts a query; keeps a copy of every 256th, unless the one before is still waiting.
  void keep(std::span<const float> query, int k, const HnswFilter* filter);
  std::optional<ProbeQuery> take();
  // Recall EMA below 0.95: ef * 1.25; above 0.99: ef * 0.9; within k..1024.
  void learn(double recall, int k);
  double recall() const { return recall_.load(std::memory_order_relaxed); }
  uint64_t n_probes() const { return n_probes_.load(std::memory_order_relaxed); }

 private:
  const bool adaptive_;
  std::atomic<int> ef_;
  std::atomic<uint64_t> n_queries_ = 0, n_probes_ = 0;
  std::atomic<double> recall_ = 0;
  std::mutex mutex_;  // of waiting_ and of learn()
  std::optional<ProbeQuery> waiting_;
};

}  // namespace ruvltra
