// The layer a node reaches.
#pragma once

#include <algorithm>
#include <cmath>

#include "base/num.h"
#include "index/graph.h"

namespace ruvltra {

// floor(-ln(u) / ln M), u from (seed, id): the same node has the same level whenever it comes.
inline int level_of(const HnswParams& params, uint64_t id) {
  constexpr uint32_t kPurpose = 0x484e5357;  // "HNSW"
  const double u =
      1.0 - philox_uniform(params.seed, static_cast<uint32_t>(id), static_cast<uint32_t>(id >> 32), kPurpose);
  return std::min(kMaxLevel, static_cast<int>(-std::log(u) / std::log(static_cast<double>(params.m))));
}

}  // namespace ruvltra
