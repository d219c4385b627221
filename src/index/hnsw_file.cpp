// An index as a file: RVC1, kind index. Codes are not stored, they follow from the vectors. Nothing of the
// file is believed: a loaded index keeps every invariant of Graph, whatever the bytes.
#include <cmath>
#include <cstring>

#include "base/container.h"
#include "base/file.h"
#include "index/levels.h"
#include "index/state.h"

namespace ruvltra {
namespace {

constexpr uint32_t kParams = section_tag("PARM");  // u64[kNParams]
constexpr uint32_t kStates = section_tag("STAT");  // u8[n]: 0 free, 1 live, 2 tombstone
constexpr uint32_t kLevels = section_tag("LEVL");  // u8[n]
constexpr uint32_t kDegrees =
    section_tag("DEGR");  // u8[sum of (level + 1)]: layers 0, 1, ... of slot 0, then slot 1
constexpr uint32_t kLinks = section_tag("LINK");    // u32[sum of degrees], in the same order
constexpr uint32_t kIds = section_tag("IDS ");      // u64[n]
constexpr uint32_t kGroups = section_tag("GRPS");   // u32[n]
constexpr uint32_t kVectors = section_tag("VECS");  // f32[n * dim], normalised; zeros where free
constexpr uint32_t kTags[] = {kParams, kStates, kLevels, kDegrees, kLinks, kIds, kGroups, kVectors};

enum ParamAt { kDim, kM, kEfConstruction, kSeed, kNSlots, kEntry, kSequence, kSetChecksum, kNParams };

constexpr double kNormTolerance = 1e-4;

bool is_used(SlotState state) { return state == SlotState::kLive || state == SlotState::kTombstone; }

// The sections of a file, made from an index or read from bytes.
struct Sections {
  std::vector<uint64_t> params;
  std::vector<uint8_t> states, levels, degrees;
  std::vector<uint32_t> links, groups;
  std::vector<uint64_t> ids;
  std::vector<float> vectors;

  void add_to(ContainerWriter& writer) const {
    writer.add(kParams, params);
    writer.add(kStates, states);
    writer.add(kLevels, levels);
    writer.add(kDegrees, degrees);
    writer.add(kLinks, links);
    writer.add(kIds, ids);
    writer.add(kGroups, groups);
    writer.add(kVectors, vectors);
  }
};

// The caller holds the index's mutex.
Sections sections_of(const HnswIndex::State& state, const HnswSource& source) {
  const Graph& graph = state.graph;
  const HnswParams& params = state.params;
  const Slot n = graph.n_slots();
  Sections out;
  out.params = {static_cast<uint64_t>(params.dim),
                static_cast<uint64_t>(params.m),
                static_cast<uint64_t>(params.ef_construction),
                params.seed,
                n,
                state.entry().slot,
                source.sequence,
                source.set_checksum};
  out.vectors.resize(n * graph.dim());
  for (Slot slot = 0; slot < n; ++slot) {
    const SlotState found = graph.state(slot);
    const bool used = is_used(found);
    const int level = used ? graph.header(slot).level : 0;
    out.states.push_back(static_cast<uint8_t>(used ? found : SlotState::kFree));
    out.levels.push_back(static_cast<uint8_t>(level));
    out.ids.push_back(used ? graph.id(slot) : 0);
    out.groups.push_back(used ? graph.group(slot) : 0);
    for (int l = 0; l <= level; ++l) {
      std::array<Slot, kMaxLinks> links;
      const size_t n_links = used ? graph.read_links(slot, l, links.data()) : 0;
      out.degrees.push_back(static_cast<uint8_t>(n_links));
      out.links.insert(out.links.end(), links.begin(), links.begin() + static_cast<std::ptrdiff_t>(n_links));
    }
    if (used) std::copy_n(graph.vector(slot), graph.dim(), out.vectors.data() + slot * graph.dim());
  }
  return out;
}

ContainerHeader header_of(const HnswSource& source) { return {ContainerKind::kIndex, 1, 0, source.space}; }

// Reads and checks a file piece by piece.
class Loader {
 public:
  Loader(const Container& file, std::string_view name, const HnswParams& params)
      : file_(file), name_(name), params_(params) {}

