// What one search needs, kept for the next; and the epochs that say when an erased slot may be reused.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/aligned.h"
#include "index/graph.h"

namespace ruvltra {

// Which slots a walk has seen: a tag per slot, valid if it is this walk's, so nothing is cleared between
// walks.
class VisitedSet {
 public:
  static Result<VisitedSet> make(size_t capacity) {
    VisitedSet set;
    ASSIGN_OR_RETURN(set.tags_, AlignedBuffer<uint16_t>::make(capacity));
    return set;
  }
  // `n_slots`: how far tags may have been written.
  void start(size_t n_slots) {
    if (++tag_ != 0) return;
    std::fill_n(tags_.data(), n_slots, uint16_t{0});
    tag_ = 1;
  }
  bool insert(Slot slot) {
    if (tags_[slot] == tag_) return false;
    tags_[slot] = tag_;
    return true;
  }
  void prefetch(Slot slot) const { __builtin_prefetch(tags_.data() + slot); }

 private:
  AlignedBuffer<uint16_t> tags_;
  uint16_t tag_ = 0;
};

// Counters that one thread at a time adds to and others read.
struct SearchCounters {
  std::atomic<uint64_t> searches = 0, scans = 0, distance_evals = 0, reranks = 0, hops = 0, second_looks = 0;
  static void add(std::atomic<uint64_t>& counter, uint64_t n) {
    counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
};

// Heaps of keys: `candidates` gives the nearest first, `results` the farthest.
//
// Invariants: after the first few searches their memory has its largest size and no search allocates.
// Thread safety: none.
struct Searcher {
  Searcher(size_t padded_dim, VisitedSet visited_set) : query(padded_dim), visited(std::move(visited_set)) {}
  EncodedVector query;
  VisitedSet visited;
  std::vector<Key> candidates, results;
  std::vector<Key> starts, first_look;  // of a walk that looks again
  std::array<Slot, kMaxLinks> links, fresh;
  std::array<const int8_t*, kMaxLinks> code_rows;
  std::array<const float*, kMaxLinks> value_rows;
  std::array<int32_t, kMaxLinks> code_dots;
  std::array<float, kMaxLinks> value_dots;
  uint64_t distance_evals = 0, reranks = 0, hops = 0, second_looks = 0;  // of the current search
};

// Searchers for threads that search at the same time, and the epoch each is in.
//
// A reader announces the epoch it starts in before it reads the entry point. The writer moves the epoch on
// after the last link to a slot is gone: who announces a later epoch cannot reach the slot (its second look
// at the epoch synchronises with the writer's step), so the slot is free when no earlier one is announced.
//
// Thread safety: all members; acquire() waits while kMaxSearchers searches run.
class SearcherPool {
 public:
  static constexpr size_t kMaxSearchers = 128;
  SearcherPool(size_t padded_dim, size_t capacity) : padded_dim_(padded_dim), capacity_(capacity) {}

  class Lease {
   public:
    Lease(SearcherPool* pool, size_t place) : pool_(pool), place_(place) {}
    Lease(Lease&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)), place_(other.place_) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (pool_ != nullptr) pool_->release(place_);
    }
    Searcher& operator*() const { return *pool_->places_[place_].searcher; }
    SearchCounters& counters() const { return pool_->places_[place_].counters; }

   private:
    SearcherPool* pool_;
    size_t place_;
  };
  // Errors: memory.exhausted.
  Result<Lease> acquire();

  // Writer: a new epoch begins; returns the one that ended.
  uint64_t advance() { return epoch_.fetch_add(1, std::memory_order_seq_cst); }
  // Whether every search that began in `epoch` or before has ended.
  bool has_left(uint64_t epoch) const;

  void sum_counters(HnswStats& stats) const;

 private:
  static constexpr uint64_t kIdle = 0;
  struct alignas(64) Place {
    std::atomic<bool> busy = false;
    std::atomic<uint64_t> epoch = kIdle;
    std::unique_ptr<Searcher> searcher;  // of whoever holds `busy`
    SearchCounters counters;
  };
  void release(size_t place);
  size_t padded_dim_, capacity_;
  std::atomic<uint64_t> epoch_ = 1;
  std::array<Place, kMaxSearchers> places_;
};

}  // namespace ruvltra
