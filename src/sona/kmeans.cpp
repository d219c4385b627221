#include "sona/kmeans.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/num.h"

namespace ruvltra {
namespace {

constexpr uint32_t kPurposeSeeding = 0x6B6D;  // of the counter generator: no other stream shares it

double squared_distance(const float* x, const float* y, size_t dim) {
  // Eight partial sums: vectorised without reassociating, and the same on every machine.
  float sums[8] = {};
  size_t i = 0;
  for (; i + 8 <= dim; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) {
      const float d = x[i + lane] - y[i + lane];
      sums[lane] += d * d;
    }
  }
  double total = 0;
  for (const float s : sums) total += s;
  for (; i < dim; ++i) total += static_cast<double>(x[i] - y[i]) * (x[i] - y[i]);
  return total;
}

// Points, centroids and who belongs where, while it is worked on.
class Clustering {
 public:
  Clustering(std::span<const float> points, size_t dim, size_t k)
      : points_(points), dim_(dim), n_(points.size() / dim), k_(k), distance_(n_) {
    result_.dim = dim;
    result_.centroids.resize(k * dim);
    result_.member.assign(n_, 0);
    result_.n_members.assign(k, 0);
  }

  // False once every point lies on a centroid: there are fewer distinct points than k.
  bool seed(uint64_t seed) {
    std::fill(distance_.begin(), distance_.end(), std::numeric_limits<double>::max());
    for (size_t c = 0; c < k_; ++c) {
      const double u = philox_uniform(seed, static_cast<uint32_t>(c), 0, kPurposeSeeding);
      const size_t chosen =
          c == 0 ? std::min(static_cast<size_t>(u * static_cast<double>(n_)), n_ - 1) : draw(u);
      if (chosen == n_) {
        shrink(c);
        return false;
      }
      std::copy_n(point(chosen), dim_, centroid(c));
      for (size_t i = 0; i < n_; ++i) {
        distance_[i] = std::min(distance_[i], squared_distance(point(i), centroid(c), dim_));
      }
    }
    return true;
  }

  // Every point to its nearest centroid; whether any changed.
  bool assign() {
    bool moved = false;
    std::fill(result_.n_members.begin(), result_.n_members.end(), 0);
    double sum = 0;
    for (size_t i = 0; i < n_; ++i) {
      const int32_t nearest = nearest_centroid(result_.centroids, {point(i), dim_});
      moved = moved || nearest != result_.member[i];
      result_.member[i] = nearest;
      distance_[i] = squared_distance(point(i), centroid(static_cast<size_t>(nearest)), dim_);
      sum += distance_[i];
      ++result_.n_members[static_cast<size_t>(nearest)];
    }
    result_.inertia = sum / static_cast<double>(n_);
    return moved;
  }

  void update() {
    std::vector<double> sums(k_ * dim_);
    for (size_t i = 0; i < n_; ++i) {
      double* sum = sums.data() + static_cast<size_t>(result_.member[i]) * dim_;
      for (size_t d = 0; d < dim_; ++d) sum[d] += point(i)[d];
    }
    for (size_t c = 0; c < k_; ++c) {
      if (result_.n_members[c] == 0) continue;
      for (size_t d = 0; d < dim_; ++d) {
        centroid(c)[d] = static_cast<float>(sums[c * dim_ + d] / static_cast<double>(result_.n_members[c]));
      }
    }
  }

  // Empty clusters start again at the farthest points, one each; whether there were any.
  bool refill() {
    bool any = false;
    for (size_t c = 0; c < k_; ++c) {
      if (result_.n_members[c] != 0) continue;
      const size_t far =
          static_cast<size_t>(std::max_element(distance_.begin(), distance_.end()) - distance_.begin());
      if (distance_[far] <= 0) return any;
      std::copy_n(point(far), dim_, centroid(c));
      distance_[far] = 0;
      any = true;
    }
    return any;
  }

  KMeans take() { return std::move(result_); }
  void count_step() { ++result_.n_steps; }

 private:
  const float* point(size_t i) const { return points_.data() + i * dim_; }
  float* centroid(size_t c) { return result_.centroids.data() + c * dim_; }

  // The point at share u of the summed squared distances; n_ if all of them are 0.
  size_t draw(double u) const {
    double total = 0;
    for (const double d : distance_) total += d;
    if (total <= 0) return n_;
    double left = u * total;
    size_t last = n_;
    for (size_t i = 0; i < n_; ++i) {
      if (distance_[i] <= 0) continue;
      last = i;
      left -= distance_[i];
      if (left < 0) return i;
    }
    return last;  // rounding left a remainder
  }
  void shrink(size_t k) {
    k_ = k;
    result_.centroids.resize(k * dim_);
    result_.n_members.resize(k);
  }

  std::span<const float> points_;
  size_t dim_, n_, k_;
  std::vector<double> distance_;  // (n) squared, to the nearest centroid
  KMeans result_;
};

}  // namespace

size_t cluster_count(size_t n_points) {
  const auto k = static_cast<size_t>(std::sqrt(static_cast<double>(n_points) / 2));
  return std::min(std::clamp(k, size_t{8}, size_t{1024}), n_points);
}

int32_t nearest_centroid(std::span<const float> centroids, std::span<const float> point) {
  CHECK(!point.empty() && centroids.size() >= point.size());
  int32_t best = 0;
  double best_distance = std::numeric_limits<double>::max();
  for (size_t c = 0; c * point.size() < centroids.size(); ++c) {
    const double d = squared_distance(point.data(), centroids.data() + c * point.size(), point.size());
    if (d < best_distance) {
      best_distance = d;
      best = static_cast<int32_t>(c);
    }
  }
  return best;
}

KMeans k_means(std::span<const float> points, size_t dim, const KMeansOptions& options) {
  CHECK(dim > 0 && !points.empty() && points.size() % dim == 0 && options.k >= 1);
  Clustering clustering(points, dim, std::min(options.k, points.size() / dim));
  clustering.seed(options.seed);
  clustering.assign();
  for (size_t step = 0; step < options.max_steps; ++step) {
    clustering.count_step();
    clustering.update();
    const bool moved = clustering.assign();
    // The last word is an assignment, so members and counts always belong to the centroids returned.
    if (clustering.refill()) {
      clustering.assign();
    } else if (!moved) {
      break;
    }
  }
  return clustering.take();
}

}  // namespace ruvltra
