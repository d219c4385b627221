// The memory of an HNSW index: codes, links, vectors and labels of slots 0 .. n-1, at fixed addresses.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/fail.h"
#include "index/hnsw.h"

namespace ruvltra {

using Slot = uint32_t;
constexpr Slot kNoSlot = 0xffff'ffffu;
constexpr int kMaxLevel = 15;
constexpr size_t kMaxLinks = 128;  // 2 M at layer 0

enum class SlotState : uint8_t {
  kFree,       // holds nothing; no link leads here
  kLive,       // may be returned
  kTombstone,  // never returned, still walked through
  kRetired,    // no link leads here, but a search may still stand on it
};

// Zeroed address space that takes memory page by page as it is touched.
class ReservedMemory {
 public:
  ReservedMemory() = default;
  static Result<ReservedMemory> make(uint64_t n_bytes, Pages pages = Pages::kNormal);
  ~ReservedMemory();
  ReservedMemory(ReservedMemory&& other) noexcept;
  ReservedMemory& operator=(ReservedMemory&& other) noexcept;
  uint8_t* data() const { return data_; }

 private:
  ReservedMemory(uint8_t* data, uint64_t n_bytes) : data_(data), n_bytes_(n_bytes) {}
  uint8_t* data_ = nullptr;
  uint64_t n_bytes_ = 0;
};

// A similarity and a slot in one number: larger is nearer, equal similarities go by the lower slot.
using Key = uint64_t;
inline Key make_key(float similarity, Slot slot) {
  const auto bits = std::bit_cast<uint32_t>(similarity);
  const uint32_t ordered = bits >> 31 != 0 ? ~bits : bits | 0x8000'0000u;
  return uint64_t{ordered} << 32 | static_cast<uint32_t>(~slot);
}
inline float key_similarity(Key key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  return std::bit_cast<float>(ordered >> 31 != 0 ? ordered & 0x7fff'ffffu : ~ordered);
}
inline Slot key_slot(Key key) { return ~static_cast<uint32_t>(key); }

// Start of a level-0 record; then follow the codes, int8[padded dim], and the links, u32[2 M].
struct RecordHeader {
  uint16_t n_links;  // atomic
  uint8_t level;     // layers above 0 that the node is in
  SlotState state;   // atomic
  uint32_t group;    // label of the vector, beside the codes for filtered walks
  float scale;       // value = code * scale
  float error;       // upper bound of the norm of (vector - codes * scale)
};
static_assert(sizeof(RecordHeader) == 16);

// Vector of a query or of a new node: normalised, padded with zeros, and its codes.
struct EncodedVector {
  std::vector<float> values;
  std::vector<int8_t> codes;
  std::vector<float> residual;  // scratch
  float scale = 0;
  float error = 0;
  explicit EncodedVector(size_t padded_dim) : values(padded_dim), codes(padded_dim), residual(padded_dim) {}
};

// Thread safety: one writer beside any number of readers. Links, their counts and states are atomic, stored
// with release and loaded with acquire, so whoever sees a link sees the node behind it; everything else of a
// slot is written before the slot is published and never while a reader can reach it (epochs, searcher.h).
//
// Invariants: links lead to slots < n_slots() that are not free, at most 2 M at layer 0, M above, only to
// nodes of that layer, never to the node itself.
class Graph {
 public:
  static Result<Graph> make(const HnswParams& params, const KernelTable& kernels);

  size_t dim() const { return dim_; }
  size_t padded_dim() const { return padded_dim_; }
  size_t most_links(int level) const { return level == 0 ? 2 * m_ : m_; }
  size_t record_bytes() const { return record_bytes_; }
  const VectorKernels& kernels() const { return *kernels_; }

  // Slots ever used.
  Slot n_slots() const { return std::atomic_ref(*n_slots_).load(std::memory_order_acquire); }
  void set_n_slots(Slot n) { std::atomic_ref(*n_slots_).store(n, std::memory_order_release); }

  RecordHeader& header(Slot slot) const {
    return *static_cast<RecordHeader*>(static_cast<void*>(records_.data() + slot * record_bytes_));
  }
  int8_t* codes(Slot slot) const {
    return static_cast<int8_t*>(
        static_cast<void*>(records_.data() + slot * record_bytes_ + sizeof(RecordHeader)));
  }
  float* vector(Slot slot) const { return at<float>(vectors_, slot * padded_dim_); }
  uint64_t& id(Slot slot) const { return *at<uint64_t>(ids_, slot); }
  // Of a slot that may be filled meanwhile: only a hint until the state says kLive, then header().group
  // counts.
  uint32_t group(Slot slot) const {
    return std::atomic_ref(*at<uint32_t>(groups_, slot)).load(std::memory_order_relaxed);
  }

  SlotState state(Slot slot) const {
    return std::atomic_ref(header(slot).state).load(std::memory_order_acquire);
  }
  void set_state(Slot slot, SlotState state) {
    std::atomic_ref(header(slot).state).store(state, std::memory_order_release);
  }

  // Copies the links; returns how many. A list changed meanwhile may be a mixture of old and new links.
  size_t read_links(Slot slot, int level, Slot* out) const {
    const uint32_t* list = links(slot, level);
    const size_t n = count(slot, level);
    for (size_t i = 0; i < n; ++i) out[i] = load_link(list[i]);
    return n;
  }
  void write_links(Slot slot, int level, std::span<const Slot> list);
  void append_link(Slot slot, int level, Slot to);  // there is room
  size_t count(Slot slot, int level) const;
  const uint32_t* links(Slot slot, int level) const {
    return const_cast<Graph*>(this)->mutable_links(slot, level);
  }

  // Fills everything of a slot but its links; the slot is not yet published. Errors: index.full (no room for
  // upper layers).
  Result<void> fill(Slot slot, uint64_t id, uint32_t group, int level, const EncodedVector& vector);
  // Gives the slot's upper block back; nobody can reach it any more.
  void release_upper(Slot slot);

  float similarity(Slot a, Slot b) const {
    const int32_t dot = kernels_->dot_i8(codes(a), codes(b), padded_dim_);
    return static_cast<float>(dot) * (header(a).scale * header(b).scale);
  }
  void prefetch_record(Slot slot) const {
    const uint8_t* record = records_.data() + slot * record_bytes_;
    for (size_t at = 0; at < prefetch_bytes_; at += 64) __builtin_prefetch(record + at);
  }

  // Normalises and encodes. Errors: index.dim, index.not_finite, index.zero_norm (largest value below
  // 2^-100).
  Result<void> encode(std::span<const float> vector, EncodedVector& out) const;
  // The codes of values that are normalised already.
  void encode_codes(EncodedVector& out) const;

  // Bytes per slot beside the upper layers, and the u32 words of those in use.
  uint64_t upper_words() const { return upper_used_ - free_upper_words_; }

 private:
  template <class T>
  static T* at(const ReservedMemory& memory, size_t index) {
    return static_cast<T*>(static_cast<void*>(memory.data())) + index;
  }
  uint32_t* mutable_links(Slot slot, int level) {
    if (level == 0) {
      return static_cast<uint32_t*>(static_cast<void*>(codes(slot) + padded_dim_));
    }
    return upper_block(slot, level) + 1;
  }
  // {u32 count, u32 links[M]} of a layer above 0.
  uint32_t* upper_block(Slot slot, int level) const {
    return at<uint32_t>(upper_,
                        *at<uint32_t>(upper_begin_, slot) + static_cast<size_t>(level - 1) * (m_ + 1));
  }
  static Slot load_link(const uint32_t& link) {
    return std::atomic_ref(const_cast<uint32_t&>(link)).load(std::memory_order_acquire);
  }

  size_t dim_ = 0, padded_dim_ = 0, m_ = 0, record_bytes_ = 0, prefetch_bytes_ = 0;
  const VectorKernels* kernels_ = nullptr;
  std::unique_ptr<Slot> n_slots_ = std::make_unique<Slot>(0);
  ReservedMemory records_, vectors_, ids_, groups_, upper_begin_, upper_;
  // Writer only.
  uint64_t upper_capacity_ = 0, upper_used_ = 0, free_upper_words_ = 0;
  std::array<std::vector<uint32_t>, kMaxLevel + 1> free_upper_;  // by level
};

}  // namespace ruvltra
