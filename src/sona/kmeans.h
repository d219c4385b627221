// k-means clustering of unit vectors: k-means++ seeding (Arthur and Vassilvitskii 2007), then Lloyd's steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ruvltra {

struct KMeansOptions {
  size_t k = 8;  // at most the number of points is used
  size_t max_steps = 25;
  uint64_t seed = 1;
};

struct KMeans {
  size_t dim = 0;
  std::vector<float> centroids;     // (k, dim), means: not of unit length
  std::vector<int32_t> member;      // (n): nearest centroid, the lowest number of equals
  std::vector<uint64_t> n_members;  // (k), none of them 0 unless there are fewer distinct points than k
  double inertia = 0;               // mean squared distance to the centroid
  size_t n_steps = 0;               // until nothing moved, or max_steps
  size_t k() const { return n_members.size(); }
};

// clamp(sqrt(n / 2), 8, 1024), and never more than n.
size_t cluster_count(size_t n_points);

// Seeding draws each next centroid with a probability proportional to the squared distance from those there
// are (Philox counter generator: the same points, options and seed give the same bytes). A cluster that lost
// all its points is seeded again at the point farthest from its own centroid. Sums run in the order of
// points. *Requires*: points.size() is a multiple of dim, all finite, at least one point, k >= 1.
KMeans k_means(std::span<const float> points, size_t dim, const KMeansOptions& options);

// The nearest of the (k, dim) centroids; the lowest number of equals. *Requires*: at least one.
int32_t nearest_centroid(std::span<const float> centroids, std::span<const float> point);

}  // namespace ruvltra
