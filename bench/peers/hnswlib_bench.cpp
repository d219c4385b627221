// hnswlib (Malkov and Yashunin's own library) beside the HNSW index of this project: the same vectors, the
// same M and ef_construction, one thread, both in one process, ef after ef in turn (A B A B). A peer of the
// bench only: the product does not contain it.
//
//   hnswlib_bench N,DIM [--data clustered|sorted|uniform] [--m M] [--ef-construction E] [--queries Q]
//   [--rounds R]
//                 [--deletes PERCENT] [--seed S] [--json]
#include <fmt/format.h>
#include <hnswlib/hnswlib.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "index/hnsw.h"
#include "index/synthetic_vectors.h"
#include "kernels/dispatch.h"

namespace {

using namespace ruvltra;

constexpr int kK = 10;
constexpr int kEfs[] = {10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};

struct Options {
  size_t n = 10'000, dim = 256, n_queries = 1000;
  int m = 16, ef_construction = 200, rounds = 3, deletes = 0;
  uint64_t seed = 1;
  VectorLaw law = VectorLaw::kClustered;
  std::string data = "clustered";
  bool json = false;
};

// CPU time of this thread: on a shared machine the time of others is not ours.
double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
double seconds_since(double begin) { return cpu_seconds() - begin; }

struct Point {
  int ef;
  double recall, qps;
};

// QPS where the recall curve crosses `wanted`, linear between two neighbouring points; `at_least` if even the
// smallest ef lies above.
struct Crossing {
  double qps = 0;
  bool at_least = false;
};
Crossing crossing(const std::vector<Point>& points, double wanted) {
  if (points.front().recall >= wanted) return {points.front().qps, true};
  for (size_t i = 1; i < points.size(); ++i) {
    const Point &low = points[i - 1], &high = points[i];
    if (high.recall < wanted) continue;
    const double share = (wanted - low.recall) / (high.recall - low.recall);
    return {low.qps + share * (high.qps - low.qps), false};
  }
  return {};
}

std::vector<std::unordered_set<uint64_t>> exact_answers(const SyntheticVectors& vectors, size_t first_live,
                                                        const KernelTable& table) {
  std::vector<std::unordered_set<uint64_t>> answers(vectors.n_queries());
  for (size_t q = 0; q < answers.size(); ++q) {
    std::vector<std::pair<float, size_t>> all;
    for (size_t i = first_live; i < vectors.size(); ++i) {
      all.emplace_back(-table.vectors.dot_f32(vectors.query(q).data(), vectors.vector(i).data(), vectors.dim),
                       i);
    }
    std::partial_sort(all.begin(), all.begin() + kK, all.end());
    for (int i = 0; i < kK; ++i) answers[q].insert(all[static_cast<size_t>(i)].second);
  }
  return answers;
}

bool parse(int argc, char** argv, Options& options) {
  if (argc < 2 || std::sscanf(argv[1], "%zu,%zu", &options.n, &options.dim) != 2) return false;
  for (int i = 2; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--json") {
      options.json = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const char* value = argv[++i];
    if (flag == "--data") {
      const auto law = vector_law(value);
      if (!law) return false;
      options.law = *law;
      options.data = value;
    } else if (flag == "--m") {
      options.m = std::atoi(value);
    } else if (flag == "--ef-construction") {
      options.ef_construction = std::atoi(value);
    } else if (flag == "--queries") {
      options.n_queries = std::strtoull(value, nullptr, 10);
    } else if (flag == "--rounds") {
      options.rounds = std::atoi(value);
    } else if (flag == "--deletes") {
      options.deletes = std::atoi(value);
    } else if (flag == "--seed") {
      options.seed = std::strtoull(value, nullptr, 10);
    } else {
      return false;
    }
  }
  return options.dim % kVectorBlock == 0 && options.n >= 100 && options.rounds > 0 && options.n_queries > 0 &&
         options.deletes >= 0 && options.deletes <= 90;
}

void print(const Options& options, const std::vector<Point>& ours, const std::vector<Point>& theirs,
           double our_build, double their_build, const HnswStats& stats) {
  const std::string header =
      fmt::format("n {}, dim {}, {}, M {}, ef_construction {}, {} % deleted", options.n, options.dim,
                  options.data, options.m, options.ef_construction, options.deletes);
  if (options.json) {
    fmt::print(
        "{{\"n\":{},\"dim\":{},\"data\":\"{}\",\"m\":{},\"ef_construction\":{},\"deletes\":{},\"seed\":{},"
        "\"build_seconds\":{:.2f},\"hnswlib_build_seconds\":{:.2f},\"points\":[",
        options.n, options.dim, options.data, options.m, options.ef_construction, options.deletes,
        options.seed, our_build, their_build);
    for (size_t i = 0; i < ours.size(); ++i) {
      fmt::print(
          "{}{{\"ef\":{},\"recall\":{:.4f},\"qps\":{:.1f},\"hnswlib_recall\":{:.4f},\"hnswlib_qps\":{:.1f}}}",
          i == 0 ? "" : ",", ours[i].ef, ours[i].recall, ours[i].qps, theirs[i].recall, theirs[i].qps);
    }
    fmt::print("],\"at\":[");
  } else {
    fmt::print("{}\nbuild: ruvltra {:.1f} s, hnswlib {:.1f} s, one thread each; CPU time of the thread\n\n",
               header, our_build, their_build);
    fmt::print("| ef | recall@10 | QPS | hnswlib recall@10 | hnswlib QPS |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < ours.size(); ++i) {
      fmt::print("| {} | {:.4f} | {:.0f} | {:.4f} | {:.0f} |\n", ours[i].ef, ours[i].recall, ours[i].qps,
                 theirs[i].recall, theirs[i].qps);
    }
    fmt::print("\n| recall@10 | QPS | hnswlib QPS | ratio |\n|---|---|---|---|\n");
  }
  for (const double wanted : {0.95, 0.99}) {
    const Crossing mine = crossing(ours, wanted), other = crossing(theirs, wanted);
    const double ratio = other.qps > 0 ? mine.qps / other.qps : 0;
    if (options.json) {
      fmt::print(
          "{}{{\"recall\":{},\"qps\":{:.1f},\"at_least\":{},\"hnswlib_qps\":{:.1f},\"hnswlib_at_least\":{},"
          "\"ratio\":{:.3f}}}",
          wanted == 0.95 ? "" : ",", wanted, mine.qps, mine.at_least, other.qps, other.at_least, ratio);
    } else if (mine.qps == 0 || other.qps == 0) {
      fmt::print("| {} | {} | {} | not reached by both |\n", wanted, mine.qps, other.qps);
    } else {
      fmt::print("| {} | {}{:.0f} | {}{:.0f} | {:.2f} |\n", wanted, mine.at_least ? ">= " : "", mine.qps,
                 other.at_least ? ">= " : "", other.qps, ratio);
    }
  }
  if (options.json) {
    fmt::print("]}}\n");
  } else {
    fmt::print("\nlinks per node {:.1f}; per search {:.0f} int8 products, {:.1f} f32 products, {:.0f} hops\n",
               static_cast<double>(stats.links) / static_cast<double>(stats.elements),
               static_cast<double>(stats.distance_evals) / static_cast<double>(stats.searches),
               static_cast<double>(stats.reranks) / static_cast<double>(stats.searches),
               static_cast<double>(stats.hops) / static_cast<double>(stats.searches));
  }
}

int run(const Options& options) {
  const KernelTable& table = **kernel_table();
  const SyntheticVectors vectors =
      make_synthetic_vectors(options.law, options.n, options.n_queries, options.dim, options.seed);
  HnswParams params;
  params.dim = static_cast<int>(options.dim);
  params.m = options.m;
  params.ef_construction = options.ef_construction;
  params.capacity = options.n;
  params.scan_crossover = 0;
  auto index = HnswIndex::create(params, table);
  if (!index) {
    fmt::print(stderr, "{}\n", index.error().message);
    return 1;
  }
  hnswlib::InnerProductSpace space(options.dim);
  hnswlib::HierarchicalNSW<float> peer(&space, options.n, static_cast<size_t>(options.m),
                                       static_cast<size_t>(options.ef_construction), 100);
  // Built in slices in turn, so that a busy machine is busy for both.
  const size_t slice = std::max<size_t>(1, options.n / 20);
  double our_build = 0, their_build = 0;
  for (size_t begin = 0; begin < options.n; begin += slice) {
    const size_t end = std::min(options.n, begin + slice);
    auto start = cpu_seconds();
    for (size_t i = begin; i < end; ++i) {
      if (auto ok = index->insert(i, vectors.vector(i)); !ok) {
        fmt::print(stderr, "{}\n", ok.error().message);
        return 1;
      }
    }
    our_build += seconds_since(start);
    start = cpu_seconds();
    for (size_t i = begin; i < end; ++i) peer.addPoint(vectors.vector(i).data(), i);
    their_build += seconds_since(start);
  }
  // The first vectors go: with sorted data whole clusters, with clustered data some of each.
  const size_t n_deleted = options.n * static_cast<size_t>(options.deletes) / 100;
  for (size_t i = 0; i < n_deleted; ++i) {
    if (!index->erase(i)) return 1;
    peer.markDelete(i);
  }
  while (!index->sweep(options.n)) {
  }
  const auto answers = exact_answers(vectors, n_deleted, table);

  // A round that is not measured: memory, pools and caches are as in the middle of a long run.
  for (size_t q = 0; q < options.n_queries; ++q) {
    if (!index->search(vectors.query(q), kK, 64)) return 1;
    peer.setEf(64);
    peer.searchKnn(vectors.query(q).data(), kK);
  }
  std::vector<Point> ours, theirs;
  for (const int ef : kEfs) {
    double our_seconds = 0, their_seconds = 0;
    size_t our_hits = 0, their_hits = 0;
    peer.setEf(static_cast<size_t>(ef));
    for (int round = 0; round < options.rounds; ++round) {
      auto start = cpu_seconds();
      for (size_t q = 0; q < options.n_queries; ++q) {
        const auto hits = index->search(vectors.query(q), kK, ef);
        for (const HnswHit& hit : *hits) our_hits += answers[q].count(hit.id);
      }
      our_seconds += seconds_since(start);
      start = cpu_seconds();
      for (size_t q = 0; q < options.n_queries; ++q) {
        auto found = peer.searchKnn(vectors.query(q).data(), kK);
        for (; !found.empty(); found.pop()) their_hits += answers[q].count(found.top().second);
      }
      their_seconds += seconds_since(start);
    }
    const double n = static_cast<double>(options.n_queries) * options.rounds;
    ours.push_back({ef, static_cast<double>(our_hits) / (n * kK), n / our_seconds});
    theirs.push_back({ef, static_cast<double>(their_hits) / (n * kK), n / their_seconds});
  }
  print(options, ours, theirs, our_build, their_build, index->stats());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    fmt::print(
        stderr,
        "usage: {} N,DIM [--data clustered|sorted|uniform] [--m M] [--ef-construction E] [--queries Q] "
        "[--rounds R] [--deletes PERCENT] [--seed S] [--json]   (DIM a multiple of {})\n",
        argv[0], kVectorBlock);
    return 2;
  }
  return run(options);
}
