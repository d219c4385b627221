// Index files: whatever the bytes, loading ends in an error or in an index that can be searched, changed,
// swept and saved. Hashes keep plain mutations out, so the input is also tried with its size and hashes
// repaired.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/sha256.h"
#include "index/hnsw.h"
#include "kernels/dispatch.h"

namespace {

using namespace ruvltra;

constexpr size_t kDim = 8;

HnswParams params() {
  HnswParams params;
  params.dim = kDim;
  params.m = 4;
  params.ef_construction = 8;
  params.capacity = 256;
  params.scan_crossover = 0;
  return params;
}

void load(std::span<const uint8_t> bytes) {
  static const KernelTable& kernels = **kernel_table();
  HnswSource expect;
  expect.sequence = ~uint64_t{0};  // everything is behind: no file is refused as stale
  auto loaded = HnswIndex::load(bytes, "fuzz", params(), kernels, expect);
  if (!loaded) {
    CHECK(!loaded.error().id.empty() && !loaded.error().message.empty());
    return;
  }
  HnswIndex& index = loaded->index;
  std::vector<float> query(kDim, 1.0f);
  for (size_t i = 0; i < kDim; ++i) {
    query[i] = -query[i];
    const auto hits = index.search(query, 10);
    CHECK(hits && hits->size() <= index.size());
    CHECK(index.search_exact(query, 10)->size() == std::min<uint64_t>(10, index.size()));
    const auto stored = index.insert(~uint64_t{i}, query);
    CHECK(stored || stored.error().id == "index.full" || stored.error().id == "index.duplicate_id");
    if (hits && !hits->empty()) CHECK(index.erase(hits->front().id));
    index.sweep(16);
  }
  CHECK(index.stats().elements == index.size());
  const auto saved = index.save(loaded->source);
  CHECK(saved);
  CHECK(HnswIndex::load(*saved, "again", params(), kernels, expect));
}

// Puts the right size and hashes where header and table say they belong.
void repair(std::vector<uint8_t>& file) {
  if (file.size() < 96) return;
  const uint64_t size = file.size();
  std::memcpy(file.data() + 16, &size, sizeof(size));
  uint32_t n_sections;
  std::memcpy(&n_sections, file.data() + 12, sizeof(n_sections));
  n_sections = static_cast<uint32_t>(std::min<uint64_t>(n_sections, (file.size() - 96) / 56));
  for (uint32_t i = 0; i < n_sections; ++i) {
    uint8_t* entry = file.data() + 64 + size_t{56} * i;
    uint64_t offset, length;
    std::memcpy(&offset, entry + 8, sizeof(offset));
    std::memcpy(&length, entry + 16, sizeof(length));
    if (offset > size || length > size - offset) continue;
    const auto digest = sha256({file.data() + offset, length});
    std::memcpy(entry + 24, digest.data(), digest.size());
  }
  const size_t hashed = 64 + size_t{56} * n_sections;
  const auto digest = sha256({file.data(), hashed});
  std::memcpy(file.data() + hashed, digest.data(), digest.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  load({data, size});
  std::vector<uint8_t> file(data, data + size);
  repair(file);
  load(file);
  return 0;
}
