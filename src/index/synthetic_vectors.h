// Vectors to measure an index with: the same ones for our index, the scans and other libraries.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace ruvltra {

// kClustered: about sqrt(n) clusters; centre N(0, I/d), plus 0.5 / 4 * N(0, I) in 16 random orthonormal
// directions of the cluster, plus noise 0.05 * N(0, I/d); normalised. kSorted: the same, one cluster after
// the other. kUniform: directions without any structure, the hardest case.
enum class VectorLaw { kClustered, kSorted, kUniform };
std::optional<VectorLaw> vector_law(std::string_view name);  // clustered, sorted, uniform

struct SyntheticVectors {
  size_t dim = 0;
  std::vector<float> base;                          // (n, dim)
  std::vector<float> queries;                       // (n_queries, dim), of the same clusters
  std::vector<size_t> base_cluster, query_cluster;  // which cluster each is of; empty for kUniform
  size_t size() const { return base.size() / dim; }
  size_t n_queries() const { return queries.size() / dim; }
  std::span<const float> vector(size_t i) const { return std::span(base).subspan(i * dim, dim); }
  std::span<const float> query(size_t i) const { return std::span(queries).subspan(i * dim, dim); }
};

// The same arguments give the same vectors. dim >= 16.
SyntheticVectors make_synthetic_vectors(VectorLaw law, size_t n, size_t n_queries, size_t dim, uint64_t seed);

}  // namespace ruvltra
