// The index on what it is for, hidden states of a model, beside an exact scan and beside hnswlib, the library
// of the algorithm's authors, at the same parameters.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "index/hnsw.h"
#include "index/synthetic_vectors.h"
#include "kernels/dispatch.h"
#include "ruvltra/model.h"

#if __has_include(<hnswlib/hnswlib.h>)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <hnswlib/hnswlib.h>
#pragma GCC diagnostic pop
#define HAVE_HNSWLIB 1
#endif

namespace ruvltra {
namespace {

constexpr int kK = 10;
constexpr int kEfs[] = {10, 32, 64};

// Full runs: RUVLTRA_SENTENCES=10000.
size_t most_sentences() {
  const char* text = std::getenv("RUVLTRA_SENTENCES");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1500;
}

std::vector<std::string> sentences(size_t most) {
  std::ifstream file(std::string(RUVLTRA_SOURCE_DIR) + "/tests/golden/heldout.txt");
  std::stringstream content;
  content << file.rdbuf();
  const std::string text = content.str();
  std::vector<std::string> out;
  std::string sentence;
  for (const char c : text) {
    sentence += c == '\n' ? ' ' : c;
    if (c != '.' && c != '!' && c != '?') continue;
    if (sentence.size() >= 25 && out.size() < most) out.push_back(sentence);
    sentence.clear();
  }
  return out;
}

double norm(std::span<const float> vector) {
  double squared = 0;
  for (const float x : vector) squared += static_cast<double>(x) * static_cast<double>(x);
  return std::sqrt(squared);
}

double cosine(std::span<const float> a, std::span<const float> b) {
  double dot = 0;
  for (size_t i = 0; i < a.size(); ++i) dot += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return dot / (norm(a) * norm(b));
}

// ids of the nearest, in double precision.
std::set<uint64_t> exact(std::span<const std::vector<float>> base, std::span<const float> query) {
  std::vector<std::pair<double, uint64_t>> all;
  for (size_t i = 0; i < base.size(); ++i) all.emplace_back(-cosine(base[i], query), i);
  std::partial_sort(all.begin(), all.begin() + kK, all.end());
  std::set<uint64_t> ids;
  for (int i = 0; i < kK; ++i) ids.insert(all[static_cast<size_t>(i)].second);
  return ids;
}

using Recalls = std::array<double, std::size(kEfs)>;

Recalls our_recall(std::span<const std::vector<float>> base, std::span<const std::vector<float>> queries) {
  HnswParams params;
  params.dim = static_cast<int>(base[0].size());
  params.capacity = base.size();
  params.scan_crossover = 0;
  auto index = HnswIndex::create(params, **kernel_table());
  EXPECT_TRUE(index);
  for (size_t i = 0; i < base.size(); ++i) EXPECT_TRUE(index->insert(i, base[i]));
  Recalls recalls{};
  for (const auto& query : queries) {
    const auto ids = exact(base, query);
    for (size_t e = 0; e < std::size(kEfs); ++e) {
      const auto hits = index->search(query, kK, kEfs[e]).value();
      for (const HnswHit& hit : hits) {
        recalls[e] += static_cast<double>(ids.count(hit.id)) / static_cast<double>(queries.size() * kK);
        EXPECT_NEAR(static_cast<double>(hit.similarity), cosine(base[hit.id], query), 1e-5);
      }
    }
  }
  return recalls;
}

#ifdef HAVE_HNSWLIB
Recalls their_recall(std::span<const std::vector<float>> base, std::span<const std::vector<float>> queries) {
  hnswlib::InnerProductSpace space(base[0].size());
  hnswlib::HierarchicalNSW<float> index(&space, base.size(), 16, 200, 100);
  const auto normalised = [](std::vector<float> vector) {
    const auto length = static_cast<float>(norm(vector));
    for (float& x : vector) x /= length;
    return vector;
  };
  for (size_t i = 0; i < base.size(); ++i) index.addPoint(normalised(base[i]).data(), i);
  Recalls recalls{};
  for (const auto& query : queries) {
    const auto ids = exact(base, query);
    const auto unit = normalised(query);
    for (size_t e = 0; e < std::size(kEfs); ++e) {
      index.setEf(static_cast<size_t>(kEfs[e]));
      for (auto found = index.searchKnn(unit.data(), kK); !found.empty(); found.pop()) {
        recalls[e] +=
            static_cast<double>(ids.count(found.top().second)) / static_cast<double>(queries.size() * kK);
      }
    }
  }
  return recalls;
}
#endif

void compare(std::span<const std::vector<float>> base, std::span<const std::vector<float>> queries) {
  const Recalls ours = our_recall(base, queries);
  EXPECT_GE(ours.back(), 0.95);  // ef 64, the default
#ifdef HAVE_HNSWLIB
  const Recalls theirs = their_recall(base, queries);
  for (size_t e = 0; e < std::size(kEfs); ++e) {
    EXPECT_GE(ours[e], theirs[e] - 0.02) << "ef " << kEfs[e];
    std::cout << "ef " << kEfs[e] << ": recall@10 " << ours[e] << ", hnswlib " << theirs[e] << "\n";
  }
#else
  GTEST_SKIP() << "hnswlib (package libhnswlib-dev) is not installed: compared with the exact scan only";
#endif
}

TEST(HnswHiddenStates, RecallOnNano) {
  auto model = MediumModel::load(std::string(RUVLTRA_SOURCE_DIR) + "/models/nano-f16.gguf");
  ASSERT_TRUE(model) << model.error().message;
  std::vector<std::vector<float>> vectors;
  for (const std::string& sentence : sentences(most_sentences())) {
    auto vector = model->embed(sentence);
    ASSERT_TRUE(vector) << vector.error().message;
    vectors.push_back(std::move(*vector));
  }
  ASSERT_GT(vectors.size(), 500u);
  const size_t n_queries = 100;
  const size_t n = vectors.size() - n_queries;
  compare(std::span(vectors).first(n), std::span(vectors).subspan(n));
}

TEST(HnswHiddenStates, RecallBesideHnswlibOnClusters) {
  const auto synthetic = make_synthetic_vectors(VectorLaw::kSorted, 3000, 100, 128, 5);
  std::vector<std::vector<float>> base, queries;
  for (size_t i = 0; i < synthetic.size(); ++i) {
    base.emplace_back(synthetic.vector(i).begin(), synthetic.vector(i).end());
  }
  for (size_t i = 0; i < synthetic.n_queries(); ++i) {
    queries.emplace_back(synthetic.query(i).begin(), synthetic.query(i).end());
  }
  compare(base, queries);
}

}  // namespace
}  // namespace ruvltra
