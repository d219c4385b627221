// The HNSW index: recall against an exact scan in double precision, deletes, groups, duplicates, errors,
// determinism.
#include "index/hnsw.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "index/synthetic_vectors.h"
#include "kernels/dispatch.h"

namespace ruvltra {
namespace {

const KernelTable& best_kernels() { return **kernel_table(); }

HnswParams params_for(size_t dim, uint64_t capacity) {
  HnswParams params;
  params.dim = static_cast<int>(dim);
  params.capacity = capacity;
  params.scan_crossover = 0;  // these tests are about the graph
  return params;
}

HnswIndex must_create(const HnswParams& params) {
  auto index = HnswIndex::create(params, best_kernels());
  EXPECT_TRUE(index) << index.error().message;
  return std::move(*index);
}

// The k nearest of the rows `alive` says, in double precision.
std::vector<uint64_t> oracle(const SyntheticVectors& vectors, std::span<const float> query, size_t k,
                             const std::function<bool(size_t)>& alive) {
  std::vector<std::pair<double, uint64_t>> all;
  for (size_t i = 0; i < vectors.size(); ++i) {
    if (!alive(i)) continue;
    double dot = 0;
    for (size_t d = 0; d < vectors.dim; ++d)
      dot += static_cast<double>(query[d]) * static_cast<double>(vectors.vector(i)[d]);
    all.emplace_back(-dot, i);
  }
  k = std::min(k, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(k), all.end());
  std::vector<uint64_t> ids;
  for (size_t i = 0; i < k; ++i) ids.push_back(all[i].second);
  return ids;
}

double recall(const HnswIndex& index, const SyntheticVectors& vectors,
              const std::function<bool(size_t)>& alive, size_t k = 10) {
  size_t n_right = 0, n_all = 0;
  for (size_t q = 0; q < vectors.n_queries(); ++q) {
    const auto hits = index.search(vectors.query(q), static_cast<int>(k));
    EXPECT_TRUE(hits) << hits.error().message;
    const auto exact = oracle(vectors, vectors.query(q), k, alive);
    for (const HnswHit& hit : *hits) {
      EXPECT_TRUE(alive(hit.id)) << hit.id;
      n_right += static_cast<size_t>(std::count(exact.begin(), exact.end(), hit.id));
    }
    n_all += exact.size();
  }
  return static_cast<double>(n_right) / static_cast<double>(n_all);
}

bool everything(size_t) { return true; }

struct GridCase {
  VectorLaw law;
  size_t n, dim;
};
class HnswRecall : public ::testing::TestWithParam<GridCase> {};

// Defaults: M 16, ef_construction 200, ef 64.
TEST_P(HnswRecall, BeforeAndAfterDeletes) {
  const auto [law, n, dim] = GetParam();
  const auto vectors = make_synthetic_vectors(law, n, 100, dim, 7);
  HnswIndex index = must_create(params_for(dim, n));
  for (size_t i = 0; i < n; ++i) ASSERT_TRUE(index.insert(i, vectors.vector(i)));
  EXPECT_GE(recall(index, vectors, everything), 0.95);

  // 30 % go, in no order that the graph knows.
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937_64(3));
  std::vector<bool> erased(n);
  for (size_t i = 0; i < n * 3 / 10; ++i) {
    erased[order[i]] = true;
    ASSERT_TRUE(index.erase(order[i]));
  }
  const auto alive = [&](size_t i) { return !erased[i]; };
  EXPECT_EQ(index.size(), n - n * 3 / 10);
  EXPECT_TRUE(index.needs_rebuild());
  EXPECT_GE(recall(index, vectors, alive), 0.95);
  while (!index.sweep(1000)) {
  }
  EXPECT_EQ(index.stats().tombstones, 0u);
  EXPECT_FALSE(index.needs_rebuild());
  EXPECT_GE(recall(index, vectors, alive), 0.95);
}

INSTANTIATE_TEST_SUITE_P(Grid, HnswRecall,
                         ::testing::Values(GridCase{VectorLaw::kClustered, 1000, 256},
                                           GridCase{VectorLaw::kSorted, 1000, 256},
                                           GridCase{VectorLaw::kClustered, 10'000, 64},
                                           GridCase{VectorLaw::kSorted, 10'000, 64},
                                           GridCase{VectorLaw::kClustered, 3000, 520}));

TEST(Hnsw, SimilaritiesAreCosinesAndScansAreExact) {
  const auto vectors = make_synthetic_vectors(VectorLaw::kUniform, 500, 20, 40, 1);
  HnswParams params = params_for(40, 500);
  HnswIndex index = must_create(params);
  for (size_t i = 0; i < 500; ++i) {
    std::vector<float> scaled(vectors.vector(i).begin(), vectors.vector(i).end());
    for (float& x : scaled) x *= static_cast<float>(i + 1) * 1e10f;  // only the direction counts
    ASSERT_TRUE(index.insert(i, scaled));
  }
  for (size_t q = 0; q < 20; ++q) {
    const auto hits = index.search_exact(vectors.query(q), 10).value();
    const auto expected = oracle(vectors, vectors.query(q), 10, everything);
    ASSERT_EQ(hits.size(), 10u);
    for (size_t i = 0; i < 10; ++i) {
      EXPECT_EQ(hits[i].id, expected[i]);
      double dot = 0;
      for (size_t d = 0; d < 40; ++d) {
        dot += static_cast<double>(vectors.query(q)[d]) * static_cast<double>(vectors.vector(expected[i])[d]);
      }
      EXPECT_NEAR(static_cast<double>(hits[i].similarity), dot, 1e-5);
    }
  }
}

TEST(Hnsw, SmallSetsAreScanned) {
  const auto vectors = make_synthetic_vectors(VectorLaw::kUniform, 300, 10, 32, 1);
  HnswParams params = params_for(32, 300);
  params.scan_crossover = 200;
  HnswIndex index = must_create(params);
  for (size_t i = 0; i < 200; ++i) ASSERT_TRUE(index.insert(i, vectors.vector(i)));
  ASSERT_TRUE(index.search(vectors.query(0), 10));
  EXPECT_EQ(index.stats().scans, 1u);
  ASSERT_TRUE(index.insert(200, vectors.vector(200)));
  ASSERT_TRUE(index.search(vectors.query(0), 10));
  EXPECT_EQ(index.stats().scans, 1u);
  EXPECT_GT(index.stats().hops, 0u);
}

// One tenant among many: never a vector of another, and enough of its own.
TEST(Hnsw, FilterNeverLeaks) {
  constexpr size_t kN = 6000;
  const auto vectors = make_synthetic_vectors(VectorLaw::kClustered, kN, 60, 32, 5);
  HnswIndex index = must_create(params_for(32, kN));
  // Group 1: a third.  Group 2: 60 vectors, below 2 %.  Group 3: the rest.
  const auto group_of = [](size_t i) -> uint32_t { return i % 100 == 0 ? 2 : i % 3 == 0 ? 1 : 3; };
  for (size_t i = 0; i < kN; ++i) ASSERT_TRUE(index.insert(i, vectors.vector(i), group_of(i)));
  for (const uint32_t group : {1u, 2u, 3u, 4u}) {
    const HnswFilter filter{group};
    const uint64_t scans_before = index.stats().scans;
    size_t n_right = 0, n_all = 0;
    for (size_t q = 0; q < vectors.n_queries(); ++q) {
      const auto hits = index.search(vectors.query(q), 10, 0, &filter).value();
      const auto exact =
          oracle(vectors, vectors.query(q), 10, [&](size_t i) { return group_of(i) == group; });
      ASSERT_EQ(hits.size(), exact.size());
      for (const HnswHit& hit : hits) {
        ASSERT_EQ(group_of(hit.id), group);
        n_right += static_cast<size_t>(std::count(exact.begin(), exact.end(), hit.id));
      }
      n_all += exact.size();
    }
    EXPECT_GE(static_cast<double>(n_right), 0.95 * static_cast<double>(n_all)) << "group " << group;
    const uint64_t n_scans = index.stats().scans - scans_before;
    EXPECT_EQ(n_scans, group == 2 || group == 4 ? vectors.n_queries() : 0u) << "group " << group;
  }
  // The count follows erasure.
  for (size_t i = 0; i < kN; ++i) {
    if (group_of(i) == 1) {
      ASSERT_TRUE(index.erase(i));
    }
  }
  const HnswFilter gone{1};
  EXPECT_TRUE(index.search(vectors.query(0), 10, 0, &gone).value().empty());
}

// A thousand times the same vector, in the middle of others: all that is near stays findable.
TEST(Hnsw, FloodOfEqualVectorsDoesNotDisconnect) {
  constexpr size_t kOthers = 3000, kFlood = 1500;
  const auto vectors = make_synthetic_vectors(VectorLaw::kClustered, kOthers, 100, 32, 9);
  HnswIndex index = must_create(params_for(32, kOthers + kFlood));
  for (size_t i = 0; i < kOthers / 2; ++i) ASSERT_TRUE(index.insert(i, vectors.vector(i)));
  for (size_t i = 0; i < kFlood; ++i) ASSERT_TRUE(index.insert(100'000 + i, vectors.vector(7)));
  for (size_t i = kOthers / 2; i < kOthers; ++i) ASSERT_TRUE(index.insert(i, vectors.vector(i)));
  // Queries whose nearest are not the flood itself find what an exact scan finds.
  size_t n_right = 0, n_all = 0;
  for (size_t i = 0; i < kOthers; i += 7) {
    const auto hits = index.search(vectors.vector(i), 10).value();
    const auto exact = index.search_exact(vectors.vector(i), 10).value();
    for (const HnswHit& hit : hits) n_right += hit.similarity >= exact.back().similarity ? 1 : 0;
    n_all += exact.size();
  }
  EXPECT_GE(static_cast<double>(n_right), 0.95 * static_cast<double>(n_all));
  // The flood is there, and nothing but the flood is as near as it.
  const auto hits = index.search(vectors.vector(7), 1000, 1024).value();
  EXPECT_EQ(hits.size(), 1000u);
  EXPECT_NEAR(hits.back().similarity, 1.0f, 1e-5f);
  // Only equal vectors: still one connected heap.
  HnswIndex same = must_create(params_for(32, 2000));
  for (size_t i = 0; i < 2000; ++i) ASSERT_TRUE(same.insert(i, vectors.vector(0)));
  EXPECT_EQ(same.search(vectors.vector(0), 10).value().size(), 10u);
}

TEST(Hnsw, ErasedSlotsAreReused) {
  constexpr size_t kN = 2000, kCapacity = 2200;
  const auto vectors = make_synthetic_vectors(VectorLaw::kClustered, 3 * kN, 50, 32, 4);
  HnswIndex index = must_create(params_for(32, kCapacity));
  for (size_t i = 0; i < kN; ++i) ASSERT_TRUE(index.insert(i, vectors.vector(i)));
  // Three times the capacity goes through, a window of kN vectors at a time.
  for (size_t i = kN; i < 3 * kN; ++i) {
    ASSERT_TRUE(index.erase(i - kN));
    if (i % 100 == 0) {
      while (!index.sweep(500)) {
      }
    }
    ASSERT_TRUE(index.insert(i, vectors.vector(i))) << i;
  }
  EXPECT_EQ(index.size(), kN);
  EXPECT_GE(recall(index, vectors, [](size_t i) { return i >= 2 * kN; }), 0.95);
  // All goes, all comes again.
  for (size_t i = 2 * kN; i < 3 * kN; ++i) ASSERT_TRUE(index.erase(i));
  EXPECT_EQ(index.size(), 0u);
  EXPECT_TRUE(index.search(vectors.query(0), 10).value().empty());
  while (!index.sweep(500)) {
  }
  for (size_t i = 0; i < kCapacity; ++i) ASSERT_TRUE(index.insert(i, vectors.vector(i)));
  EXPECT_EQ(index.insert(kCapacity, vectors.vector(0)).error().id, "index.full");
  EXPECT_GE(recall(index, vectors, [](size_t i) { return i < kCapacity; }), 0.95);
}

TEST(Hnsw, RebuildKeepsTheLiving) {
  constexpr size_t kN = 2000;
  const auto vectors = make_synthetic_vectors(VectorLaw::kSorted, kN, 50, 32, 4);
  HnswIndex index = must_create(params_for(32, kN));
  for (size_t i = 0; i < kN; ++i)
    ASSERT_TRUE(index.insert(i, vectors.vector(i), static_cast<uint32_t>(i % 2)));
  for (size_t i = 0; i < kN / 2; ++i) ASSERT_TRUE(index.erase(i));
  ASSERT_TRUE(index.needs_rebuild());
  HnswIndex fresh = std::move(*index.rebuild());
  index = std::move(fresh);
  EXPECT_FALSE(index.needs_rebuild());
  EXPECT_EQ(index.size(), kN / 2);
  EXPECT_GE(recall(index, vectors, [](size_t i) { return i >= kN / 2; }), 0.95);
  const HnswFilter odd{1};
  const auto hits = index.search(vectors.query(0), 10, 0, &odd).value();
  EXPECT_EQ(hits.size(), 10u);
  for (const HnswHit& hit : hits) EXPECT_EQ(hit.id % 2, 1u);
}

TEST(Hnsw, PendingVectorsAreFoundByScan) {
  constexpr size_t kN = 3000;
  const auto vectors = make_synthetic_vectors(VectorLaw::kClustered, kN + 1, 30, 32, 6);
  HnswIndex index = must_create(params_for(32, kN + 1));
  for (size_t i = 0; i < kN; ++i) ASSERT_TRUE(index.append(i, vectors.vector(i)));
  EXPECT_EQ(index.stats().pending, kN);
  EXPECT_EQ(index.save({}).error().id, "index.pending");
  EXPECT_EQ(recall(index, vectors, [](size_t i) { return i < kN; }), 1.0);
  ASSERT_TRUE(index.insert(kN, vectors.vector(kN)));  // waits its turn behind the others
  ASSERT_TRUE(index.erase(5));
  while (index.link_pending(700) > 0) {
  }
  EXPECT_EQ(index.stats().pending, 0u);
  const uint64_t scans = index.stats().scans;
  EXPECT_GE(recall(index, vectors, [](size_t i) { return i != 5; }), 0.95);
  EXPECT_EQ(index.stats().scans, scans);
}

TEST(Hnsw, SameCallsSameAnswersOnEveryIsa) {
  const auto vectors = make_synthetic_vectors(VectorLaw::kClustered, 1200, 40, 96, 3);
  const auto elsewhere = make_synthetic_vectors(VectorLaw::kUniform, 1, 40, 96, 4);
  std::vector<std::vector<uint8_t>> files;
  std::vector<std::vector<HnswHit>> answers;
  std::vector<uint64_t> second_looks;
  for (const std::string_view isa : supported_isas()) {
    auto index = HnswIndex::create(params_for(96, 1200), **kernel_table(isa));
    ASSERT_TRUE(index);
    for (size_t i = 0; i < 1200; ++i) ASSERT_TRUE(index->insert(i, vectors.vector(i)));
    for (size_t i = 0; i < 100; ++i) ASSERT_TRUE(index->erase(3 * i));
    files.push_back(index->save({}).value());
    std::vector<HnswHit> all;
    const auto ask = [&](const SyntheticVectors& from) {
      for (size_t q = 0; q < 40; ++q) {
        const auto hits = index->search(from.query(q), 10).value();
        all.insert(all.end(), hits.begin(), hits.end());
      }
    };
    ask(vectors);
    ask(elsewhere);
    second_looks.push_back(index->stats().second_looks);
    EXPECT_GE(second_looks.back(), 20u);
    answers.push_back(std::move(all));
  }
  for (size_t i = 1; i < files.size(); ++i) {
    EXPECT_EQ(files[i], files[0]) << supported_isas()[i];
    EXPECT_EQ(second_looks[i], second_looks[0]) << supported_isas()[i];
    for (size_t h = 0; h < answers[0].size(); ++h) {
      ASSERT_EQ(answers[i][h].id, answers[0][h].id);
      ASSERT_EQ(answers[i][h].similarity, answers[0][h].similarity);
    }
  }
}

// Probes move ef up from a beam that is too narrow, and down from one that is wider than needed.
TEST(Hnsw, AdaptiveEfFollowsRecall) {
  const auto vectors = make_synthetic_vectors(VectorLaw::kUniform, 1500, 64, 48, 8);
  HnswParams params = params_for(48, 1500);
  params.adaptive_ef = true;
  params.ef_search = 10;
  HnswIndex index = must_create(params);
  for (size_t i = 0; i < 1500; ++i) ASSERT_TRUE(index.insert(i, vectors.vector(i)));
  const auto run = [&](size_t n_queries) {
    for (size_t q = 0; q < n_queries; ++q) {
      ASSERT_TRUE(index.search(vectors.query(q * 37 % 64), 10));
      ASSERT_TRUE(index.probe());
    }
  };
  run(256 * 20);
  EXPECT_EQ(index.stats().probes, 20u);
  const int risen = index.stats().ef;
  EXPECT_GT(risen, 20);
  run(256 * 20);
  EXPECT_GE(index.stats().recall_probe, 0.9);

  params.ef_search = 1000;
  HnswIndex wide = must_create(params);
  for (size_t i = 0; i < 1500; ++i) ASSERT_TRUE(wide.insert(i, vectors.vector(i)));
  for (size_t q = 0; q < 256 * 5; ++q) {
    ASSERT_TRUE(wide.search(vectors.query(q % 64), 10));
    ASSERT_TRUE(wide.probe());
  }
  EXPECT_LT(wide.stats().ef, 1000);

  params.adaptive_ef = false;
  HnswIndex pinned = must_create(params);
  for (size_t i = 0; i < 200; ++i) ASSERT_TRUE(pinned.insert(i, vectors.vector(i)));
  for (size_t q = 0; q < 600; ++q) ASSERT_TRUE(pinned.search(vectors.query(q % 64), 10));
  EXPECT_FALSE(pinned.probe().value().has_value());
  EXPECT_EQ(pinned.stats().ef, 1000);
}

// Whole clusters go. Their queries stand outside of all clusters that are left, their neighbours are
// scattered over many of them: the index sees that and looks again, and only for them.
TEST(Hnsw, QueriesOutsideOfAllClustersAreLookedAtAgain) {
  constexpr size_t kN = 6000, kErased = kN * 3 / 10;
  const auto vectors = make_synthetic_vectors(VectorLaw::kSorted, kN, 200, 128, 11);
  HnswParams params = params_for(128, kN);
  params.m = 6;
  params.ef_construction = 40;
  params.ef_search = 16;
  HnswIndex index = must_create(params);
  for (size_t i = 0; i < kN; ++i) ASSERT_TRUE(index.insert(i, vectors.vector(i)));
  for (size_t i = 0; i < kErased; ++i) ASSERT_TRUE(index.erase(i));
  while (!index.sweep(1000)) {
  }
  const std::set<size_t> left(vectors.base_cluster.begin() + kErased, vectors.base_cluster.end());
  struct Queries {
    size_t n = 0, n_right = 0;
    uint64_t n_again = 0;
  } inside, outside;
  for (size_t q = 0; q < vectors.n_queries(); ++q) {
    Queries& queries = left.count(vectors.query_cluster[q]) != 0 ? inside : outside;
    const uint64_t before = index.stats().second_looks;
    const auto hits = index.search(vectors.query(q), 10).value();
    const auto exact = oracle(vectors, vectors.query(q), 10, [](size_t i) { return i >= kErased; });
    for (const HnswHit& hit : hits)
      queries.n_right += static_cast<size_t>(std::count(exact.begin(), exact.end(), hit.id));
    queries.n_again += index.stats().second_looks - before;
    ++queries.n;
  }
  ASSERT_GT(outside.n, 40u);
  ASSERT_GT(inside.n, 100u);
  EXPECT_GE(static_cast<double>(outside.n_right), 0.9 * 10 * static_cast<double>(outside.n));
  EXPECT_GE(static_cast<double>(inside.n_right), 0.95 * 10 * static_cast<double>(inside.n));
  EXPECT_GE(outside.n_again * 10, outside.n * 9);
  EXPECT_LE(inside.n_again * 20, inside.n);
}

TEST(Hnsw, StatsCountMemoryAndLinks) {
  const auto vectors = make_synthetic_vectors(VectorLaw::kClustered, 4000, 1, 256, 2);
  HnswIndex index = must_create(params_for(256, 4000));
  for (size_t i = 0; i < 4000; ++i) ASSERT_TRUE(index.insert(i, vectors.vector(i)));
  const HnswStats stats = index.stats();
  EXPECT_EQ(stats.elements, 4000u);
  // d = 256, M = 16: a record of 448 B, of which 128 are links.
  EXPECT_EQ(stats.code_bytes, 4000u * 320);
  EXPECT_EQ(stats.vector_bytes, 4000u * 1024);
  // Upper layers: 4 (M + 1) / (M - 1) B per node on average, and 4 B to find them.
  const double upper = static_cast<double>(stats.link_bytes) / 4000 - 128 - 4;
  EXPECT_NEAR(upper, 4.0 * 17 / 15, 1.0);
  EXPECT_GT(stats.links, 4000u * 10);
  EXPECT_LE(stats.links, 4000u * 34);
}

TEST(Hnsw, BadInputIsAnError) {
  HnswIndex index = must_create(params_for(16, 10));
  std::vector<float> vector(16, 1.0f);
  ASSERT_TRUE(index.insert(1, vector));
  EXPECT_EQ(index.insert(1, vector).error().id, "index.duplicate_id");
  EXPECT_EQ(index.erase(2).error().id, "index.not_found");
  const auto refuses = [&](const std::vector<float>& bad, std::string_view id) {
    EXPECT_EQ(index.insert(9, bad).error().id, id);
    EXPECT_EQ(index.append(9, bad).error().id, id);
    EXPECT_EQ(index.search(bad, 1).error().id, id);
    EXPECT_EQ(index.search_exact(bad, 1).error().id, id);
  };
  refuses(std::vector<float>(15, 1.0f), "index.dim");
  refuses(std::vector<float>(17, 1.0f), "index.dim");
  refuses(std::vector<float>(16, 0.0f), "index.zero_norm");
  refuses(std::vector<float>(16, 1e-38f), "index.zero_norm");
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    auto broken = vector;
    broken[15] = -bad;
    refuses(broken, "index.not_finite");
  }
  // The extremes of f32 have a direction.
  ASSERT_TRUE(index.insert(3, std::vector<float>(16, std::numeric_limits<float>::max())));
  ASSERT_TRUE(index.insert(4, std::vector<float>(16, -1e-29f)));
  EXPECT_NEAR(index.search(vector, 3).value().back().similarity, -1.0f, 1e-5f);
  EXPECT_EQ(index.search(vector, 0).error().id, "index.k");
  EXPECT_EQ(index.search(vector, 1025).error().id, "index.k");
  EXPECT_EQ(index.search(vector, 10, 9).error().id, "index.ef");
  EXPECT_EQ(index.search(vector, 10, 1025).error().id, "index.ef");
  EXPECT_EQ(index.search(vector, 1024, 0).value().size(), 3u);
  EXPECT_EQ(index.size(), 3u);

  const auto bad_params = [](auto change) {
    HnswParams params;
    params.dim = 64;
    change(params);
    const auto made = HnswIndex::create(params, best_kernels());
    return made ? "none" : std::string(made.error().id);
  };
  EXPECT_EQ(bad_params([](HnswParams& p) { p.capacity = 100; }), "none");
  EXPECT_EQ(bad_params([](HnswParams& p) { p.dim = 7; }), "index.params");
  EXPECT_EQ(bad_params([](HnswParams& p) { p.dim = 4097; }), "index.params");
  EXPECT_EQ(bad_params([](HnswParams& p) { p.m = 3; }), "index.params");
  EXPECT_EQ(bad_params([](HnswParams& p) { p.m = 65; }), "index.params");
  EXPECT_EQ(bad_params([](HnswParams& p) { p.ef_construction = 15; }), "index.params");
  EXPECT_EQ(bad_params([](HnswParams& p) { p.ef_search = 0; }), "index.params");
  EXPECT_EQ(bad_params([](HnswParams& p) { p.capacity = 0; }), "index.params");
}

}  // namespace
}  // namespace ruvltra
