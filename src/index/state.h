// The parts of an HnswIndex, shared by its search, its construction and its file.
#pragma once

#include <atomic>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "index/adaptive_ef.h"
#include "index/graph.h"
#include "index/hnsw.h"
#include "index/searcher.h"
#include "index/walk.h"

namespace ruvltra {

// Live vectors of each group, for readers: an open-addressed table of {group, count}, written by one thread.
// A reader may see a count that is a change behind; it only chooses between scan and walk by it.
class GroupCounts {
 public:
  static Result<GroupCounts> make(uint64_t capacity);
  void change(uint32_t group, int by);  // writer
  uint64_t count(uint32_t group) const;

 private:
  struct Cell {
    uint64_t group_and_one;  // 0 = never used
    uint64_t count;
  };
  Cell& cell(uint64_t index) const {
    return *(static_cast<Cell*>(static_cast<void*>(cells_.data())) + index);
  }
  ReservedMemory cells_;
  uint64_t mask_ = 0;
};

// Where searches begin: a live node of the highest layer. kNoSlot while there is none.
struct EntryPoint {
  Slot slot = kNoSlot;
  int level = 0;
};

struct HnswIndex::State {
  State(const HnswParams& index_params, const KernelTable& table, Graph graph_of, GroupCounts counts,
        VisitedSet visited)
      : params(index_params),
        kernels(table),
        graph(std::move(graph_of)),
        groups(std::move(counts)),
        pool(graph.padded_dim(), params.capacity),
        adaptive(params),
        writer(graph.padded_dim(), std::move(visited)) {}

  EntryPoint entry() const {
    const uint64_t packed = entry_point.load(std::memory_order_acquire);
    return {static_cast<Slot>(packed), static_cast<int>(packed >> 32)};
  }
  void set_entry(EntryPoint entry) {
    entry_point.store(uint64_t{static_cast<uint32_t>(entry.level)} << 32 | entry.slot,
                      std::memory_order_release);
  }

  // Changing the index; the caller holds `mutex`.
  Result<Slot> store(uint64_t id, std::span<const float> vector, uint32_t group, bool may_reuse);
  void link(Slot slot);
  void repair(Slot slot, int level, const Slot* dead_links, size_t n_dead);
  bool repair_node(Slot slot);
  void elect_entry();
  void finish_round();
  Result<void> check_linked() const;  // index.pending

  const HnswParams params;
  const KernelTable& kernels;
  Graph graph;
  GroupCounts groups;
  mutable SearcherPool pool;
  AdaptiveEf adaptive;
  std::atomic<uint64_t> entry_point = kNoSlot;
  std::atomic<uint64_t> n_live = 0, n_tombstones = 0;
  std::atomic<Slot> n_linked = 0;  // slots from here on are pending
  std::atomic<double> insert_seconds = 0;

  // Of the one thread that changes the index.
  mutable std::mutex mutex;
  Searcher writer;
  std::unordered_map<uint64_t, Slot> slot_of_id;
  std::vector<Slot> reusable;
  struct Retired {
    Slot slot;
    uint64_t epoch;
  };
  std::vector<Retired> retired;
  // The sweep: a round visits all slots; tombstones older than it are free of links at its end.
  Slot sweep_next = 0;
  std::vector<Slot> dying;           // tombstones when the round began
  std::vector<Slot> new_tombstones;  // since then
};

}  // namespace ruvltra
