#include "index/file_damage.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "base/container.h"
#include "base/fail.h"
#include "index/hnsw.h"
#include "index/synthetic_vectors.h"

namespace ruvltra {
namespace {

using Bytes = std::vector<uint8_t>;

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {  // SplitMix64 (Steele, Lea, Flood 2014)
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  size_t below(size_t n) { return static_cast<size_t>(bits() % n); }

 private:
  uint64_t state_;
};

struct Specimen {
  HnswParams params;
  HnswSource source;
  Bytes bytes;
  std::vector<float> query;
};

// An index of 120 vectors, some erased and swept, some erased only.
Result<Specimen> make_specimen(uint64_t seed, const KernelTable& kernels) {
  constexpr size_t kN = 120, kDim = 16;
  Specimen out;
  out.params.dim = kDim;
  out.params.m = 4;
  out.params.ef_construction = 20;
  out.params.capacity = 200;
  out.params.scan_crossover = 0;
  out.params.seed = seed;
  out.source.space = sha256(std::array<uint8_t, 1>{static_cast<uint8_t>(seed)});
  out.source.sequence = 1000;
  out.source.set_checksum = 0x1234'5678'9abc'def0 + seed;
  const auto vectors = make_synthetic_vectors(VectorLaw::kClustered, kN, 1, kDim, seed);
  out.query.assign(vectors.query(0).begin(), vectors.query(0).end());
  ASSIGN_OR_RETURN(HnswIndex index, HnswIndex::create(out.params, kernels));
  for (size_t i = 0; i < kN; ++i) {
    RETURN_IF_ERROR(index.insert(1000 + i, vectors.vector(i), static_cast<uint32_t>(i % 3)));
  }
  for (size_t i = 0; i < 20; ++i) RETURN_IF_ERROR(index.erase(1000 + 5 * i));
  while (!index.sweep(kN)) {
  }
  for (size_t i = 0; i < 10; ++i) RETURN_IF_ERROR(index.erase(1001 + 5 * i));
  ASSIGN_OR_RETURN(out.bytes, index.save(out.source));
  return out;
}

// Where a section lies; the file is one of ours.
struct Place {
  uint64_t offset = 0, length = 0, entry = 0;
};
Place find_section(const Bytes& file, uint32_t tag) {
  uint32_t n_sections;
  std::memcpy(&n_sections, file.data() + 12, sizeof(n_sections));
  for (uint32_t i = 0; i < n_sections; ++i) {
    Place place;
    place.entry = 64 + 56 * i;
    uint32_t found;
    std::memcpy(&found, file.data() + place.entry, sizeof(found));
    std::memcpy(&place.offset, file.data() + place.entry + 8, sizeof(uint64_t));
    std::memcpy(&place.length, file.data() + place.entry + 16, sizeof(uint64_t));
    if (found == tag) return place;
  }
  return {};
}

void repair_hashes(Bytes& file, const Place& place) {
  const auto section = sha256({file.data() + place.offset, place.length});
  std::memcpy(file.data() + place.entry + 24, section.data(), section.size());
  uint32_t n_sections;
  std::memcpy(&n_sections, file.data() + 12, sizeof(n_sections));
  const size_t hashed = 64 + size_t{56} * n_sections;
  const auto head = sha256({file.data(), hashed});
  std::memcpy(file.data() + hashed, head.data(), head.size());
}

template <class T>
void put(Bytes& file, const Place& place, size_t index, T value) {
  std::memcpy(file.data() + place.offset + index * sizeof(T), &value, sizeof(T));
}
template <class T>
T get(const Bytes& file, const Place& place, size_t index) {
  T value;
  std::memcpy(&value, file.data() + place.offset + index * sizeof(T), sizeof(T));
  return value;
}

// What a damage may change: the bytes, and what the owner expects.
struct Case {
  Bytes bytes;
  HnswSource expect;
};
using Damage = void (*)(Case&, Random&);

void flip_bit(Case& c, Random& random) {
  c.bytes[random.below(c.bytes.size())] ^= static_cast<uint8_t>(1u << random.below(8));
}
void change_bytes(Case& c, Random& random) {
  for (size_t n = 1 + random.below(16); n > 0; --n) {
    c.bytes[random.below(c.bytes.size())] ^= static_cast<uint8_t>(1 + random.below(255));
  }
}
void truncate(Case& c, Random& random) {
  c.bytes.resize(random.below(random.below(4) == 0 ? 128 : c.bytes.size()));
}
void append_bytes(Case& c, Random& random) {
  for (size_t n = 1 + random.below(100); n > 0; --n) c.bytes.push_back(static_cast<uint8_t>(random.bits()));
}
void cut_out(Case& c, Random& random) {
  const size_t begin = random.below(c.bytes.size());
  const size_t n = std::min(1 + random.below(512), c.bytes.size() - begin);
  const auto first = c.bytes.begin() + static_cast<std::ptrdiff_t>(begin);
  c.bytes.erase(first, first + static_cast<std::ptrdiff_t>(n));
}
// As a disk does: a sector of zeros, or of what belongs elsewhere. Where that changes nothing, one bit more.
void lose_sector(Case& c, Random& random) {
  const Bytes before = c.bytes;
  constexpr size_t kSector = 512;
  const size_t n_sectors = c.bytes.size() / kSector;
  const size_t at = random.below(n_sectors) * kSector, from = random.below(n_sectors) * kSector;
  for (size_t i = 0; i < kSector; ++i) c.bytes[at + i] = from == at ? 0 : before[from + i];
  if (c.bytes == before) flip_bit(c, random);
}
void stale_checksum(Case& c, Random& random) { c.expect.set_checksum ^= 1 + random.below(1u << 31); }
void from_the_future(Case& c, Random& random) { c.expect.sequence -= 1 + random.below(1000); }
void another_space(Case& c, Random& random) { c.expect.space[random.below(32)] ^= 1; }

// Below: one section changed, hashes repaired.
template <class T>
void put_repaired(Case& c, const Place& place, size_t index, T value) {
  put(c.bytes, place, index, value);
  repair_hashes(c.bytes, place);
}
void link_out_of_range(Case& c, Random& random) {
  const Place links = find_section(c.bytes, section_tag("LINK"));
  const auto value = random.below(2) == 0 ? 120 + static_cast<uint32_t>(random.below(1000)) : ~uint32_t{0};
  put_repaired(c, links, random.below(links.length / 4), value);
}
void link_twice(Case& c, Random&) {
  const Place links = find_section(c.bytes, section_tag("LINK"));
  put_repaired(c, links, 1,
               get<uint32_t>(c.bytes, links, 0));  // slot 0 is free: these are of the first used one
}
void link_to_free_slot(Case& c, Random& random) {
  const Place links = find_section(c.bytes, section_tag("LINK"));
  put_repaired(c, links, random.below(links.length / 4), uint32_t{0});  // id 1000 was erased and swept
}
// A layer-0 list takes over the links of the next list: the sum stays right, the degree is above 2 M = 8.
void degree_too_large(Case& c, Random& random) {
  const Place degrees = find_section(c.bytes, section_tag("DEGR"));
  for (size_t at = random.below(degrees.length - 1);; at = random.below(degrees.length - 1)) {
    const auto sum =
        static_cast<uint8_t>(get<uint8_t>(c.bytes, degrees, at) + get<uint8_t>(c.bytes, degrees, at + 1));
    if (sum <= 8) continue;
    put(c.bytes, degrees, at, sum);
    put_repaired(c, degrees, at + 1, uint8_t{0});
    return;
  }
}
void wrong_degree_sum(Case& c, Random& random) {
  const Place degrees = find_section(c.bytes, section_tag("DEGR"));
  const size_t at = random.below(degrees.length);
  put_repaired(c, degrees, at,
               static_cast<uint8_t>(get<uint8_t>(c.bytes, degrees, at) + 1 + random.below(255)));
}
void wrong_level(Case& c, Random& random) {
  const Place levels = find_section(c.bytes, section_tag("LEVL"));
  const size_t at = random.below(levels.length);
  put_repaired(c, levels, at,
               static_cast<uint8_t>(get<uint8_t>(c.bytes, levels, at) + 1 + random.below(255)));
}
void wrong_state(Case& c, Random& random) {
  const Place states = find_section(c.bytes, section_tag("STAT"));
  put_repaired(c, states, random.below(states.length), static_cast<uint8_t>(3 + random.below(253)));
}
void wrong_entry(Case& c, Random& random) {
  const uint64_t values[] = {0, 120, ~uint64_t{0}, 0xffff'ffff};  // a free slot, past the end, none
  put_repaired(c, find_section(c.bytes, section_tag("PARM")), 5, values[random.below(4)]);
}
void too_many_slots(Case& c, Random& random) {
  const uint64_t values[] = {121, 201, 1u << 31, ~uint64_t{0}};
  put_repaired(c, find_section(c.bytes, section_tag("PARM")), 4, values[random.below(4)]);
}
void other_params(Case& c, Random& random) {
  const Place params = find_section(c.bytes, section_tag("PARM"));
  const size_t at = random.below(4);
  put_repaired(c, params, at, get<uint64_t>(c.bytes, params, at) + 1 + random.below(1000));
}
void vector_not_finite(Case& c, Random& random) {
  const Place vectors = find_section(c.bytes, section_tag("VECS"));
  const float values[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  put_repaired(c, vectors, random.below(vectors.length / 4), values[random.below(2)]);
}
void vector_not_unit(Case& c, Random& random) {
  const Place vectors = find_section(c.bytes, section_tag("VECS"));
  const float values[] = {2.0f, -1e30f, 1.5f};
  put_repaired(c, vectors, random.below(vectors.length / 4), values[random.below(3)]);
}

struct Kind {
  const char* name;
  Damage damage;
};
constexpr Kind kKinds[] = {{"bit", flip_bit},
                           {"bytes", change_bytes},
                           {"truncated", truncate},
                           {"appended", append_bytes},
                           {"cut", cut_out},
                           {"sector", lose_sector},
                           {"stale_checksum", stale_checksum},
                           {"future_sequence", from_the_future},
                           {"other_space", another_space},
                           {"link_range", link_out_of_range},
                           {"link_twice", link_twice},
                           {"link_free", link_to_free_slot},
                           {"degree", degree_too_large},
                           {"degree_sum", wrong_degree_sum},
                           {"level", wrong_level},
                           {"state", wrong_state},
                           {"entry", wrong_entry},
                           {"slots", too_many_slots},
                           {"params", other_params},
                           {"not_finite", vector_not_finite},
                           {"not_unit", vector_not_unit}};

}  // namespace

Result<DamageReport> damage_index_files(uint64_t count, uint64_t seed, const KernelTable& kernels) {
  std::vector<Specimen> specimens;
  for (uint64_t i = 0; i < 4; ++i) {
    ASSIGN_OR_RETURN(Specimen specimen, make_specimen(seed + i, kernels));
    // The control: what damage is told from.
    ASSIGN_OR_RETURN(const auto loaded,
                     HnswIndex::load(specimen.bytes, "control", specimen.params, kernels, specimen.source));
    specimens.push_back(std::move(specimen));
  }
  Random random(seed);
  DamageReport report;
  for (uint64_t i = 0; i < count; ++i) {
    const Specimen& specimen = specimens[i / std::size(kKinds) % specimens.size()];
    const Kind& kind = kKinds[i % std::size(kKinds)];
    Case damaged{specimen.bytes, specimen.source};
    kind.damage(damaged, random);
    ++report.n_files;
    ++report.by_damage[kind.name];
    auto loaded = HnswIndex::load(damaged.bytes, "damaged", specimen.params, kernels, damaged.expect);
    if (!loaded) {
      ++report.n_detected;
      ++report.by_reason[std::string(loaded.error().id)];
      continue;
    }
    ++report.missed[kind.name];
    RETURN_IF_ERROR(loaded->index.search(specimen.query, 10));
    RETURN_IF_ERROR(loaded->index.insert(1, specimen.query));
  }
  return report;
}

}  // namespace ruvltra
