// Choosing the links of a node (Malkov and Yashunin, algorithm 4).
#pragma once

#include <span>
#include <vector>

#include "index/graph.h"

namespace ruvltra {

struct Candidate {
  float similarity;  // to the node whose links are chosen
  Slot slot;
};

// Up to `most` of the candidates: first those nearer to the node than to every one kept before them, nearest
// first; then, where room is left, the nearest of the others. Candidates that equal the node push out only
// each other: to them everything is as near as to the node, and links out of a heap of equal vectors must
// survive. Equal similarities go in an order that differs from node to node, so that links spread over equal
// vectors. Reorders `candidates`.
void select_neighbours(const Graph& graph, Slot node, std::vector<Candidate>& candidates, size_t most,
                       std::vector<Slot>& out);

}  // namespace ruvltra
