#include "sona/hook_basis.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "base/container.h"
#include "base/fail.h"
#include "base/file.h"

namespace ruvltra {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr double kRidge = 0.1;            // of the mean eigenvalue
constexpr double kLeastVariance = 1e-10;  // of the largest eigenvalue
constexpr uint32_t kLayersTag = section_tag("HOOK"), kMeanTag = section_tag("MEAN"),
                   kProjectionTag = section_tag("PROJ");
constexpr uint32_t kTags[] = {kLayersTag, kMeanTag, kProjectionTag};
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 28;

// The k principal directions of the centred rows x (n, d), scaled, most important first: (k, d).
Matrix principal_directions(const Matrix& x, Eigen::Index k) {
  const Eigen::Index n = x.rows(), d = x.cols();
  const auto count = static_cast<double>(n);
  // The covariance and the Gram matrix share their eigenvalues: the smaller one is solved.
  const bool by_gram = n < d;
  const Matrix square = by_gram ? Matrix(x * x.transpose() / count) : Matrix(x.transpose() * x / count);
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(square);
  Matrix directions = Matrix::Zero(k, d);
  // The solver's order is ascending. Directions without variance stay zero: nothing is known of them, and
  // from the Gram matrix they would be rounding errors.
  const auto lambda = [&](Eigen::Index i) { return solver.eigenvalues()[square.rows() - 1 - i]; };
  Eigen::Index n_usable = 0;
  double mean_lambda = 0;
  while (n_usable < k && lambda(n_usable) > kLeastVariance * lambda(0)) mean_lambda += lambda(n_usable++);
  mean_lambda /= static_cast<double>(std::max<Eigen::Index>(n_usable, 1));
  for (Eigen::Index i = 0; i < n_usable; ++i) {
    Eigen::VectorXd v = solver.eigenvectors().col(square.rows() - 1 - i);
    if (by_gram) v = x.transpose() * v;
    // An eigenvector's sign is anybody's choice: the largest component is positive.
    Eigen::Index largest = 0;
    v.cwiseAbs().maxCoeff(&largest);
    const double sign = v[largest] < 0 ? -1 : 1;
    directions.row(i) = v.transpose() * (sign / v.norm() / std::sqrt(lambda(i) + kRidge * mean_lambda));
  }
  return directions;
}

}  // namespace

Result<HookBasis> HookBasis::fit(const Sha256Digest& model, std::vector<int> layers, size_t d_model,
                                 std::span<const float> states) {
  const size_t n_layers = layers.size();
  const size_t n_texts = states.size() / (n_layers * d_model);
  if (n_texts < 4) {
    return fail(ErrorKind::kUsage, "learning.few_texts",
                "basis: expected the states of at least 4 texts, found {}", n_texts);
  }
  if (!std::all_of(states.begin(), states.end(), [](float value) { return std::isfinite(value); })) {
    return fail(ErrorKind::kInput, "learning.not_finite",
                "basis: expected finite hidden states, found NaN or infinity");
  }
  HookBasis basis;
  basis.model_ = model;
  basis.layers_ = std::move(layers);
  basis.d_model_ = d_model;
  basis.n_directions_ = std::min({kEmbeddingDim, d_model, n_texts / 2});
  basis.mean_.resize(n_layers * d_model);
  basis.projection_.resize(n_layers * basis.n_directions_ * d_model);
  const auto rows = static_cast<Eigen::Index>(n_texts), columns = static_cast<Eigen::Index>(d_model);
  for (size_t l = 0; l < n_layers; ++l) {
    Matrix x(rows, columns);
    for (size_t t = 0; t < n_texts; ++t) {
      for (size_t i = 0; i < d_model; ++i) {
        x(static_cast<Eigen::Index>(t), static_cast<Eigen::Index>(i)) =
            static_cast<double>(states[(t * n_layers + l) * d_model + i]);
      }
    }
    const Eigen::RowVectorXd mean = x.colwise().mean();
    x.rowwise() -= mean;
    const Matrix directions = principal_directions(x, static_cast<Eigen::Index>(basis.n_directions_));
    std::transform(mean.data(), mean.data() + mean.size(), basis.mean_.data() + l * d_model,
                   [](double value) { return static_cast<float>(value); });
    std::transform(directions.data(), directions.data() + directions.size(),
                   basis.projection_.data() + l * basis.n_directions_ * d_model,
                   [](double value) { return static_cast<float>(value); });
  }
  basis.name_space();
  return basis;
}