  // The source of the file, if it can serve a database in the state `expect`.
  Result<HnswSource> read_params(const HnswSource& expect) {
    ASSIGN_OR_RETURN(data_.params, file_.read<uint64_t>(kParams, kNParams));
    const auto& found = data_.params;
    const uint64_t wanted[] = {static_cast<uint64_t>(params_.dim), static_cast<uint64_t>(params_.m),
                               static_cast<uint64_t>(params_.ef_construction), params_.seed};
    constexpr const char* kNames[] = {"dim", "m", "ef_construction", "seed"};
    for (size_t i = 0; i < std::size(wanted); ++i) {
      if (found[i] != wanted[i]) {
        return fail("index.file_params", "{}: {}: expected {}, found {}", name_, kNames[i], wanted[i],
                    found[i]);
      }
    }
    const HnswSource source{file_.header().model, found[kSequence], found[kSetChecksum]};
    if (source.space != expect.space) {
      return fail("index.file_space", "{}: embedding space: expected {}, found {}", name_,
                  to_hex(expect.space), to_hex(source.space));
    }
    const bool is_behind = source.sequence < expect.sequence;
    if (!is_behind && (source.sequence != expect.sequence || source.set_checksum != expect.set_checksum)) {
      return fail("index.file_stale",
                  "{}: expected the rows up to {} with checksum {:016x}, found {} with {:016x}", name_,
                  expect.sequence, expect.set_checksum, source.sequence, source.set_checksum);
    }
    if (found[kNSlots] > params_.capacity) {
      return fail("index.file_count", "{}: expected at most {} slots, found {}", name_, params_.capacity,
                  found[kNSlots]);
    }
    n_ = static_cast<Slot>(found[kNSlots]);
    return source;
  }

  Result<void> read_nodes() {
    ASSIGN_OR_RETURN(data_.states, file_.read<uint8_t>(kStates, n_));
    ASSIGN_OR_RETURN(data_.levels, file_.read<uint8_t>(kLevels, n_));
    ASSIGN_OR_RETURN(data_.ids, file_.read<uint64_t>(kIds, n_));
    ASSIGN_OR_RETURN(data_.groups, file_.read<uint32_t>(kGroups, n_));
    ASSIGN_OR_RETURN(data_.vectors,
                     file_.read<float>(kVectors, uint64_t{n_} * static_cast<uint64_t>(params_.dim)));
    uint64_t n_lists = 0;
    for (Slot slot = 0; slot < n_; ++slot) {
      if (data_.states[slot] > static_cast<uint8_t>(SlotState::kTombstone)) {
        return fail("index.file_state", "{}: slot {}: expected a state of 0 to 2, found {}", name_, slot,
                    data_.states[slot]);
      }
      const int level = data_.levels[slot];
      const int expected = is_used(state(slot)) ? level_of(params_, data_.ids[slot]) : 0;
      if (level != expected) {
        return fail("index.file_level", "{}: slot {}: level: expected {}, found {}", name_, slot, expected,
                    level);
      }
      n_lists += static_cast<uint64_t>(level) + 1;
    }
    ASSIGN_OR_RETURN(data_.degrees, file_.read<uint8_t>(kDegrees, n_lists));
    uint64_t n_links = 0;
    for (const uint8_t degree : data_.degrees) n_links += degree;
    ASSIGN_OR_RETURN(data_.links, file_.read<uint32_t>(kLinks, n_links));
    return {};
  }

  // Vectors, ids and labels.
  Result<void> fill(HnswIndex::State& index) {
    const size_t dim = index.graph.dim();
    for (Slot slot = 0; slot < n_; ++slot) {
      const auto vector = std::span(data_.vectors).subspan(slot * dim, dim);
      double squared = 0;
      for (const float x : vector) squared += static_cast<double>(x) * static_cast<double>(x);
      const bool used = is_used(state(slot));
      if (used ? !(std::fabs(squared - 1) <= kNormTolerance)
               : squared != 0 || data_.ids[slot] != 0 || data_.groups[slot] != 0) {
        return fail("index.file_vector", "{}: slot {}: expected {}, found a squared norm of {}", name_, slot,
                    used ? "a vector of norm 1" : "zeros in a free slot", squared);
      }
      if (!used) {
        index.reusable.push_back(slot);
        continue;
      }
      std::copy(vector.begin(), vector.end(), index.writer.query.values.begin());
      index.graph.encode_codes(index.writer.query);
      RETURN_IF_ERROR(index.graph.fill(slot, data_.ids[slot], data_.groups[slot], data_.levels[slot],
                                       index.writer.query));
      if (state(slot) == SlotState::kTombstone) {
        index.new_tombstones.push_back(slot);
        continue;
      }
      if (!index.slot_of_id.emplace(data_.ids[slot], slot).second) {
        return fail("index.file_id", "{}: slot {}: id {} occurs twice", name_, slot, data_.ids[slot]);
      }
      index.groups.change(data_.groups[slot], 1);
    }
    return {};
  }

