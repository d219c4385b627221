// `bench --hnsw N,DIM`: the HNSW index beside exact scans of the same vectors, one thread. Needs no model.
// (hnswlib, the peer, is measured by bench/peers/hnswlib_bench.cpp: the program does not contain it.)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

struct HnswBenchOptions {
  std::string size;                // N,DIM; empty = not asked for
  std::string data = "clustered";  // clustered, sorted or uniform
  int m = 16, ef_construction = 200;
  std::vector<int> efs = {10, 16, 32, 64, 128, 256, 512};
  int n_queries = 500;
  int deletes = 0;  // percent of the vectors, the first ones, erased after the build
  uint64_t seed = 1;
  std::string isa;
  std::string form = "md";  // md or json
  bool no_progress = false;
};

// Errors: hnsw.size (usage), isa.*, index.*, bench.cancelled.
Result<int> bench_hnsw(const HnswBenchOptions& options);

}  // namespace ruvltra
