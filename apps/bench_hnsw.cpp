#include "bench_hnsw.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <optional>
#include <unordered_set>

#include "base/fail.h"
#include "base/json.h"
#include "bench_run.h"
#include "console.h"
#include "index/hnsw.h"
#include "index/synthetic_vectors.h"
#include "kernels/dispatch.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr int kK = 10;
constexpr size_t kTile = 32;  // rows, or queries, that a blocked scan keeps at hand
using Answers = std::vector<std::unordered_set<uint64_t>>;

// CPU time of this thread: on a shared machine the time of others is not ours.
double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
double seconds_since(double begin) { return cpu_seconds() - begin; }

// The nearest kK so far, worst first.
class Nearest {
 public:
  void offer(float similarity, uint64_t id) {
    if (heap_.size() == kK) {
      if (similarity <= heap_.front().first) return;
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      heap_.back() = {similarity, id};
    } else {
      heap_.emplace_back(similarity, id);
    }
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  std::unordered_set<uint64_t> ids() const {
    std::unordered_set<uint64_t> ids;
    for (const auto& [similarity, id] : heap_) ids.insert(id);
    return ids;
  }

 private:
  std::vector<std::pair<float, uint64_t>> heap_;
};

// What anyone writes first: one loop, one sum.
float plain_dot(const float* a, const float* b, size_t n) {
  float sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

struct Scan {
  std::string name;
  double qps = 0;
};

class HnswBench {
 public:
  HnswBench(const HnswBenchOptions& options, size_t n, size_t dim, const KernelTable& kernels)
      : options_(options), kernels_(kernels), n_deleted_(n * static_cast<size_t>(options.deletes) / 100) {
    vectors_ = make_synthetic_vectors(*vector_law(options.data), n, static_cast<size_t>(options.n_queries),
                                      dim, options.seed);
  }

  Result<int> run() {
    RETURN_IF_ERROR(build());
    RETURN_IF_ERROR(measure_scans());
    RETURN_IF_ERROR(measure_searches());
    options_.form == "json" ? print_json() : print_tables();
    return kExitOk;
  }

 private:
  struct Window {
    size_t begin, end;
    double microseconds;  // per insertion
  };
  struct Point {
    int ef;
    double recall, qps, evals, reranks, hops;
    double recall_gone;   // of the queries whose whole cluster was erased
    double looked_again;  // share of all queries
  };
  struct Fit {
    double a = 0, b = 0, r2 = 0;
  };

  static Result<void> check_stop() {
    if (!stop_requested()) return {};
    return fail(ErrorKind::kCancelled, "bench.cancelled", "bench: stopped on request");
  }

  Result<void> build() {
    HnswParams params;
    params.dim = static_cast<int>(vectors_.dim);
    params.m = options_.m;
    params.ef_construction = options_.ef_construction;
    params.capacity = vectors_.size();
    params.scan_crossover = 0;  // the graph is what is measured
    const uint64_t before = resident_memory();
    ASSIGN_OR_RETURN(HnswIndex index, HnswIndex::create(params, kernels_));
    index_.emplace(std::move(index));
    ProgressBar bar("inserting", ProgressBar::Unit::kItems, !options_.no_progress);
    // Windows that grow with the index: each a third more than the one before.
    for (size_t begin = 0; begin < vectors_.size();) {
      const size_t end =
          std::min(vectors_.size(), begin < 750 ? 1000 : begin + std::max<size_t>(begin / 3, 1));
      const auto start = cpu_seconds();
      for (size_t i = begin; i < end; ++i) {
        RETURN_IF_ERROR(index_->insert(i, vectors_.vector(i)));
        if (i % 256 == 0) {
          bar.update(i, vectors_.size());
          RETURN_IF_ERROR(check_stop());
        }
      }
      const double seconds = seconds_since(start);
      build_seconds_ += seconds;
      windows_.push_back({begin, end, 1e6 * seconds / static_cast<double>(end - begin)});
      begin = end;
    }
    resident_ = resident_memory() - before;
    stats_ = index_->stats();
    const auto start = cpu_seconds();
    for (size_t i = 0; i < n_deleted_; ++i) RETURN_IF_ERROR(index_->erase(i));
    while (!index_->sweep(1000)) RETURN_IF_ERROR(check_stop());
    delete_seconds_ = seconds_since(start);
    return {};
  }

  // Time per insertion = a + b ln(n), least squares over the windows after the first 1000.
  Fit fit() const {
    std::vector<std::pair<double, double>> points;
    for (const Window& window : windows_) {
      if (window.begin >= 1000) {
        points.emplace_back(std::log(0.5 * static_cast<double>(window.begin + window.end)),
                            window.microseconds);
      }
    }
    Fit out;
    if (points.size() < 3) return out;
    double mean_x = 0, mean_y = 0;
    for (const auto& [x, y] : points) mean_x += x, mean_y += y;
    mean_x /= static_cast<double>(points.size());
    mean_y /= static_cast<double>(points.size());
    double xx = 0, xy = 0, yy = 0;
    for (const auto& [x, y] : points) {
      xx += (x - mean_x) * (x - mean_x);
      xy += (x - mean_x) * (y - mean_y);
      yy += (y - mean_y) * (y - mean_y);
    }
    out.b = xy / xx;
    out.a = mean_y - out.b * mean_x;
    out.r2 = xy * xy / (xx * yy);
    return out;
  }

  // Runs `scan(first query, end)` over as many queries as fit about a second; returns queries per second.
  template <class ScanFn>
  Result<double> rate(size_t step, ScanFn scan) {
    const auto start = cpu_seconds();
    size_t n_done = 0;
    while (n_done == 0 || (seconds_since(start) < 1 && n_done < vectors_.n_queries())) {
      const size_t end = std::min(vectors_.n_queries(), n_done + step);
      scan(n_done, end);
      n_done = end;
      RETURN_IF_ERROR(check_stop());
    }
    return static_cast<double>(n_done) / seconds_since(start);
  }

  static void scan_rows(const KernelTable& table, const SyntheticVectors& vectors, size_t query, size_t begin,
                        size_t end, Nearest& nearest) {
    const float* rows[kTile];
    float dots[kTile];
    for (size_t i = begin; i < end; ++i) rows[i - begin] = vectors.vector(i).data();
    table.vectors.dot_f32_rows(vectors.query(query).data(), rows, end - begin, vectors.dim, dots);
    for (size_t i = begin; i < end; ++i) nearest.offer(dots[i - begin], i);
  }

  Result<void> measure_scans() {
    const auto add = [&](std::string name, Result<double> qps) -> Result<void> {
      ASSIGN_OR_RETURN(const double value, std::move(qps));
      scans_.push_back({std::move(name), value});
      return {};
    };
    RETURN_IF_ERROR(add(
        "scalar loop, one query", rate(1, [&](size_t q, size_t) {
          Nearest nearest;
          for (size_t i = n_deleted_; i < vectors_.size(); ++i) {
            nearest.offer(plain_dot(vectors_.query(q).data(), vectors_.vector(i).data(), vectors_.dim), i);
          }
        })));
    for (const std::string_view isa : supported_isas()) {
      if (isa == "scalar") continue;
      const KernelTable& table = **kernel_table(isa);
      RETURN_IF_ERROR(add(fmt::format("{}, one query", isa), rate(1, [&](size_t q, size_t) {
                            Nearest nearest;
                            for (size_t i = n_deleted_; i < vectors_.size(); i += kTile) {
                              scan_rows(table, vectors_, q, i, std::min(i + kTile, vectors_.size()), nearest);
                            }
                          })));
      // Each tile of rows is read once for a tile of queries.
      RETURN_IF_ERROR(add(
          fmt::format("{}, {} queries at once", isa, kTile), rate(kTile, [&](size_t begin, size_t end) {
            std::vector<Nearest> nearest(end - begin);
            for (size_t i = n_deleted_; i < vectors_.size(); i += kTile) {
              for (size_t q = begin; q < end; ++q) {
                scan_rows(table, vectors_, q, i, std::min(i + kTile, vectors_.size()), nearest[q - begin]);
              }
            }
          })));
    }
    return {};
  }

  // Queries of a cluster that has no vector left.
  std::vector<bool> queries_of_erased_clusters() const {
    std::vector<bool> is_gone(vectors_.n_queries());
    if (vectors_.base_cluster.empty()) return is_gone;
    const std::unordered_set<size_t> left(
        vectors_.base_cluster.begin() + static_cast<std::ptrdiff_t>(n_deleted_), vectors_.base_cluster.end());
    for (size_t q = 0; q < is_gone.size(); ++q) is_gone[q] = left.count(vectors_.query_cluster[q]) == 0;
    return is_gone;
  }

  Result<void> measure_searches() {
    Answers answers;
    for (size_t q = 0; q < vectors_.n_queries(); ++q) {
      Nearest nearest;
      for (size_t i = n_deleted_; i < vectors_.size(); i += kTile) {
        scan_rows(kernels_, vectors_, q, i, std::min(i + kTile, vectors_.size()), nearest);
      }
      answers.push_back(nearest.ids());
      RETURN_IF_ERROR(check_stop());
    }
    for (size_t q = 0; q < vectors_.n_queries(); ++q)
      RETURN_IF_ERROR(index_->search(vectors_.query(q), kK, 64));
    const std::vector<bool> is_gone = queries_of_erased_clusters();
    n_gone_ = static_cast<size_t>(std::count(is_gone.begin(), is_gone.end(), true));
    for (const int ef : options_.efs) {
      const HnswStats before = index_->stats();
      size_t n_right = 0, n_right_gone = 0;
      const auto start = cpu_seconds();
      for (size_t q = 0; q < vectors_.n_queries(); ++q) {
        ASSIGN_OR_RETURN(const auto hits, index_->search(vectors_.query(q), kK, ef));
        size_t n_here = 0;
        for (const HnswHit& hit : hits) n_here += answers[q].count(hit.id);
        n_right += n_here;
        if (is_gone[q]) n_right_gone += n_here;
      }
      const double seconds = seconds_since(start);
      const HnswStats after = index_->stats();
      const auto n = static_cast<double>(vectors_.n_queries());
      points_.push_back(
          {ef, static_cast<double>(n_right) / (n * kK), n / seconds,
           static_cast<double>(after.distance_evals - before.distance_evals) / n,
           static_cast<double>(after.reranks - before.reranks) / n,
           static_cast<double>(after.hops - before.hops) / n,
           static_cast<double>(n_right_gone) / static_cast<double>(std::max<size_t>(n_gone_, 1) * kK),
           static_cast<double>(after.second_looks - before.second_looks) / n});
      RETURN_IF_ERROR(check_stop());
    }
    return {};
  }

  double per_node(uint64_t bytes) const {
    return static_cast<double>(bytes) / static_cast<double>(stats_.elements);
  }

  void print_tables() const {
    print(
        "{} vectors of {}, {}, seed {}; M {}, ef_construction {}; {} % erased after the build; {}; one "
        "thread\n\n",
        vectors_.size(), vectors_.dim, options_.data, options_.seed, options_.m, options_.ef_construction,
        options_.deletes, kernels_.isa);
    print("| exact scan, f32 | queries/s | ms per query |\n|---|---|---|\n");
    for (const Scan& scan : scans_) print("| {} | {:.1f} | {:.3f} |\n", scan.name, scan.qps, 1e3 / scan.qps);
    if (n_gone_ > 0)
      print("\n{} of the {} queries are of clusters erased whole\n", n_gone_, vectors_.n_queries());
    print(
        "\n| ef | recall@10 | of erased clusters | queries/s | int8 products | f32 products | nodes expanded "
        "| looked again |{}\n|---|---|---|---|---|---|---|---|{}\n",
        header_of_ratios(), ratios([](const Scan&) { return std::string("---|"); }));
    for (const Point& point : points_) {
      print("| {} | {:.4f} | {} | {:.0f} | {:.0f} | {:.1f} | {:.0f} | {:.1f} % |{}\n", point.ef, point.recall,
            n_gone_ > 0 ? fmt::format("{:.4f}", point.recall_gone) : "-", point.qps, point.evals,
            point.reranks, point.hops, 100 * point.looked_again,
            ratios([&](const Scan& scan) { return fmt::format(" {:.1f} |", point.qps / scan.qps); }));
    }
    print_build();
  }

  // One column per scan: how many times as fast.
  template <class Cell>
  std::string ratios(Cell cell) const {
    std::string out;
    for (const Scan& scan : scans_) out += cell(scan);
    return out;
  }
  std::string header_of_ratios() const {
    return ratios([](const Scan& scan) { return fmt::format(" x {} |", scan.name); });
  }

  void print_build() const {
    const Fit line = fit();
    print("\nbuilt in {:.1f} s", build_seconds_);
    if (n_deleted_ > 0) print(", {} erased and swept in {:.1f} s", n_deleted_, delete_seconds_);
    print("\n\n| vectors in the index | us per insertion |\n|---|---|\n");
    for (const Window& window : windows_)
      print("| {}..{} | {:.1f} |\n", window.begin, window.end, window.microseconds);
    if (line.r2 > 0)
      print("\nfit from 1000 on: {:.1f} + {:.2f} ln(n) us, R2 {:.3f}\n", line.a, line.b, line.r2);
    print(
        "\nmemory per vector: {:.0f} B codes and header, {:.1f} B links, {:.0f} B f32, {:.0f} B id and "
        "label; "
        "resident growth {:.0f} B\n",
        per_node(stats_.code_bytes), per_node(stats_.link_bytes), per_node(stats_.vector_bytes),
        per_node(stats_.label_bytes), per_node(resident_));
    print("links per vector {:.1f}; {:.2f} B of link memory per link\n", per_node(stats_.links),
          static_cast<double>(stats_.link_bytes) / static_cast<double>(stats_.links));
  }

  void print_json() const {
    Json out;
    out["kind"] = "hnsw";
    out["commit"] = build_commit();
    out["isa"] = kernels_.isa;
    out["n"] = vectors_.size();
    out["dim"] = vectors_.dim;
    out["data"] = options_.data;
    out["seed"] = options_.seed;
    out["m"] = options_.m;
    out["ef_construction"] = options_.ef_construction;
    out["deletes_percent"] = options_.deletes;
    out["queries"] = vectors_.n_queries();
    out["queries_of_erased_clusters"] = n_gone_;
    for (const Scan& scan : scans_) out["scans"].push_back({{"name", scan.name}, {"qps", scan.qps}});
    for (const Point& point : points_) {
      out["points"].push_back({{"ef", point.ef},
                               {"recall", point.recall},
                               {"qps", point.qps},
                               {"int8_products", point.evals},
                               {"f32_products", point.reranks},
                               {"hops", point.hops},
                               {"looked_again", point.looked_again}});
      if (n_gone_ > 0) out["points"].back()["recall_of_erased_clusters"] = point.recall_gone;
    }
    out["build_seconds"] = build_seconds_;
    out["delete_seconds"] = delete_seconds_;
    for (const Window& window : windows_) {
      out["insertion"].push_back({{"from", window.begin}, {"to", window.end}, {"us", window.microseconds}});
    }
    const Fit line = fit();
    out["insertion_fit"] = {{"a_us", line.a}, {"b_us", line.b}, {"r2", line.r2}};
    out["bytes_per_vector"] = {{"codes", per_node(stats_.code_bytes)},
                               {"links", per_node(stats_.link_bytes)},
                               {"f32", per_node(stats_.vector_bytes)},
                               {"labels", per_node(stats_.label_bytes)},
                               {"resident", per_node(resident_)}};
    out["links_per_vector"] = per_node(stats_.links);
    out["bytes_per_link"] = static_cast<double>(stats_.link_bytes) / static_cast<double>(stats_.links);
    print("{}\n", to_json(out));
  }

  const HnswBenchOptions& options_;
  const KernelTable& kernels_;
  SyntheticVectors vectors_;
  size_t n_deleted_;
  size_t n_gone_ = 0;  // queries of erased clusters
  std::optional<HnswIndex> index_;
  HnswStats stats_;  // after the build, before anything is erased
  std::vector<Window> windows_;
  std::vector<Scan> scans_;
  std::vector<Point> points_;
  double build_seconds_ = 0, delete_seconds_ = 0;
  uint64_t resident_ = 0;
};

}  // namespace

Result<int> bench_hnsw(const HnswBenchOptions& options) {
  size_t n = 0, dim = 0;
  char rest = 0;
  if (std::sscanf(options.size.c_str(), "%9zu,%5zu%c", &n, &dim, &rest) != 2 || n < 100 || n > 10'000'000 ||
      dim < kVectorBlock || dim > 4096 || dim % kVectorBlock != 0) {
    return fail(
        ErrorKind::kUsage, "hnsw.size",
        "--hnsw: expected N,DIM with N 100 to 10000000 and DIM 32 to 4096, a multiple of {}, found {}",
        kVectorBlock, ruvltra::quoted(options.size));
  }
  for (const int ef : options.efs) {
    if (ef < kK)
      return fail(ErrorKind::kUsage, "hnsw.ef", "--hnsw-ef: expected at least {}, found {}", kK, ef);
  }
  ASSIGN_OR_RETURN(const KernelTable* const kernels, kernel_table(options.isa));
  return HnswBench(options, n, dim, *kernels).run();
}

}  // namespace ruvltra
