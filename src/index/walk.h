// Walking the graph: greedy descent through the upper layers and the beam at one layer.
#pragma once

#include <span>

#include "index/graph.h"
#include "index/searcher.h"

namespace ruvltra {

// What is compared with the nodes: codes, and what a code is worth.
struct QueryCodes {
  const int8_t* codes;
  float scale;
};

// Which nodes may be results. All are walked through.
struct Accept {
  bool any_group = true;
  uint32_t group = 0;
  Slot except = kNoSlot;  // the node that is being inserted
  bool operator()(const Graph& graph, Slot slot) const {
    if (graph.state(slot) != SlotState::kLive || slot == except) return false;
    return any_group || graph.header(slot).group == group;
  }
};

float query_similarity(const Graph& graph, const QueryCodes& query, Slot slot);

// From `start`, always on to the nearest neighbour in `level`, until none is nearer. Returns the last node.
Key descend(const Graph& graph, Searcher& searcher, const QueryCodes& query, Key start, int level);

// The ef nearest accepted nodes that a beam from `start` finds in `level` (Malkov and Yashunin, algorithm 2);
// left in searcher.results, farthest first as a heap.
void beam(const Graph& graph, Searcher& searcher, const QueryCodes& query, std::span<const Key> start,
          int level, size_t ef, const Accept& accept);

}  // namespace ruvltra