void HookBasis::name_space() {
  Sha256 hash;
  const auto update = [&](const void* data, size_t n_bytes) {
    const auto size = static_cast<uint64_t>(n_bytes);
    hash.update({reinterpret_cast<const uint8_t*>(&size), sizeof size});
    hash.update({static_cast<const uint8_t*>(data), n_bytes});
  };
  constexpr std::string_view kDomain = "ruvltra-space-v1";
  update(kDomain.data(), kDomain.size());
  update(model_.data(), model_.size());
  update(layers_.data(), layers_.size() * sizeof(int));
  update(mean_.data(), mean_.size() * sizeof(float));
  update(projection_.data(), projection_.size() * sizeof(float));
  const Sha256Digest digest = hash.finish();
  std::memcpy(&space_, digest.data(), sizeof space_);
  space_ >>= 1;  // fits a signed column
}

Result<void> HookBasis::save(const std::filesystem::path& file) const {
  const std::vector<uint32_t> layers(layers_.begin(), layers_.end());
  ContainerWriter writer({.kind = ContainerKind::kBasis, .version = 1, .flags = 0, .model = model_});
  writer.add(kLayersTag, layers);
  writer.add(kMeanTag, mean_);
  writer.add(kProjectionTag, projection_);
  return writer.write_file(file);
}

Result<HookBasis> HookBasis::load(const std::filesystem::path& file, const Sha256Digest& model,
                                  std::span<const int> layers, size_t d_model) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_file(file, kMaxFileBytes));
  const ContainerExpect expect = {
      .kind = ContainerKind::kBasis, .max_version = 1, .known_flags = 0, .known_tags = kTags, .model = model};
  ASSIGN_OR_RETURN(const Container container, Container::parse(bytes, file.string(), expect));
  ASSIGN_OR_RETURN(const auto saved_layers, container.read<uint32_t>(kLayersTag, layers.size()));
  if (!std::equal(layers.begin(), layers.end(), saved_layers.begin(),
                  [](int a, uint32_t b) { return static_cast<uint32_t>(a) == b; })) {
    return fail(ErrorKind::kInput, "basis.layers", "{}: expected the basis of the hook layers in use",
                file.string());
  }
  HookBasis basis;
  basis.model_ = model;
  basis.layers_.assign(layers.begin(), layers.end());
  basis.d_model_ = d_model;
  ASSIGN_OR_RETURN(basis.mean_, container.read<float>(kMeanTag, layers.size() * d_model));
  ASSIGN_OR_RETURN(const uint64_t n_values, container.count<float>(kProjectionTag));
  basis.n_directions_ = n_values / (layers.size() * d_model);
  if (basis.n_directions_ < 1 || basis.n_directions_ > std::min(kEmbeddingDim, d_model) ||
      n_values != layers.size() * basis.n_directions_ * d_model) {
    return fail(ErrorKind::kInput, "basis.shape",
                "{}: expected projections of 1..{} directions of {} values, found {} values", file.string(),
                std::min(kEmbeddingDim, d_model), d_model, n_values);
  }
  ASSIGN_OR_RETURN(basis.projection_, container.read<float>(kProjectionTag, n_values));
  basis.name_space();
  return basis;
}

bool HookBasis::embed(size_t l, std::span<const float> x, std::span<float> e) const {
  const float* mean = mean_.data() + l * d_model_;
  const float* projection = projection_.data() + l * n_directions_ * d_model_;
  double norm = 0;
  std::vector<double> y(n_directions_);
  for (size_t k = 0; k < n_directions_; ++k) {
    const float* row = projection + k * d_model_;
    for (size_t i = 0; i < d_model_; ++i)
      y[k] += static_cast<double>(row[i]) * (static_cast<double>(x[i]) - static_cast<double>(mean[i]));
    norm += y[k] * y[k];
  }
  norm = std::sqrt(norm);
  if (!(norm > 0) || !std::isfinite(norm)) return false;
  std::fill(e.begin(), e.end(), 0.0f);
  for (size_t k = 0; k < n_directions_; ++k) e[k] = static_cast<float>(y[k] / norm);
  return true;
}

}  // namespace ruvltra
