#include "index/searcher.h"

#include <thread>

namespace ruvltra {

Result<SearcherPool::Lease> SearcherPool::acquire() {
  // Low places first: their memory is warm.
  size_t place = 0;
  for (;; place = (place + 1) % kMaxSearchers) {
    std::atomic<bool>& busy = places_[place].busy;
    if (!busy.load(std::memory_order_relaxed) && !busy.exchange(true, std::memory_order_acquire)) break;
    if (place + 1 == kMaxSearchers) std::this_thread::yield();
  }
  Place& mine = places_[place];
  Lease lease(this, place);
  if (mine.searcher == nullptr) {
    ASSIGN_OR_RETURN(VisitedSet visited, VisitedSet::make(capacity_));
    mine.searcher = std::make_unique<Searcher>(padded_dim_, std::move(visited));
  }
  uint64_t epoch = epoch_.load(std::memory_order_seq_cst);
  for (;;) {
    mine.epoch.store(epoch, std::memory_order_seq_cst);
    const uint64_t now = epoch_.load(std::memory_order_seq_cst);
    if (now == epoch) break;
    epoch = now;
  }
  return lease;
}

void SearcherPool::release(size_t place) {
  places_[place].epoch.store(kIdle, std::memory_order_release);
  places_[place].busy.store(false, std::memory_order_release);
}

bool SearcherPool::has_left(uint64_t epoch) const {
  for (const Place& place : places_) {
    const uint64_t announced = place.epoch.load(std::memory_order_seq_cst);
    if (announced != kIdle && announced <= epoch) return false;
  }
  return true;
}

void SearcherPool::sum_counters(HnswStats& stats) const {
  for (const Place& place : places_) {
    stats.searches += place.counters.searches.load(std::memory_order_relaxed);
    stats.scans += place.counters.scans.load(std::memory_order_relaxed);
    stats.distance_evals += place.counters.distance_evals.load(std::memory_order_relaxed);
    stats.reranks += place.counters.reranks.load(std::memory_order_relaxed);
    stats.hops += place.counters.hops.load(std::memory_order_relaxed);
    stats.second_looks += place.counters.second_looks.load(std::memory_order_relaxed);
  }
}

}  // namespace ruvltra
