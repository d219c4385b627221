#include "index/graph.h"

#include <sys/mman.h>

#include <cmath>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"

namespace ruvltra {
namespace {

// A longer record's tail is fetched by the processor itself once its begin is being read.
constexpr size_t kMostPrefetch = 1024;
// Expected blocks of upper layers per slot: 1 / (M - 1). Four times as many never run out by chance.
constexpr uint64_t kUpperReserve = 4;

size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

Result<ReservedMemory> ReservedMemory::make(uint64_t n_bytes, Pages pages) {
  void* memory =
      mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return fail(ErrorKind::kMemory, "memory.exhausted",
                "index: needs {} bytes of address space, the system gave none", n_bytes);
  }
  if (pages == Pages::kHuge) madvise(memory, n_bytes, MADV_HUGEPAGE);  // a hint: failure changes nothing
  return ReservedMemory(static_cast<uint8_t*>(memory), n_bytes);
}
ReservedMemory::~ReservedMemory() {
  if (data_ != nullptr) munmap(data_, n_bytes_);
}
ReservedMemory::ReservedMemory(ReservedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), n_bytes_(other.n_bytes_) {}
ReservedMemory& ReservedMemory::operator=(ReservedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(n_bytes_, other.n_bytes_);
  return *this;
}

Result<Graph> Graph::make(const HnswParams& params, const KernelTable& kernels) {
  Graph graph;
  graph.dim_ = static_cast<size_t>(params.dim);
  graph.padded_dim_ = padded_to_block(graph.dim_);
  graph.m_ = static_cast<size_t>(params.m);
  graph.record_bytes_ = round_up(sizeof(RecordHeader) + graph.padded_dim_ + 2 * graph.m_ * sizeof(Slot), 64);
  graph.prefetch_bytes_ = std::min(round_up(sizeof(RecordHeader) + graph.padded_dim_, 64), kMostPrefetch);
  graph.kernels_ = &kernels.vectors;
  const uint64_t n = params.capacity;
  graph.upper_capacity_ = (kUpperReserve * n / (graph.m_ - 1) + 64 * kMaxLevel) * (graph.m_ + 1);
  const auto reserve = [](ReservedMemory& memory, uint64_t count, uint64_t bytes,
                          Pages pages = Pages::kNormal) -> Result<void> {
    const auto n_bytes = checked_mul(count, bytes);
    CHECK(n_bytes.has_value());  // HnswParams::validate() bounds the factors
    ASSIGN_OR_RETURN(memory, ReservedMemory::make(*n_bytes, pages));
    return {};
  };
  RETURN_IF_ERROR(reserve(graph.records_, n, graph.record_bytes_, Pages::kHuge));
  RETURN_IF_ERROR(reserve(graph.vectors_, n, graph.padded_dim_ * sizeof(float), Pages::kHuge));
  RETURN_IF_ERROR(reserve(graph.ids_, n, sizeof(uint64_t)));
  RETURN_IF_ERROR(reserve(graph.groups_, n, sizeof(uint32_t)));
  RETURN_IF_ERROR(reserve(graph.upper_begin_, n, sizeof(uint32_t)));
  RETURN_IF_ERROR(reserve(graph.upper_, graph.upper_capacity_, sizeof(uint32_t)));
  return graph;
}

size_t Graph::count(Slot slot, int level) const {
  if (level == 0) return std::atomic_ref(header(slot).n_links).load(std::memory_order_acquire);
  return std::atomic_ref(*upper_block(slot, level)).load(std::memory_order_acquire);
}

void Graph::write_links(Slot slot, int level, std::span<const Slot> list) {
  DCHECK(list.size() <= most_links(level));
  uint32_t* out = mutable_links(slot, level);
  for (size_t i = 0; i < list.size(); ++i) std::atomic_ref(out[i]).store(list[i], std::memory_order_release);
  if (level == 0) {
    std::atomic_ref(header(slot).n_links)
        .store(static_cast<uint16_t>(list.size()), std::memory_order_release);
  } else {
    std::atomic_ref(*upper_block(slot, level))
        .store(static_cast<uint32_t>(list.size()), std::memory_order_release);
  }
}

void Graph::append_link(Slot slot, int level, Slot to) {
  const size_t n = count(slot, level);
  DCHECK(n < most_links(level));
  std::atomic_ref(mutable_links(slot, level)[n]).store(to, std::memory_order_release);
  if (level == 0) {
    std::atomic_ref(header(slot).n_links).store(static_cast<uint16_t>(n + 1), std::memory_order_release);
  } else {
    std::atomic_ref(*upper_block(slot, level)).store(static_cast<uint32_t>(n + 1), std::memory_order_release);
  }
}

Result<void> Graph::fill(Slot slot, uint64_t id, uint32_t group, int level, const EncodedVector& vector) {
  if (level > 0) {
    const uint64_t n_words = static_cast<uint64_t>(level) * (m_ + 1);
    auto& reusable = free_upper_[static_cast<size_t>(level)];
    uint32_t begin = static_cast<uint32_t>(upper_used_);
    if (!reusable.empty()) {
      begin = reusable.back();
      reusable.pop_back();
      free_upper_words_ -= n_words;
    } else if (upper_used_ + n_words > upper_capacity_) {
      return fail(ErrorKind::kMemory, "index.full", "index: no room for {} upper layers of a node", level);
    } else {
      upper_used_ += n_words;
    }
    *at<uint32_t>(upper_begin_, slot) = begin;
  }
  RecordHeader& record = header(slot);
  record.level = static_cast<uint8_t>(level);
  record.scale = vector.scale;
  record.error = vector.error;
  std::copy(vector.codes.begin(), vector.codes.end(), codes(slot));
  std::copy(vector.values.begin(), vector.values.end(), this->vector(slot));
  this->id(slot) = id;
  std::atomic_ref(*at<uint32_t>(groups_, slot)).store(group, std::memory_order_relaxed);
  record.group = group;
  for (int l = 0; l <= level; ++l) write_links(slot, l, {});
  return {};
}

void Graph::release_upper(Slot slot) {
  const size_t level = header(slot).level;
  if (level == 0) return;
  free_upper_[level].push_back(*at<uint32_t>(upper_begin_, slot));
  free_upper_words_ += level * (m_ + 1);
  header(slot).level = 0;
}

Result<void> Graph::encode(std::span<const float> vector, EncodedVector& out) const {
  if (vector.size() != dim_) {
    return fail("index.dim", "vector: expected {} values, found {}", dim_, vector.size());
  }
  // The bits of magnitudes order like the magnitudes; infinity and NaN come last.
  uint32_t largest_bits = 0;
  for (const float x : vector)
    largest_bits = std::max(largest_bits, std::bit_cast<uint32_t>(x) & 0x7fff'ffffu);
  if (largest_bits >= 0x7f80'0000u) {
    return fail("index.not_finite", "vector: expected finite values, found NaN or infinity");
  }
  const float largest = std::bit_cast<float>(largest_bits);
  if (largest < 0x1p-100f) {
    return fail("index.zero_norm", "vector: expected a direction, found only values below 2^-100");
  }
  const float unit = 1.0f / largest;
  for (size_t i = 0; i < dim_; ++i) out.values[i] = vector[i] * unit;
  const float norm = std::sqrt(kernels_->dot_f32(out.values.data(), out.values.data(), padded_dim_));
  const float inverse = 1.0f / norm;
  for (size_t i = 0; i < dim_; ++i) out.values[i] *= inverse;
  encode_codes(out);
  return {};
}

void Graph::encode_codes(EncodedVector& out) const {
  float largest = 0;
  for (size_t i = 0; i < dim_; ++i) largest = std::max(largest, std::fabs(out.values[i]));
  out.scale = largest / 127.0f;
  const float inverse = 127.0f / largest;
  for (size_t i = 0; i < dim_; ++i) {
    const long code = std::clamp(std::lrint(out.values[i] * inverse), -127L, 127L);
    out.codes[i] = static_cast<int8_t>(code);
    out.residual[i] = out.values[i] - static_cast<float>(code) * out.scale;
  }
  const float squared = kernels_->dot_f32(out.residual.data(), out.residual.data(), padded_dim_);
  out.error = std::sqrt(squared) * 1.001f + 1e-6f;  // rounded up: it is a bound
}

}  // namespace ruvltra
