// One thread changes the index, others search. Run under ThreadSanitizer (the preset tsan), this is the proof
// that readers need no lock; in every build it checks what the readers are given.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "index/hnsw.h"
#include "index/synthetic_vectors.h"
#include "kernels/dispatch.h"

namespace ruvltra {
namespace {

// Full runs: RUVLTRA_INDEX_SCALE=20.
size_t scale() {
  const char* text = std::getenv("RUVLTRA_INDEX_SCALE");
  return text != nullptr ? std::max<size_t>(1, std::strtoull(text, nullptr, 10)) : 1;
}

// The writer inserts, erases, sweeps and reuses slots; ids are never used twice, and id i belongs to group i
// % 2 and is vector i % n. So a reader can tell whether a hit is what it says it is.
TEST(HnswConcurrency, ReadersSeeOnlyWhatIsTrue) {
  constexpr size_t kN = 400, kDim = 32, kReaders = 3;
  const size_t n_changes = 3000 * scale();
  const auto vectors = make_synthetic_vectors(VectorLaw::kClustered, kN, 32, kDim, 2);
  HnswParams params;
  params.dim = kDim;
  params.m = 8;
  params.ef_construction = 40;
  params.ef_search = 32;
  params.capacity = kN + 200;
  params.scan_crossover = 0;
  params.adaptive_ef = true;
  HnswIndex index = std::move(*HnswIndex::create(params, **kernel_table()));
  for (size_t i = 0; i < kN; ++i)
    ASSERT_TRUE(index.insert(i, vectors.vector(i), static_cast<uint32_t>(i % 2)));

  // Ids below `erased` were erased before the value was stored; none from `inserted` on was begun before.
  std::atomic<uint64_t> erased = 0, inserted = kN;
  std::atomic<bool> done = false;
  std::atomic<size_t> n_wrong = 0, n_searches = 0;
  std::vector<std::thread> readers;
  for (size_t r = 0; r < kReaders; ++r) {
    readers.emplace_back([&, r] {
      std::mt19937_64 random(r);
      while (!done.load(std::memory_order_acquire)) {
        const size_t q = random() % vectors.n_queries();
        const HnswFilter filter{static_cast<uint32_t>(random() % 2)};
        const bool filtered = random() % 2 == 0;
        const uint64_t gone_below = erased.load(std::memory_order_acquire);
        const auto hits = random() % 16 == 0
                              ? index.search_exact(vectors.query(q), 10, filtered ? &filter : nullptr)
                              : index.search(vectors.query(q), 10, 0, filtered ? &filter : nullptr);
        const uint64_t known_below = inserted.load(std::memory_order_acquire);
        if (!hits || hits->size() != 10) {
          ++n_wrong;
          continue;
        }
        for (size_t i = 0; i < hits->size(); ++i) {
          const HnswHit& hit = (*hits)[i];
          double dot = 0;
          for (size_t d = 0; d < kDim; ++d) {
            dot += static_cast<double>(vectors.query(q)[d]) *
                   static_cast<double>(vectors.vector(hit.id % kN)[d]);
          }
          const bool ok = hit.id >= gone_below && hit.id <= known_below &&
                          (!filtered || hit.id % 2 == filter.group) &&
                          std::abs(dot - static_cast<double>(hit.similarity)) < 1e-5 &&
                          std::none_of(hits->begin(), hits->begin() + static_cast<std::ptrdiff_t>(i),
                                       [&](const HnswHit& other) { return other.id == hit.id; });
          if (!ok) ++n_wrong;
        }
        if (r == 0 && !index.probe()) ++n_wrong;
        ++n_searches;
      }
    });
  }
  size_t n_full = 0;
  for (uint64_t next = kN; next < kN + n_changes; ++next) {
    ASSERT_TRUE(index.erase(next - kN));
    erased.store(next - kN + 1, std::memory_order_release);
    index.sweep(50);
    inserted.store(next, std::memory_order_release);
    // Slots come back only when the searches of their epoch have ended: with the readers held up, wait.
    for (;;) {
      const auto ok = index.insert(next, vectors.vector(next % kN), static_cast<uint32_t>(next % 2));
      if (ok) break;
      ASSERT_EQ(ok.error().id, "index.full");
      ++n_full;
      index.sweep(kN);
      std::this_thread::yield();
    }
  }
  done.store(true, std::memory_order_release);
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(n_wrong.load(), 0u);
  EXPECT_GT(n_searches.load(), 0u);
  EXPECT_EQ(index.size(), kN);
}

// More threads than the pool has places wait for one; answers do not change with company.
TEST(HnswConcurrency, ManyReadersOneAnswer) {
  constexpr size_t kN = 600;
  const auto vectors = make_synthetic_vectors(VectorLaw::kClustered, kN, 8, 32, 2);
  HnswParams params;
  params.dim = 32;
  params.capacity = kN;
  params.scan_crossover = 0;
  HnswIndex index = std::move(*HnswIndex::create(params, **kernel_table()));
  for (size_t i = 0; i < kN; ++i) ASSERT_TRUE(index.insert(i, vectors.vector(i)));
  std::vector<std::vector<HnswHit>> alone;
  for (size_t q = 0; q < 8; ++q) alone.push_back(index.search(vectors.query(q), 10).value());
  std::atomic<size_t> n_different = 0;
  std::vector<std::thread> readers;
  for (size_t r = 0; r < 150; ++r) {
    readers.emplace_back([&, r] {
      for (size_t i = 0; i < 10; ++i) {
        const size_t q = (r + i) % 8;
        const auto hits = index.search(vectors.query(q), 10).value();
        for (size_t h = 0; h < hits.size(); ++h) {
          if (hits[h].id != alone[q][h].id || hits[h].similarity != alone[q][h].similarity) ++n_different;
        }
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(n_different.load(), 0u);
  EXPECT_EQ(index.stats().searches, 8u + 1500u);
}

}  // namespace
}  // namespace ruvltra
