// Creation, search and statistics.
#include "index/hnsw.h"

#include <functional>

#include "index/state.h"

namespace ruvltra {
namespace {

constexpr int kMostEf = 1024;
constexpr uint64_t kMostCapacity = uint64_t{1} << 30;
constexpr uint64_t kNarrowFilter = 50;  // a filter that keeps less than 1 / 50 is scanned
constexpr size_t kLeastReranked = 32;
constexpr size_t kWider = 4;  // times ef: the beam of a second look

using State = HnswIndex::State;

Result<void> check_range(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return fail(ErrorKind::kUsage, "index.params", "index: {}: expected {} to {}, found {}", name, low, high,
              value);
}

Accept accept_by(const HnswFilter* filter) {
  Accept accept;
  accept.any_group = filter == nullptr;
  if (filter != nullptr) accept.group = filter->group;
  return accept;
}

// The nearest k by f32, farthest first as a heap.
class Best {
 public:
  Best(std::vector<Key>& heap, size_t k) : heap_(heap), k_(k) { heap_.clear(); }
  bool is_full() const { return heap_.size() == k_; }
  float worst() const { return key_similarity(heap_.front()); }
  void offer(Key key) {
    if (is_full()) {
      if (key < heap_.front()) return;
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      heap_.back() = key;
    } else {
      heap_.push_back(key);
    }
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }

 private:
  std::vector<Key>& heap_;
  size_t k_;
};

std::vector<HnswHit> hits_of(const Graph& graph, std::vector<Key>& heap) {
  std::sort(heap.begin(), heap.end(), std::greater<>());
  std::vector<HnswHit> hits;
  hits.reserve(heap.size());
  for (const Key key : heap) hits.push_back({graph.id(key_slot(key)), key_similarity(key)});
  return hits;
}

// Compares searcher.fresh[0..n) in f32.
void offer_exact(const Graph& graph, Searcher& searcher, size_t n, Best& best) {
  for (size_t i = 0; i < n; ++i) searcher.value_rows[i] = graph.vector(searcher.fresh[i]);
  graph.kernels().dot_f32_rows(searcher.query.values.data(), searcher.value_rows.data(), n,
                               graph.padded_dim(), searcher.value_dots.data());
  for (size_t i = 0; i < n; ++i) best.offer(make_key(searcher.value_dots[i], searcher.fresh[i]));
  searcher.reranks += n;
}

void scan(const Graph& graph, Searcher& searcher, size_t k, const HnswFilter* filter) {
  constexpr size_t kTile = 32;
  Best best(searcher.candidates, k);
  const Accept accept = accept_by(filter);
  const Slot end = graph.n_slots();
  size_t n = 0;
  for (Slot slot = 0; slot < end; ++slot) {
    // The labels lie side by side: a narrow filter touches few of the records.
    if (filter != nullptr && graph.group(slot) != filter->group) continue;
    if (!accept(graph, slot)) continue;
    searcher.fresh[n++] = slot;
    if (n < kTile) continue;
    offer_exact(graph, searcher, n, best);
    n = 0;
  }
  offer_exact(graph, searcher, n, best);
}

// Of searcher.results, nearest first: the f32 order of the nearest min(ef, max(32, 4 k)) by codes. |q.x -
// codes| <= |q - q'| |x| + |q'| |x - x'|, so whoever cannot reach the k-th best even with that error is left
// out: the answer is that of comparing all.
void rerank(const Graph& graph, Searcher& searcher, size_t k) {
  const std::vector<Key>& found = searcher.results;
  const size_t n_compared = std::min(found.size(), std::max(kLeastReranked, 4 * k));
  constexpr size_t kTile = 4;
  constexpr float kRounding = 1e-5f;  // of the f32 sums
  const float query_error = searcher.query.error;
  Best best(searcher.candidates, k);
  size_t n = 0;
  for (size_t i = 0; i < n_compared; ++i) {
    const Slot slot = key_slot(found[i]);
    const float error = query_error + (1 + query_error) * graph.header(slot).error + kRounding;
    if (best.is_full() && key_similarity(found[i]) + error < best.worst()) continue;
    searcher.fresh[n++] = slot;
    if (n < kTile) continue;
    offer_exact(graph, searcher, n, best);
    n = 0;
  }
  offer_exact(graph, searcher, n, best);
}

void walk(const State& state, Searcher& searcher, EntryPoint entry, size_t k, size_t ef,
          const HnswFilter* filter) {
  const Graph& graph = state.graph;
  const QueryCodes query{searcher.query.codes.data(), searcher.query.scale};
  const WalkStart start{make_key(query_similarity(graph, query, entry.slot), entry.slot), entry.level};
  const Accept accept = accept_by(filter);
  Key nearest = start.key;
  for (int level = entry.level; level > 0; --level) nearest = descend(graph, searcher, query, nearest, level);
  std::vector<Key>& found = searcher.results;
  beam(graph, searcher, query, {&nearest, 1}, 0, ef, accept);
  std::sort(found.begin(), found.end(), std::greater<>());
  if (is_uncertain(found, ef)) {
    look_again(graph, searcher, query, start, std::min<size_t>(kWider * ef, kMostEf), accept);
    std::sort(found.begin(), found.end(), std::greater<>());
    ++searcher.second_looks;
  }
  rerank(graph, searcher, k);
}

// Few vectors to compare with, few of many, or some that the graph does not have yet.
bool should_scan(const State& state, const HnswFilter* filter) {
  if (state.n_linked.load(std::memory_order_acquire) < state.graph.n_slots()) return true;
  const uint64_t n = state.n_live.load(std::memory_order_relaxed);
  if (n <= state.params.scan_crossover) return true;
  if (filter == nullptr) return false;
  const uint64_t n_kept = state.groups.count(filter->group);
  return n_kept <= state.params.scan_crossover || n_kept < n / kNarrowFilter;
}

enum class Method { kScan, kWalk, kBest };

Result<std::vector<HnswHit>> find(const State& state, std::span<const float> query, int k, int ef,
                                  const HnswFilter* filter, Method method) {
  if (k < 1 || k > kMostEf) {
    return fail(ErrorKind::kUsage, "index.k", "search: k: expected 1 to {}, found {}", kMostEf, k);
  }
  if (ef != 0 && (ef < k || ef > kMostEf)) {
    return fail(ErrorKind::kUsage, "index.ef", "search: ef: expected {} to {}, found {}", k, kMostEf, ef);
  }
  ASSIGN_OR_RETURN(const SearcherPool::Lease lease, state.pool.acquire());
  Searcher& searcher = *lease;
  const Graph& graph = state.graph;
  RETURN_IF_ERROR(graph.encode(query, searcher.query));
  searcher.distance_evals = searcher.reranks = searcher.hops = searcher.second_looks = 0;
  const EntryPoint entry = state.entry();
  const bool scans = method == Method::kScan || entry.slot == kNoSlot ||
                     (method == Method::kBest && should_scan(state, filter));
  if (scans) {
    scan(graph, searcher, static_cast<size_t>(k), filter);
  } else {
    const int beam_width = ef != 0 ? ef : std::max(k, state.adaptive.ef());
    walk(state, searcher, entry, static_cast<size_t>(k), static_cast<size_t>(beam_width), filter);
  }
  SearchCounters& counters = lease.counters();
  SearchCounters::add(counters.searches, 1);
  SearchCounters::add(counters.scans, scans ? 1 : 0);
  SearchCounters::add(counters.distance_evals, searcher.distance_evals);
  SearchCounters::add(counters.reranks, searcher.reranks);
  SearchCounters::add(counters.hops, searcher.hops);
  SearchCounters::add(counters.second_looks, searcher.second_looks);
  return hits_of(graph, searcher.candidates);
}

}  // namespace

Result<void> HnswParams::validate() const {
  RETURN_IF_ERROR(check_range("dim", dim, 8, 4096));
  RETURN_IF_ERROR(check_range("m", m, 4, 64));
  RETURN_IF_ERROR(check_range("ef_construction", ef_construction, m, 2000));
  RETURN_IF_ERROR(check_range("ef_search", ef_search, 1, kMostEf));
  if (capacity < 1 || capacity > kMostCapacity) {
    return fail(ErrorKind::kUsage, "index.params", "index: capacity: expected 1 to {}, found {}",
                kMostCapacity, capacity);
  }
  return {};
}

HnswIndex::HnswIndex(std::unique_ptr<State> state) : state_(std::move(state)) {}
HnswIndex::~HnswIndex() = default;
HnswIndex::HnswIndex(HnswIndex&&) noexcept = default;
HnswIndex& HnswIndex::operator=(HnswIndex&&) noexcept = default;

Result<HnswIndex> HnswIndex::create(const HnswParams& params, const KernelTable& kernels) {
  RETURN_IF_ERROR(params.validate());
  ASSIGN_OR_RETURN(Graph graph, Graph::make(params, kernels));
  ASSIGN_OR_RETURN(GroupCounts counts, GroupCounts::make(params.capacity));
  ASSIGN_OR_RETURN(VisitedSet visited, VisitedSet::make(params.capacity));
  return HnswIndex(
      std::make_unique<State>(params, kernels, std::move(graph), std::move(counts), std::move(visited)));
}

Result<std::vector<HnswHit>> HnswIndex::search(std::span<const float> query, int k, int ef,
                                               const HnswFilter* filter) const {
  ASSIGN_OR_RETURN(auto hits, find(*state_, query, k, ef, filter, Method::kBest));
  if (ef == 0) state_->adaptive.keep(query, k, filter);
  return hits;
}

Result<std::vector<HnswHit>> HnswIndex::search_exact(std::span<const float> query, int k,
                                                     const HnswFilter* filter) const {
  return find(*state_, query, k, 0, filter, Method::kScan);
}

Result<std::optional<double>> HnswIndex::probe() {
  State& state = *state_;
  const auto waiting = state.adaptive.take();
  if (!waiting) return std::nullopt;
  const HnswFilter* filter = waiting->filter ? &*waiting->filter : nullptr;
  if (should_scan(state, filter)) return std::nullopt;  // says nothing about the graph
  ASSIGN_OR_RETURN(const auto exact, find(state, waiting->vector, waiting->k, 0, filter, Method::kScan));
  ASSIGN_OR_RETURN(const auto found, find(state, waiting->vector, waiting->k, 0, filter, Method::kWalk));
  if (exact.empty()) return std::nullopt;
  // By similarity, not by id: of equally near vectors each is right.
  size_t n_right = 0;
  for (size_t i = 0; i < found.size(); ++i) n_right += found[i].similarity >= exact.back().similarity ? 1 : 0;
  const double recall =
      static_cast<double>(std::min(n_right, exact.size())) / static_cast<double>(exact.size());
  state.adaptive.learn(recall, waiting->k);
  return recall;
}

uint64_t HnswIndex::size() const { return state_->n_live.load(std::memory_order_relaxed); }
bool HnswIndex::contains(uint64_t id) const {
  const std::lock_guard lock(state_->mutex);
  return state_->slot_of_id.contains(id);
}
const HnswParams& HnswIndex::params() const { return state_->params; }

HnswStats HnswIndex::stats() const {
  const State& state = *state_;
  const std::lock_guard lock(state.mutex);
  const Graph& graph = state.graph;
  HnswStats stats;
  stats.elements = state.n_live.load(std::memory_order_relaxed);
  stats.tombstones = state.n_tombstones.load(std::memory_order_relaxed);
  const Slot n_slots = graph.n_slots();
  stats.pending = n_slots - state.n_linked.load(std::memory_order_relaxed);
  stats.capacity = state.params.capacity;
  stats.ef = state.adaptive.ef();
  stats.max_level = state.entry().level;
  state.pool.sum_counters(stats);
  stats.insert_seconds = state.insert_seconds.load(std::memory_order_relaxed);
  stats.recall_probe = state.adaptive.recall();
  stats.probes = state.adaptive.n_probes();
  for (Slot slot = 0; slot < n_slots; ++slot) {
    const SlotState found = graph.state(slot);
    if (found != SlotState::kLive && found != SlotState::kTombstone) continue;
    for (int level = 0; level <= graph.header(slot).level; ++level) stats.links += graph.count(slot, level);
  }
  const uint64_t base_links = graph.most_links(0) * sizeof(Slot);
  stats.code_bytes = n_slots * (graph.record_bytes() - base_links);
  stats.link_bytes = n_slots * (base_links + sizeof(uint32_t)) + graph.upper_words() * sizeof(uint32_t);
  stats.vector_bytes = n_slots * graph.padded_dim() * sizeof(float);
  stats.label_bytes = n_slots * (sizeof(uint64_t) + sizeof(uint32_t));
  return stats;
}

}  // namespace ruvltra
