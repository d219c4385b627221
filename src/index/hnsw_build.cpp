// Insertion, erasure and repair.
#include <chrono>

#include "base/check.h"
#include "index/levels.h"
#include "index/select.h"
#include "index/state.h"

namespace ruvltra {
namespace {

void add_neighbours(const Graph& graph, Slot node, Slot of, int level, std::vector<Candidate>& candidates) {
  std::array<Slot, kMaxLinks> links;
  const size_t n = graph.read_links(of, level, links.data());
  for (size_t i = 0; i < n; ++i) {
    const Slot slot = links[i];
    if (slot == node || graph.state(slot) != SlotState::kLive) continue;
    const auto has = [&](const Candidate& candidate) { return candidate.slot == slot; };
    if (std::none_of(candidates.begin(), candidates.end(), has)) {
      candidates.push_back({graph.similarity(node, slot), slot});
    }
  }
}

// `node` gets a link to `to`; in a full list the heuristic decides which one goes.
void link_back(Graph& graph, Slot node, Slot to, int level) {
  std::array<Slot, kMaxLinks> links;
  const size_t n = graph.read_links(node, level, links.data());
  if (n < graph.most_links(level)) return graph.append_link(node, level, to);
  std::vector<Candidate> candidates;
  candidates.reserve(n + 1);
  for (size_t i = 0; i < n; ++i) {
    // A tombstone's place is the cheapest: whoever needs it as a way still has its own list.
    if (graph.state(links[i]) == SlotState::kLive) {
      candidates.push_back({graph.similarity(node, links[i]), links[i]});
    }
  }
  candidates.push_back({graph.similarity(node, to), to});
  std::vector<Slot> chosen;
  select_neighbours(graph, node, candidates, graph.most_links(level), chosen);
  graph.write_links(node, level, chosen);
}

class Stopwatch {
 public:
  explicit Stopwatch(std::atomic<double>& total) : total_(total) {}
  ~Stopwatch() {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin_;
    total_.store(total_.load(std::memory_order_relaxed) + elapsed.count(), std::memory_order_relaxed);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  std::atomic<double>& total_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace

Result<GroupCounts> GroupCounts::make(uint64_t capacity) {
  GroupCounts counts;
  const uint64_t n_cells = std::bit_ceil(2 * capacity + 2);
  counts.mask_ = n_cells - 1;
  ASSIGN_OR_RETURN(counts.cells_, ReservedMemory::make(n_cells * sizeof(Cell)));
  return counts;
}

void GroupCounts::change(uint32_t group, int by) {
  const uint64_t wanted = uint64_t{group} + 1;
  Cell* unused = nullptr;  // a cell whose group has no vectors left: at most `capacity` have some
  uint64_t at = group * 0x9e3779b97f4a7c15u >> 20 & mask_;
  for (uint64_t step = 0; step <= mask_; ++step, at = (at + 1) & mask_) {
    Cell& here = cell(at);
    if (here.group_and_one == wanted) {
      std::atomic_ref(here.count)
          .store(here.count + static_cast<uint64_t>(int64_t{by}), std::memory_order_relaxed);
      return;
    }
    if (unused == nullptr && (here.group_and_one == 0 || here.count == 0)) unused = &here;
    if (here.group_and_one == 0) break;
  }
  CHECK(unused != nullptr && by > 0);
  std::atomic_ref(unused->count).store(static_cast<uint64_t>(by), std::memory_order_relaxed);
  std::atomic_ref(unused->group_and_one).store(wanted, std::memory_order_release);
}

uint64_t GroupCounts::count(uint32_t group) const {
  const uint64_t wanted = uint64_t{group} + 1;
  uint64_t at = group * 0x9e3779b97f4a7c15u >> 20 & mask_;
  for (uint64_t step = 0; step <= mask_; ++step, at = (at + 1) & mask_) {
    Cell& here = cell(at);
    const uint64_t found = std::atomic_ref(here.group_and_one).load(std::memory_order_acquire);
    if (found == wanted) return std::atomic_ref(here.count).load(std::memory_order_relaxed);
    if (found == 0) break;
  }
  return 0;
}

// Writes everything but the links and publishes the slot for scans.
Result<Slot> HnswIndex::State::store(uint64_t id, std::span<const float> vector, uint32_t group,
                                     bool may_reuse) {
  if (slot_of_id.contains(id)) {
    return fail("index.duplicate_id", "index: expected a new id, found {} once more", id);
  }
  RETURN_IF_ERROR(graph.encode(vector, writer.query));
  const Slot n_slots = graph.n_slots();
  for (size_t i = 0; may_reuse && reusable.empty() && i < retired.size();) {
    if (pool.has_left(retired[i].epoch)) {
      graph.release_upper(retired[i].slot);
      graph.set_state(retired[i].slot, SlotState::kFree);
      reusable.push_back(retired[i].slot);
      retired[i] = retired.back();
      retired.pop_back();
    } else {
      ++i;
    }
  }
  const bool reuse = may_reuse && !reusable.empty();
  if (!reuse && n_slots == params.capacity) {
    return fail(ErrorKind::kMemory, "index.full", "index: all {} slots are taken", params.capacity);
  }
  const Slot slot = reuse ? reusable.back() : n_slots;
  RETURN_IF_ERROR(graph.fill(slot, id, group, level_of(params, id), writer.query));
  if (reuse) reusable.pop_back();
  slot_of_id.emplace(id, slot);
  graph.set_state(slot, SlotState::kLive);
  if (!reuse) graph.set_n_slots(n_slots + 1);
  groups.change(group, 1);
  n_live.fetch_add(1, std::memory_order_relaxed);
  return slot;
}

// Algorithm 1 of the paper. The node's codes are in its record.
void HnswIndex::State::link(Slot slot) {
  const int level = graph.header(slot).level;
  const EntryPoint start = entry();
  if (start.slot == kNoSlot) return set_entry({slot, level});
  const QueryCodes query{graph.codes(slot), graph.header(slot).scale};
  Key nearest = make_key(query_similarity(graph, query, start.slot), start.slot);
  for (int l = start.level; l > level; --l) nearest = descend(graph, writer, query, nearest, l);
  Accept accept;
  accept.except = slot;
  std::vector<Key> from = {nearest};
  std::vector<Candidate> candidates;
  std::array<std::vector<Slot>, kMaxLevel + 1> chosen;
  const int top = std::min(level, start.level);
  for (int l = top; l >= 0; --l) {
    beam(graph, writer, query, from, l, static_cast<size_t>(params.ef_construction), accept);
    candidates.clear();
    bool all_equal = !writer.results.empty();
    for (const Key key : writer.results) {
      candidates.push_back({key_similarity(key), key_slot(key)});
      all_equal &= std::equal(query.codes, query.codes + graph.padded_dim(), graph.codes(key_slot(key)));
    }
    // A beam full of equal vectors sees nothing else; the ways out of their heap are in their own lists.
    if (all_equal) add_neighbours(graph, slot, candidates.front().slot, l, candidates);
    if (!writer.results.empty()) from.assign(writer.results.begin(), writer.results.end());
    select_neighbours(graph, slot, candidates, static_cast<size_t>(params.m), chosen[static_cast<size_t>(l)]);
    graph.write_links(slot, l, chosen[static_cast<size_t>(l)]);
  }
  for (int l = top; l >= 0; --l) {
    for (const Slot neighbour : chosen[static_cast<size_t>(l)]) link_back(graph, neighbour, slot, l);
  }
  if (level > start.level) set_entry({slot, level});
}

Result<void> HnswIndex::insert(uint64_t id, std::span<const float> vector, uint32_t group) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  const Stopwatch stopwatch(state.insert_seconds);
  const Slot n_slots = state.graph.n_slots();
  const bool has_pending = state.n_linked.load(std::memory_order_relaxed) < n_slots;
  ASSIGN_OR_RETURN(const Slot slot, state.store(id, vector, group, !has_pending));
  if (has_pending) return {};  // its turn comes
  state.link(slot);
  if (slot == n_slots) state.n_linked.store(slot + 1, std::memory_order_release);
  return {};
}

Result<void> HnswIndex::append(uint64_t id, std::span<const float> vector, uint32_t group) {
  const std::lock_guard lock(state_->mutex);
  RETURN_IF_ERROR(state_->store(id, vector, group, /*may_reuse=*/false));
  return {};
}

uint64_t HnswIndex::link_pending(uint64_t n) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  const Stopwatch stopwatch(state.insert_seconds);
  const Slot end = state.graph.n_slots();
  Slot next = state.n_linked.load(std::memory_order_relaxed);
  for (; n > 0 && next < end; --n, ++next) {
    if (state.graph.state(next) == SlotState::kLive) state.link(next);
    state.n_linked.store(next + 1, std::memory_order_release);
  }
  return end - next;
}

// The links of `slot` without dead nodes, chosen anew among what is left and what the dead ones led to.
void HnswIndex::State::repair(Slot slot, int level, const Slot* dead_links, size_t n_dead) {
  std::vector<Candidate> candidates;
  std::vector<Slot> chosen;
  add_neighbours(graph, slot, slot, level, candidates);
  for (size_t i = 0; i < n_dead; ++i) add_neighbours(graph, slot, dead_links[i], level, candidates);
  select_neighbours(graph, slot, candidates, graph.most_links(level), chosen);
  graph.write_links(slot, level, chosen);
}

// Repairs every layer of a node that leads to dead ones; returns whether any did.
bool HnswIndex::State::repair_node(Slot slot) {
  bool repaired = false;
  for (int level = 0; level <= graph.header(slot).level; ++level) {
    std::array<Slot, kMaxLinks> links;
    const size_t n = graph.read_links(slot, level, links.data());
    const auto first_dead = std::partition(links.begin(), links.begin() + static_cast<std::ptrdiff_t>(n),
                                           [&](Slot to) { return graph.state(to) == SlotState::kLive; });
    const auto n_dead = static_cast<size_t>(links.begin() + static_cast<std::ptrdiff_t>(n) - first_dead);
    if (n_dead == 0) continue;
    repair(slot, level, &*first_dead, n_dead);
    repaired = true;
  }
  return repaired;
}

// The lowest live slot of the highest layer. Rare: once per erased entry point.
void HnswIndex::State::elect_entry() {
  EntryPoint best;
  const Slot end = n_linked.load(std::memory_order_relaxed);
  for (Slot slot = 0; slot < end; ++slot) {
    if (graph.state(slot) != SlotState::kLive) continue;
    const int level = graph.header(slot).level;
    if (best.slot == kNoSlot || level > best.level) best = {slot, level};
  }
  set_entry(best);
}

Result<void> HnswIndex::erase(uint64_t id) {
  State& state = *state_;
  Graph& graph = state.graph;
  const std::lock_guard lock(state.mutex);
  const auto found = state.slot_of_id.find(id);
  if (found == state.slot_of_id.end()) {
    return fail("index.not_found", "index: expected an id that was inserted, found {}", id);
  }
  const Slot slot = found->second;
  state.slot_of_id.erase(found);
  graph.set_state(slot, SlotState::kTombstone);
  state.groups.change(graph.group(slot), -1);
  state.n_live.fetch_sub(1, std::memory_order_relaxed);
  state.n_tombstones.fetch_add(1, std::memory_order_relaxed);
  state.new_tombstones.push_back(slot);
  if (slot >= state.n_linked.load(std::memory_order_relaxed)) return {};
  for (int level = 0; level <= graph.header(slot).level; ++level) {
    std::array<Slot, kMaxLinks> links;
    const size_t n = graph.read_links(slot, level, links.data());
    for (size_t i = 0; i < n; ++i) {
      if (graph.state(links[i]) == SlotState::kLive) state.repair_node(links[i]);
    }
  }
  if (state.entry().slot == slot) state.elect_entry();
  return {};
}

// No link leads to a node of `dying` any more: they are free when today's searches have ended.
void HnswIndex::State::finish_round() {
  if (!dying.empty()) {
    const uint64_t epoch = pool.advance();
    for (const Slot slot : dying) {
      graph.set_state(slot, SlotState::kRetired);
      retired.push_back({slot, epoch});
    }
    n_tombstones.fetch_sub(dying.size(), std::memory_order_relaxed);
    dying.clear();
  }
  sweep_next = 0;
}

bool HnswIndex::sweep(uint64_t n) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  if (state.dying.empty()) {
    if (state.new_tombstones.empty()) return true;
    state.dying.swap(state.new_tombstones);
    state.sweep_next = 0;
  }
  const Slot end = state.graph.n_slots();
  for (; n > 0 && state.sweep_next < end; --n, ++state.sweep_next) {
    const SlotState found = state.graph.state(state.sweep_next);
    // Tombstones are repaired, too: walks still pass through those that this round does not free.
    if (found == SlotState::kLive || found == SlotState::kTombstone) state.repair_node(state.sweep_next);
  }
  if (state.sweep_next >= end) state.finish_round();
  return state.dying.empty() && state.new_tombstones.empty();
}

bool HnswIndex::needs_rebuild() const {
  const uint64_t dead = state_->n_tombstones.load(std::memory_order_relaxed);
  const uint64_t live = state_->n_live.load(std::memory_order_relaxed);
  return dead * 5 > live + dead;
}

Result<HnswIndex> HnswIndex::rebuild() const {
  const State& state = *state_;
  const std::lock_guard lock(state.mutex);
  ASSIGN_OR_RETURN(HnswIndex fresh, create(state.params, state.kernels));
  const Graph& graph = state.graph;
  for (Slot slot = 0; slot < graph.n_slots(); ++slot) {
    if (graph.state(slot) != SlotState::kLive) continue;
    RETURN_IF_ERROR(fresh.insert(graph.id(slot), {graph.vector(slot), graph.dim()}, graph.group(slot)));
  }
  return fresh;
}

}  // namespace ruvltra