  Result<void> link(HnswIndex::State& index) {
    size_t next_list = 0, next_link = 0;
    for (Slot slot = 0; slot < n_; ++slot) {
      for (int level = 0; level <= data_.levels[slot]; ++level) {
        const size_t degree = data_.degrees[next_list++];
        const size_t most = is_used(state(slot)) ? index.graph.most_links(level) : 0;
        if (degree > most) {
          return fail("index.file_degree", "{}: slot {}, layer {}: expected at most {} links, found {}",
                      name_, slot, level, most, degree);
        }
        const auto list = std::span(data_.links).subspan(next_link, degree);
        next_link += degree;
        RETURN_IF_ERROR(check_links(slot, level, list));
        if (degree > 0) index.graph.write_links(slot, level, list);
      }
    }
    return {};
  }

  // A live node of the highest layer, or none if nothing lives.
  Result<EntryPoint> entry() const {
    int highest = -1;
    for (Slot slot = 0; slot < n_; ++slot) {
      if (state(slot) == SlotState::kLive) highest = std::max(highest, int{data_.levels[slot]});
    }
    const uint64_t found = data_.params[kEntry];
    if (highest < 0 && found == kNoSlot) return EntryPoint{};
    if (highest < 0 || found >= n_ || state(static_cast<Slot>(found)) != SlotState::kLive ||
        data_.levels[found] != highest) {
      return fail("index.file_entry", "{}: entry point: expected a live slot of level {}, found slot {}",
                  name_, highest, found);
    }
    return EntryPoint{static_cast<Slot>(found), highest};
  }

  Slot n_slots() const { return n_; }
  SlotState state(Slot slot) const { return static_cast<SlotState>(data_.states[slot]); }

 private:
  Result<void> check_links(Slot slot, int level, std::span<const uint32_t> list) const {
    for (size_t i = 0; i < list.size(); ++i) {
      const uint32_t to = list[i];
      const bool is_node = to < n_ && to != slot && is_used(state(to)) && data_.levels[to] >= level;
      if (!is_node || std::find(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(i), to) !=
                          list.begin() + static_cast<std::ptrdiff_t>(i)) {
        return fail("index.file_link",
                    "{}: slot {}, layer {}: expected distinct nodes of that layer, found {}", name_, slot,
                    level, to);
      }
    }
    return {};
  }

  const Container& file_;
  std::string_view name_;
  const HnswParams& params_;
  Sections data_;
  Slot n_ = 0;
};

}  // namespace

Result<std::vector<uint8_t>> HnswIndex::save(const HnswSource& source) const {
  const std::lock_guard lock(state_->mutex);
  RETURN_IF_ERROR(state_->check_linked());
  const Sections sections = sections_of(*state_, source);
  ContainerWriter writer(header_of(source));
  sections.add_to(writer);
  return writer.bytes();
}

Result<void> HnswIndex::save_file(const std::filesystem::path& path, const HnswSource& source) const {
  const std::lock_guard lock(state_->mutex);
  RETURN_IF_ERROR(state_->check_linked());
  const Sections sections = sections_of(*state_, source);
  ContainerWriter writer(header_of(source));
  sections.add_to(writer);
  return writer.write_file(path);
}

Result<HnswIndex::Loaded> HnswIndex::load(std::span<const uint8_t> bytes, std::string_view name,
                                          const HnswParams& params, const KernelTable& kernels,
                                          const HnswSource& expect) {
  RETURN_IF_ERROR(params.validate());
  ContainerExpect wanted;
  wanted.kind = ContainerKind::kIndex;
  wanted.known_tags = kTags;
  ASSIGN_OR_RETURN(const Container file, Container::parse(bytes, name, wanted));
  Loader loader(file, name, params);
  ASSIGN_OR_RETURN(const HnswSource source, loader.read_params(expect));
  RETURN_IF_ERROR(loader.read_nodes());
  ASSIGN_OR_RETURN(HnswIndex index, create(params, kernels));
  State& state = *index.state_;
  RETURN_IF_ERROR(loader.fill(state));
  RETURN_IF_ERROR(loader.link(state));
  ASSIGN_OR_RETURN(const EntryPoint entry, loader.entry());
  for (Slot slot = 0; slot < loader.n_slots(); ++slot) state.graph.set_state(slot, loader.state(slot));
  state.n_live = state.slot_of_id.size();
  state.n_tombstones = state.new_tombstones.size();
  state.graph.set_n_slots(loader.n_slots());
  state.n_linked = loader.n_slots();
  state.set_entry(entry);
  return Loaded{std::move(index), source};
}

Result<void> HnswIndex::State::check_linked() const {
  const Slot n_pending = graph.n_slots() - n_linked.load(std::memory_order_relaxed);
  if (n_pending == 0) return {};
  return fail(ErrorKind::kBusy, "index.pending",
              "index: expected every vector linked before saving, found {} that are not", n_pending);
}

}  // namespace ruvltra
