#include "index/select.h"

#include <cstring>

namespace ruvltra {
namespace {

// The finaliser of MurmurHash3: every bit of the input moves every bit of the output.
uint32_t mix(uint32_t x) {
  x = (x ^ x >> 16) * 0x85ebca6bu;
  x = (x ^ x >> 13) * 0xc2b2ae35u;
  return x ^ x >> 16;
}

bool equal_codes(const Graph& graph, Slot a, Slot b) {
  return std::memcmp(graph.codes(a), graph.codes(b), graph.padded_dim()) == 0;
}

struct Kept {
  std::array<const int8_t*, kMaxLinks> codes;
  std::array<float, kMaxLinks> scale;
  size_t n = 0;
  void add(const Graph& graph, Slot slot) {
    codes[n] = graph.codes(slot);
    scale[n++] = graph.header(slot).scale;
  }
};

// Whether the candidate is as near to one of `kept` as to the node.
bool is_covered(const Graph& graph, const Candidate& candidate, const Kept& kept) {
  constexpr size_t kTile = 4;
  const float scale = graph.header(candidate.slot).scale;
  for (size_t begin = 0; begin < kept.n; begin += kTile) {
    int32_t dots[kTile];
    const size_t n = std::min(kTile, kept.n - begin);
    graph.kernels().dot_i8_rows(graph.codes(candidate.slot), kept.codes.data() + begin, n, graph.padded_dim(),
                                dots);
    for (size_t i = 0; i < n; ++i) {
      if (static_cast<float>(dots[i]) * (scale * kept.scale[begin + i]) >= candidate.similarity) return true;
    }
  }
  return false;
}

}  // namespace

void select_neighbours(const Graph& graph, Slot node, std::vector<Candidate>& candidates, size_t most,
                       std::vector<Slot>& out) {
  const uint32_t salt = mix(node + 1);
  std::sort(candidates.begin(), candidates.end(), [&](const Candidate& a, const Candidate& b) {
    if (a.similarity != b.similarity) return a.similarity > b.similarity;
    const uint32_t of_a = mix(a.slot ^ salt), of_b = mix(b.slot ^ salt);
    return of_a != of_b ? of_a < of_b : a.slot < b.slot;
  });
  out.clear();
  Kept kept;
  bool has_equal = false;
  size_t n_pruned = 0;  // moved to the front of `candidates`, in order
  for (const Candidate candidate : candidates) {
    if (out.size() == most) break;
    const bool is_equal = equal_codes(graph, candidate.slot, node);
    if (is_equal ? has_equal : is_covered(graph, candidate, kept)) {
      candidates[n_pruned++] = candidate;
      continue;
    }
    out.push_back(candidate.slot);
    if (is_equal) {
      has_equal = true;
    } else {
      kept.add(graph, candidate.slot);
    }
  }
  for (size_t i = 0; i < n_pruned && out.size() < most; ++i) out.push_back(candidates[i].slot);
}

}  // namespace ruvltra
