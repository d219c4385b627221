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

// Where a walk begins: a node and the layer it reaches.
struct WalkStart {
  Key key;
  int level;
};

// From `start`, always on to the nearest neighbour in `level`, until none is nearer. Returns the last node.
Key descend(const Graph& graph, Searcher& searcher, const QueryCodes& query, Key start, int level);

// The ef nearest accepted nodes that a beam from `start` finds in `level` (Malkov and Yashunin, algorithm 2);
// left in searcher.results, farthest first as a heap.
void beam(const Graph& graph, Searcher& searcher, const QueryCodes& query, std::span<const Key> start,
          int level, size_t ef, const Accept& accept);

// Whether what a beam of ef found (nearest first) lies at nearly one distance from the query. The squared
// distance of the 8 r-th over that of the r-th, r = ef / 8, says in how many dimensions the neighbourhood
// grows: d = 2 ln 8 / ln(ratio), the estimate of Levina and Bickel (NIPS 2004) from two ranks. Above 32 the
// query stands outside of all that is near it, or the walk has ended in the wrong place: either way other
// regions may hold what is as near. False where the beam found fewer than ef, or ef < 16.
bool is_uncertain(std::span<const Key> found, size_t ef);

// Looks again, in more places: not one way but a beam through every layer above 0; the beam of layer 0 starts
// from all it found and from what searcher.results holds, and replaces that.
void look_again(const Graph& graph, Searcher& searcher, const QueryCodes& query, WalkStart start, size_t ef,
                const Accept& accept);

}  // namespace ruvltra
