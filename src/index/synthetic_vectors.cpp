#include "index/synthetic_vectors.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace ruvltra {
namespace {

constexpr size_t kDirections = 16;
constexpr double kSpread = 0.5 / 4;
constexpr double kNoise = 0.05;

// SplitMix64 (Steele, Lea, Flood 2014) and Box-Muller.
class Normal {
 public:
  explicit Normal(uint64_t seed) : state_(seed) {}
  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  double operator()() {
    if (has_second_) {
      has_second_ = false;
      return second_;
    }
    const double u = (static_cast<double>(bits() >> 11) + 1) * 0x1p-53;  // (0, 1]
    const double angle = 2 * std::numbers::pi * static_cast<double>(bits() >> 11) * 0x1p-53;
    const double radius = std::sqrt(-2 * std::log(u));
    second_ = radius * std::sin(angle);
    has_second_ = true;
    return radius * std::cos(angle);
  }

 private:
  uint64_t state_;
  double second_ = 0;
  bool has_second_ = false;
};

void normalise(std::span<float> vector) {
  double squared = 0;
  for (const float x : vector) squared += static_cast<double>(x) * static_cast<double>(x);
  const double inverse = 1 / std::sqrt(squared);
  for (float& x : vector) x = static_cast<float>(x * inverse);
}

struct Cluster {
  std::vector<float> centre;
  std::vector<float> directions;  // (16, dim), orthonormal
};

Cluster make_cluster(Normal& normal, size_t dim) {
  Cluster cluster;
  cluster.centre.resize(dim);
  for (float& x : cluster.centre) x = static_cast<float>(normal() / std::sqrt(static_cast<double>(dim)));
  cluster.directions.resize(kDirections * dim);
  for (float& x : cluster.directions) x = static_cast<float>(normal());
  for (size_t i = 0; i < kDirections; ++i) {  // Gram-Schmidt
    const auto row = std::span(cluster.directions).subspan(i * dim, dim);
    for (size_t j = 0; j < i; ++j) {
      const auto before = std::span(cluster.directions).subspan(j * dim, dim);
      double dot = 0;
      for (size_t k = 0; k < dim; ++k) dot += static_cast<double>(row[k]) * static_cast<double>(before[k]);
      for (size_t k = 0; k < dim; ++k) row[k] -= static_cast<float>(dot) * before[k];
    }
    normalise(row);
  }
  return cluster;
}

void draw(Normal& normal, const Cluster& cluster, std::span<float> out) {
  const double noise = kNoise / std::sqrt(static_cast<double>(out.size()));
  for (size_t k = 0; k < out.size(); ++k) out[k] = cluster.centre[k] + static_cast<float>(noise * normal());
  for (size_t i = 0; i < kDirections; ++i) {
    const auto weight = static_cast<float>(kSpread * normal());
    const float* direction = cluster.directions.data() + i * out.size();
    for (size_t k = 0; k < out.size(); ++k) out[k] += weight * direction[k];
  }
  normalise(out);
}

}  // namespace

std::optional<VectorLaw> vector_law(std::string_view name) {
  if (name == "clustered") return VectorLaw::kClustered;
  if (name == "sorted") return VectorLaw::kSorted;
  if (name == "uniform") return VectorLaw::kUniform;
  return std::nullopt;
}

SyntheticVectors make_synthetic_vectors(VectorLaw law, size_t n, size_t n_queries, size_t dim,
                                        uint64_t seed) {
  CHECK(dim >= kDirections);
  Normal normal(seed);
  SyntheticVectors vectors;
  vectors.dim = dim;
  vectors.base.resize(n * dim);
  vectors.queries.resize(n_queries * dim);
  const auto row = [&](std::vector<float>& rows, size_t i) { return std::span(rows).subspan(i * dim, dim); };
  if (law == VectorLaw::kUniform) {
    for (float& x : vectors.base) x = static_cast<float>(normal());
    for (float& x : vectors.queries) x = static_cast<float>(normal());
    for (size_t i = 0; i < n; ++i) normalise(row(vectors.base, i));
    for (size_t i = 0; i < n_queries; ++i) normalise(row(vectors.queries, i));
    return vectors;
  }
  const auto n_clusters = std::max<size_t>(1, static_cast<size_t>(std::sqrt(static_cast<double>(n))));
  std::vector<Cluster> clusters;
  for (size_t c = 0; c < n_clusters; ++c) clusters.push_back(make_cluster(normal, dim));
  vectors.base_cluster.resize(n);
  for (size_t& c : vectors.base_cluster) c = normal.bits() % n_clusters;
  if (law == VectorLaw::kSorted) std::sort(vectors.base_cluster.begin(), vectors.base_cluster.end());
  for (size_t i = 0; i < n; ++i) draw(normal, clusters[vectors.base_cluster[i]], row(vectors.base, i));
  for (size_t i = 0; i < n_queries; ++i) {
    vectors.query_cluster.push_back(normal.bits() % n_clusters);
    draw(normal, clusters[vectors.query_cluster[i]], row(vectors.queries, i));
  }
  return vectors;
}

}  // namespace ruvltra
