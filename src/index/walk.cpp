#include "index/walk.h"

#include <functional>

namespace ruvltra {
namespace {

// Similarities of fresh[0..n) to the query into keys.
void evaluate(const Graph& graph, Searcher& searcher, const QueryCodes& query, size_t n, Key* keys) {
  for (size_t i = 0; i < n; ++i) searcher.code_rows[i] = graph.codes(searcher.fresh[i]);
  graph.kernels().dot_i8_rows(query.codes, searcher.code_rows.data(), n, graph.padded_dim(),
                              searcher.code_dots.data());
  for (size_t i = 0; i < n; ++i) {
    const Slot slot = searcher.fresh[i];
    keys[i] =
        make_key(static_cast<float>(searcher.code_dots[i]) * (query.scale * graph.header(slot).scale), slot);
  }
  searcher.distance_evals += n;
}

// The neighbours not seen yet go to searcher.fresh; their records are on their way when it returns.
size_t gather(const Graph& graph, Searcher& searcher, Slot slot, int level) {
  const size_t n_links = graph.read_links(slot, level, searcher.links.data());
  constexpr size_t kAhead = 8;
  for (size_t i = 0; i < std::min(n_links, kAhead); ++i) searcher.visited.prefetch(searcher.links[i]);
  size_t n_fresh = 0;
  for (size_t i = 0; i < n_links; ++i) {
    if (i + kAhead < n_links) searcher.visited.prefetch(searcher.links[i + kAhead]);
    if (searcher.visited.insert(searcher.links[i])) searcher.fresh[n_fresh++] = searcher.links[i];
  }
  return n_fresh;
}

constexpr size_t kBeamAbove = 64;  // of the layers above, when looking again
constexpr size_t kRanks = 8;       // ratio of the two ranks
// kRanks^(2 / d) for d = 32 dimensions (docs/hnsw.md: between what was seen inside and outside of clusters).
constexpr float kLeastGrowth = 1.1388f;

}  // namespace

float query_similarity(const Graph& graph, const QueryCodes& query, Slot slot) {
  const int32_t dot = graph.kernels().dot_i8(query.codes, graph.codes(slot), graph.padded_dim());
  return static_cast<float>(dot) * (query.scale * graph.header(slot).scale);
}

Key descend(const Graph& graph, Searcher& searcher, const QueryCodes& query, Key start, int level) {
  std::array<Key, kMaxLinks> keys;
  Key best = start;
  for (;;) {
    const size_t n = graph.read_links(key_slot(best), level, searcher.fresh.data());
    for (size_t i = 0; i < n; ++i) graph.prefetch_record(searcher.fresh[i]);
    evaluate(graph, searcher, query, n, keys.data());
    ++searcher.hops;
    Key nearest = best;
    for (size_t i = 0; i < n; ++i) nearest = std::max(nearest, keys[i]);
    if (nearest == best) return best;
    best = nearest;
  }
}

void beam(const Graph& graph, Searcher& searcher, const QueryCodes& query, std::span<const Key> start,
          int level, size_t ef, const Accept& accept) {
  std::vector<Key>& candidates = searcher.candidates;  // largest = nearest on top
  std::vector<Key>& results = searcher.results;        // smallest = farthest on top
  candidates.clear();
  results.clear();
  searcher.visited.start(graph.n_slots());
  const auto offer = [&](Key key) {
    if (results.size() == ef && key < results.front()) return;
    candidates.push_back(key);
    std::push_heap(candidates.begin(), candidates.end());
    if (!accept(graph, key_slot(key))) return;
    if (results.size() == ef) {
      std::pop_heap(results.begin(), results.end(), std::greater<>());
      results.back() = key;
    } else {
      results.push_back(key);
    }
    std::push_heap(results.begin(), results.end(), std::greater<>());
  };
  for (const Key key : start) {
    if (searcher.visited.insert(key_slot(key))) offer(key);
  }
  std::array<Key, kMaxLinks> keys;
  while (!candidates.empty()) {
    const Key nearest = candidates.front();
    if (results.size() == ef && nearest < results.front()) break;
    std::pop_heap(candidates.begin(), candidates.end());
    candidates.pop_back();
    const size_t n = gather(graph, searcher, key_slot(nearest), level);
    for (size_t i = 0; i < n; ++i) graph.prefetch_record(searcher.fresh[i]);
    evaluate(graph, searcher, query, n, keys.data());
    ++searcher.hops;
    for (size_t i = 0; i < n; ++i) offer(keys[i]);
  }
}

bool is_uncertain(std::span<const Key> found, size_t ef) {
  const size_t rank = ef / kRanks;
  if (rank < 2 || found.size() < ef) return false;
  // Half the squared distance of unit vectors.
  const float near = 1 - key_similarity(found[rank - 1]), far = 1 - key_similarity(found[kRanks * rank - 1]);
  return far < kLeastGrowth * near;
}

void look_again(const Graph& graph, Searcher& searcher, const QueryCodes& query, WalkStart start, size_t ef,
                const Accept& accept) {
  std::vector<Key>& starts = searcher.starts;
  searcher.first_look.swap(searcher.results);
  starts.assign(1, start.key);
  for (int above = start.level; above > 0; --above) {
    beam(graph, searcher, query, starts, above, kBeamAbove, Accept{});
    starts.swap(searcher.results);
  }
  starts.insert(starts.end(), searcher.first_look.begin(), searcher.first_look.end());
  beam(graph, searcher, query, starts, 0, ef, accept);
}

}  // namespace ruvltra
