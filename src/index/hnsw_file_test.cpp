// Index files: what is saved comes back, and no damaged, truncated or stale file is believed.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "index/file_damage.h"
#include "index/hnsw.h"
#include "index/synthetic_vectors.h"
#include "kernels/dispatch.h"

namespace ruvltra {
namespace {

const KernelTable& kernels() { return **kernel_table(); }

HnswSource source_at(uint64_t sequence) {
  HnswSource source;
  source.space.fill(7);
  source.sequence = sequence;
  source.set_checksum = 0xabcdef;
  return source;
}

struct Fixture {
  HnswParams params;
  SyntheticVectors vectors = make_synthetic_vectors(VectorLaw::kClustered, 750, 40, 72, 3);
  HnswIndex index = make();

  HnswIndex make() {
    params.dim = 72;
    params.capacity = 2000;
    params.scan_crossover = 0;
    HnswIndex made = std::move(*HnswIndex::create(params, kernels()));
    for (size_t i = 0; i < 600; ++i) {
      EXPECT_TRUE(made.insert(i, vectors.vector(i), static_cast<uint32_t>(i % 3)));
    }
    for (size_t i = 0; i < 100; ++i) EXPECT_TRUE(made.erase(5 * i));
    while (!made.sweep(500)) {
    }
    for (size_t i = 0; i < 50; ++i) EXPECT_TRUE(made.erase(5 * i + 1));
    return made;
  }
};

void expect_same_answers(const HnswIndex& a, const HnswIndex& b, const SyntheticVectors& vectors) {
  for (size_t q = 0; q < vectors.n_queries(); ++q) {
    const HnswFilter filter{static_cast<uint32_t>(q % 4)};
    const HnswFilter* use = filter.group == 3 ? nullptr : &filter;
    const auto of_a = a.search(vectors.query(q), 10, 0, use).value();
    const auto of_b = b.search(vectors.query(q), 10, 0, use).value();
    ASSERT_EQ(of_a.size(), of_b.size());
    for (size_t i = 0; i < of_a.size(); ++i) {
      ASSERT_EQ(of_a[i].id, of_b[i].id);
      ASSERT_EQ(of_a[i].similarity, of_b[i].similarity);
    }
  }
}

TEST(HnswFile, ComesBackTheSame) {
  Fixture f;
  const auto path = std::filesystem::path(::testing::TempDir()) / fmt::format("hnsw_{}.rvc", getpid());
  ASSERT_TRUE(f.index.save_file(path, source_at(9)));
  const auto bytes = read_file(path, uint64_t{1} << 30).value();
  std::filesystem::remove(path);
  EXPECT_EQ(bytes, f.index.save(source_at(9)).value());
  auto loaded = HnswIndex::load(bytes, path.string(), f.params, kernels(), source_at(9));
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->source, source_at(9));
  HnswIndex& copy = loaded->index;
  EXPECT_EQ(copy.size(), f.index.size());
  EXPECT_EQ(copy.stats().tombstones, 50u);
  EXPECT_EQ(copy.stats().links, f.index.stats().links);
  expect_same_answers(f.index, copy, f.vectors);
  EXPECT_EQ(copy.save(source_at(9)).value(), bytes);
  // It goes on living: free slots are filled, tombstones swept, ids known.
  EXPECT_EQ(copy.insert(2, f.vectors.vector(2)).error().id, "index.duplicate_id");
  for (size_t i = 600; i < 750; ++i) ASSERT_TRUE(copy.insert(i, f.vectors.vector(i)));
  while (!copy.sweep(500)) {
  }
  EXPECT_EQ(copy.stats().tombstones, 0u);
  EXPECT_EQ(copy.size(), 450u + 150u);
}

TEST(HnswFile, EmptyIndex) {
  HnswParams params;
  params.dim = 8;
  params.capacity = 4;
  HnswIndex index = std::move(*HnswIndex::create(params, kernels()));
  const std::vector<float> vector(8, 1.0f);
  for (int round = 0; round < 3; ++round) {
    const auto bytes = index.save({}).value();
    auto loaded = HnswIndex::load(bytes, "empty", params, kernels(), {});
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->index.size(), 0u);
    ASSERT_TRUE(loaded->index.insert(1, vector));
    if (round == 0) {
      ASSERT_TRUE(index.insert(1, vector));
      ASSERT_TRUE(index.erase(1));
    }
    if (round == 1) index.sweep(10);
  }
}

TEST(HnswFile, OnlyOfTheDatabaseAsItIs) {
  Fixture f;
  const auto bytes = f.index.save(source_at(9)).value();
  const auto error = [&](const HnswParams& params, const HnswSource& expect) {
    const auto loaded = HnswIndex::load(bytes, "file", params, kernels(), expect);
    return loaded ? "none" : std::string(loaded.error().id);
  };
  HnswSource expect = source_at(9);
  EXPECT_EQ(error(f.params, expect), "none");
  expect.set_checksum ^= 1;
  EXPECT_EQ(error(f.params, expect), "index.file_stale");
  EXPECT_EQ(error(f.params, source_at(8)), "index.file_stale");  // rows that the database no longer has
  expect.sequence = 10;  // behind: the owner replays row 10 and compares the checksum then
  EXPECT_EQ(error(f.params, expect), "none");
  expect.space[31] ^= 1;
  EXPECT_EQ(error(f.params, expect), "index.file_space");
  for (auto change : {+[](HnswParams& p) { p.dim = 64; }, +[](HnswParams& p) { p.m = 8; },
                      +[](HnswParams& p) { p.ef_construction = 100; }, +[](HnswParams& p) { p.seed = 2; }}) {
    HnswParams other = f.params;
    change(other);
    EXPECT_EQ(error(other, source_at(9)), "index.file_params");
  }
  HnswParams small = f.params;
  small.capacity = 500;
  EXPECT_EQ(error(small, source_at(9)), "index.file_count");
  HnswParams other = f.params;
  other.ef_search = 100;
  other.capacity = 1'000'000;
  EXPECT_EQ(error(other, source_at(9)), "none");
}

// Full runs: RUVLTRA_DAMAGED_FILES=100000 (or `ruvltra eval hnsw-file`).
TEST(HnswFile, DamageIsDetected) {
  const char* text = std::getenv("RUVLTRA_DAMAGED_FILES");
  const uint64_t count = text != nullptr ? std::strtoull(text, nullptr, 10) : 3000;
  const auto report = damage_index_files(count, 1, kernels());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->n_files, count);
  EXPECT_EQ(report->n_detected, count);
  for (const auto& [kind, n] : report->missed) ADD_FAILURE() << kind << ": " << n << " files believed";
  // Not all by the hash of the file: each check of the structure has its cases.
  for (const char* id :
       {"container.truncated", "container.length", "container.header_hash", "container.section_hash",
        "index.file_stale", "index.file_space", "index.file_link", "index.file_degree", "container.count",
        "index.file_level", "index.file_state", "index.file_entry", "index.file_params", "index.file_count",
        "index.file_vector", "container.not_finite"}) {
    EXPECT_GT(report->by_reason.count(id), 0u) << id;
  }
}

}  // namespace
}  // namespace ruvltra
