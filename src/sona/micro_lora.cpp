#include "sona/micro_lora.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/container.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/num.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 26;
constexpr size_t kMaxDModel = size_t{1} << 17;
constexpr uint32_t kMaxLayers = 1 << 16;

// Basis file: INFO u32 {n_layers, d_model, rank, final_tap, seed low, seed high}, EPSI f32, HOOK u32 layers,
// PROJ f32 A, MEAN f32 mu, WGHT f32 1 / sigma.
constexpr uint32_t kInfoTag = section_tag("INFO"), kEpsTag = section_tag("EPSI"),
                   kHookTag = section_tag("HOOK"), kProjectionTag = section_tag("PROJ"),
                   kMeanTag = section_tag("MEAN"), kWeightTag = section_tag("WGHT");
constexpr uint32_t kBasisTags[] = {kInfoTag, kEpsTag, kHookTag, kProjectionTag, kMeanTag, kWeightTag};
// Adapter file: BASH the basis hash, HASH its own, BETA f32 B.
constexpr uint32_t kBasisHashTag = section_tag("BASH"), kHashTag = section_tag("HASH"),
                   kBTag = section_tag("BETA");
constexpr uint32_t kAdapterTags[] = {kBasisHashTag, kHashTag, kBTag};

// SHA-256 of fields, each with its length before it: no two lists of fields share their bytes.
class FieldHash {
 public:
  void add(const void* data, size_t n_bytes) {
    const auto size = static_cast<uint64_t>(n_bytes);
    hash_.update({reinterpret_cast<const uint8_t*>(&size), sizeof size});
    hash_.update({static_cast<const uint8_t*>(data), n_bytes});
  }
  void add(std::string_view text) { add(text.data(), text.size()); }
  template <class T>
  void add(const std::vector<T>& values) {
    add(values.data(), values.size() * sizeof(T));
  }
  template <class T>
  void add_number(T value) {
    add(&value, sizeof value);
  }
  Sha256Digest finish() { return hash_.finish(); }

 private:
  Sha256 hash_;
};

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

// n values of N(0, 1) (Box, Muller 1958) from a counter and a seed.
std::vector<double> normal_values(uint64_t seed, size_t n) {
  std::vector<double> values(n);
  for (size_t i = 0; i < n; i += 2) {
    const auto position = static_cast<uint32_t>(i / 2);
    const double u = 1 - philox_uniform(seed, position, 0, 0), v = philox_uniform(seed, position, 1, 0);
    const double radius = std::sqrt(-2 * std::log(u)), angle = 2 * std::numbers::pi * v;
    values[i] = radius * std::cos(angle);
    if (i + 1 < n) values[i + 1] = radius * std::sin(angle);
  }
  return values;
}

// Gram-Schmidt on the rows (r, d), twice: rows stay orthogonal to rounding.
void make_orthonormal(std::span<double> rows, size_t r, size_t d) {
  for (size_t k = 0; k < r; ++k) {
    double* row = rows.data() + k * d;
    for (int pass = 0; pass < 2; ++pass) {
      for (size_t other = 0; other < k; ++other) {
        const double* before = rows.data() + other * d;
        double product = 0;
        for (size_t i = 0; i < d; ++i) product += row[i] * before[i];
        for (size_t i = 0; i < d; ++i) row[i] -= product * before[i];
      }
    }
    double square = 0;
    for (size_t i = 0; i < d; ++i) square += row[i] * row[i];
    const double factor = 1 / std::sqrt(square);
    for (size_t i = 0; i < d; ++i) row[i] *= factor;
  }
}

}  // namespace

Result<void> BasisSpec::validate() const {
  if (n_layers == 0 || n_layers > kMaxLayers || d_model == 0 || d_model > kMaxDModel ||
      !(eps >= 0 && std::isfinite(eps))) {
    return fail(
        ErrorKind::kUsage, "learning.dim_mismatch",
        "basis: expected 1..{} layers, a width of 1..{} and an eps of at least 0, found {}, {} and {}",
        kMaxLayers, kMaxDModel, n_layers, d_model, eps);
  }
  if (rank < 1 || rank > kMaxAdapterRank || rank > d_model) {
    return fail(ErrorKind::kUsage, "learning.bad_rank", "rank of the adapter: expected 1..{}, found {}",
                std::min(kMaxAdapterRank, d_model), rank);
  }
  if (layers.empty() || layers.size() > kMaxHooks) {
    return fail(ErrorKind::kUsage, "learning.too_many_hooks", "hooks: expected 1..{} layers, found {}",
                kMaxHooks, layers.size());
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] < 0 || static_cast<size_t>(layers[i]) >= n_layers ||
        (i > 0 && layers[i] <= layers[i - 1])) {
      return fail(ErrorKind::kUsage, "learning.hook_out_of_range",
                  "hooks: expected ascending layers below {}, found layer {}", n_layers, layers[i]);
    }
  }
  return {};
}

// ---- Basis.

float AdapterBasis::scale() const {
  return static_cast<float>(1 / std::sqrt(static_cast<double>(n_features())));
}

FeatureView AdapterBasis::view() const {
  FeatureView view;
  view.d_model = spec_.d_model;
  view.rank = spec_.rank;
  view.n_taps = tap_layers_.size();
  view.layers = tap_layers_.data();
  view.a = a_.data();
  view.mu = mu_.data();
  view.inverse_sigma = inverse_sigma_.data();
  view.eps = spec_.eps;
  return view;
}

void AdapterBasis::name_taps() {
  tap_layers_ = spec_.layers;
  if (spec_.final_tap) tap_layers_.push_back(static_cast<int>(spec_.n_layers) - 1);
}

void AdapterBasis::name_contents() {
  FieldHash hash;
  hash.add("ruvltra-basis-v1");
  hash.add(spec_.model.data(), spec_.model.size());
  hash.add_number(static_cast<uint64_t>(spec_.n_layers));
  hash.add_number(static_cast<uint64_t>(spec_.d_model));
  hash.add_number(spec_.eps);
  hash.add(spec_.layers);
  hash.add_number(static_cast<uint8_t>(spec_.final_tap));
  hash.add_number(static_cast<uint64_t>(spec_.rank));
  hash.add_number(spec_.seed);
  hash.add(a_);
  hash.add(mu_);
  hash.add(inverse_sigma_);
  hash_ = hash.finish();
}

Result<BasisBuilder> BasisBuilder::make(BasisSpec spec) {
  RETURN_IF_ERROR(spec.validate());
  BasisBuilder builder;
  AdapterBasis& basis = builder.basis_;
  basis.spec_ = std::move(spec);
  basis.name_taps();
  const size_t n_taps = basis.tap_layers_.size(), rank = basis.spec_.rank, d = basis.spec_.d_model;
  for (size_t tap = 0; tap < n_taps; ++tap) {
    const bool hook = tap < basis.spec_.layers.size();
    FieldHash hash;
    hash.add(basis.spec_.model.data(), basis.spec_.model.size());
    hash.add_number(hook ? static_cast<uint64_t>(basis.spec_.layers[tap])
                         : static_cast<uint64_t>(basis.spec_.n_layers));
    hash.add_number(basis.spec_.seed);
    const Sha256Digest digest = hash.finish();
    uint64_t seed = 0;
    for (size_t i = 0; i < sizeof seed; ++i) seed |= static_cast<uint64_t>(digest[i]) << 8 * i;
    auto rows = normal_values(seed, rank * d);
    make_orthonormal(rows, rank, d);
    for (const double value : rows) basis.a_.push_back(static_cast<float>(value));
  }
  basis.mu_.assign(n_taps * rank, 0);
  basis.inverse_sigma_.assign(n_taps * rank, 0);
  builder.sum_.assign(n_taps * rank, 0);
  builder.square_.assign(n_taps * rank, 0);
  builder.shift_.assign(n_taps * rank, 0);
  builder.projected_.resize(rank);
  return builder;
}

void BasisBuilder::add(const float* const* taps) {
  const FeatureView view = basis_.view();
  for (size_t tap = 0; tap < view.n_taps; ++tap) {
    project_tap(view, tap, taps[tap], projected_.data());
    for (size_t k = 0; k < view.rank; ++k) {
      const size_t i = tap * view.rank + k;
      if (n_tokens_ == 0) shift_[i] = static_cast<double>(projected_[k]);
      const double value = static_cast<double>(projected_[k]) - shift_[i];
      sum_[i] += value;
      square_[i] += value * value;
    }
  }
  ++n_tokens_;
}

Result<AdapterBasis> BasisBuilder::finish() && {
  if (n_tokens_ < kMinBasisTokens) {
    return fail(ErrorKind::kUsage, "learning.few_tokens",
                "basis of the adapter: expected at least {} canary tokens, found {}", kMinBasisTokens,
                n_tokens_);
  }
  const auto n = static_cast<double>(n_tokens_);
  for (size_t i = 0; i < sum_.size(); ++i) {
    const double mean = sum_[i] / n, variance = square_[i] / n - mean * mean;
    if (!std::isfinite(mean) || !std::isfinite(variance)) {
      return fail("learning.not_finite",
                  "basis of the adapter: expected finite hidden states, found NaN or infinity in feature {}",
                  i);
    }
    const double sigma = std::sqrt(std::max(variance, 0.0));
    basis_.mu_[i] = static_cast<float>(mean + shift_[i]);
    // Below rounding of the projection itself there is no variation to speak of.
    const bool varies = sigma > 1e-5 * (1e-3 + std::abs(mean + shift_[i]));
    basis_.inverse_sigma_[i] = varies ? static_cast<float>(1 / sigma) : 0;
  }
  basis_.name_contents();
  return std::move(basis_);
}

std::vector<uint8_t> AdapterBasis::bytes() const {
  const std::vector<uint32_t> info = {
      static_cast<uint32_t>(spec_.n_layers), static_cast<uint32_t>(spec_.d_model),
      static_cast<uint32_t>(spec_.rank),     spec_.final_tap ? 1u : 0u,
      static_cast<uint32_t>(spec_.seed),     static_cast<uint32_t>(spec_.seed >> 32)};
  const std::vector<uint32_t> layers(spec_.layers.begin(), spec_.layers.end());
  const std::vector<float> eps = {spec_.eps};
  ContainerWriter writer({.kind = ContainerKind::kBasis, .version = 1, .flags = 0, .model = spec_.model});
  writer.add(kInfoTag, info);
  writer.add(kEpsTag, eps);
  writer.add(kHookTag, layers);
  writer.add(kProjectionTag, a_);
  writer.add(kMeanTag, mu_);
  writer.add(kWeightTag, inverse_sigma_);
  return writer.bytes();
}

namespace {

Result<void> write_whole(const std::filesystem::path& file, std::span<const uint8_t> bytes) {
  ASSIGN_OR_RETURN(auto output, OutputFile::create(file, true));
  RETURN_IF_ERROR(output.write(bytes));
  return output.commit();
}

}  // namespace

Result<void> AdapterBasis::save(const std::filesystem::path& file) const {
  return write_whole(file, bytes());
}

Result<AdapterBasis> AdapterBasis::parse(std::span<const uint8_t> bytes, std::string_view name,
                                         const Sha256Digest& model) {
  const ContainerExpect expect = {.kind = ContainerKind::kBasis,
                                  .max_version = 1,
                                  .known_flags = 0,
                                  .known_tags = kBasisTags,
                                  .model = model};
  ASSIGN_OR_RETURN(const Container container, Container::parse(bytes, name, expect));
  ASSIGN_OR_RETURN(const auto info, container.read<uint32_t>(kInfoTag, 6));
  ASSIGN_OR_RETURN(const auto eps, container.read<float>(kEpsTag, 1));
  ASSIGN_OR_RETURN(const uint64_t n_layers, container.count<uint32_t>(kHookTag));
  if (n_layers > kMaxHooks || info[3] > 1) {
    return fail("basis.shape", "{}: expected at most {} hooks and a final tap of 0 or 1, found {} and {}",
                name, kMaxHooks, n_layers, info[3]);
  }
  ASSIGN_OR_RETURN(const auto layers, container.read<uint32_t>(kHookTag, n_layers));
  AdapterBasis basis;
  BasisSpec& spec = basis.spec_;
  spec.model = model;
  spec.n_layers = info[0];
  spec.d_model = info[1];
  spec.rank = info[2];
  spec.final_tap = info[3] == 1;
  spec.seed = info[4] | static_cast<uint64_t>(info[5]) << 32;
  spec.eps = eps[0];
  for (const uint32_t layer : layers) spec.layers.push_back(static_cast<int>(std::min(layer, kMaxLayers)));
  if (const auto valid = spec.validate(); !valid)
    return fail("basis.shape", "{}: {}", name, valid.error().message);
  basis.name_taps();
  const size_t n_rows = spec.n_taps() * spec.rank;
  ASSIGN_OR_RETURN(basis.a_, container.read<float>(kProjectionTag, n_rows * spec.d_model));
  ASSIGN_OR_RETURN(basis.mu_, container.read<float>(kMeanTag, n_rows));
  ASSIGN_OR_RETURN(basis.inverse_sigma_, container.read<float>(kWeightTag, n_rows));
  // Values no basis has would make features overflow: |A n| is at most sqrt(d).
  const auto within = [](std::span<const float> values, float low, float high) {
    return std::all_of(values.begin(), values.end(), [&](float x) { return x >= low && x <= high; });
  };
  const float longest = 1.001f * std::sqrt(static_cast<float>(spec.d_model));
  if (!within(basis.a_, -1.001f, 1.001f) || !within(basis.mu_, -longest, longest) ||
      !within(basis.inverse_sigma_, 0, std::numeric_limits<float>::max())) {
    return fail(
        "basis.values",
        "{}: expected rows of length 1, means of at most sqrt({}) and weights of at least 0, found others",
        name, spec.d_model);
  }
  basis.name_contents();
  return basis;
}

Result<AdapterBasis> AdapterBasis::load(const std::filesystem::path& file, const Sha256Digest& model) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_file(file, kMaxFileBytes));
  return parse(bytes, file.string(), model);
}

// ---- Adapter.

Result<Adapter> Adapter::make(std::shared_ptr<const AdapterBasis> basis, std::vector<float> b) {
  CHECK(basis != nullptr);
  if (b.size() != basis->n_features() * basis->d()) {
    return fail(ErrorKind::kUsage, "learning.dim_mismatch", "adapter: expected {} x {} values, found {}",
                basis->n_features(), basis->d(), b.size());
  }
  if (!all_finite(b))
    return fail("learning.not_finite", "adapter: expected finite values, found NaN or infinity");
  Adapter adapter;
  adapter.zero_ = std::all_of(b.begin(), b.end(), [](float value) { return value == 0; });
  FieldHash hash;
  hash.add("ruvltra-adapter-v1");
  hash.add(basis->spec().model.data(), basis->spec().model.size());
  hash.add(basis->hash().data(), basis->hash().size());
  hash.add_number(static_cast<uint32_t>(basis->spec().rank));
  hash.add_number(basis->scale());
  hash.add(b);
  adapter.hash_ = hash.finish();
  adapter.basis_ = std::move(basis);
  adapter.b_ = std::move(b);
  return adapter;
}

Adapter Adapter::zero(std::shared_ptr<const AdapterBasis> basis) {
  std::vector<float> b(basis->n_features() * basis->d(), 0.0f);
  auto adapter = make(std::move(basis), std::move(b));
  CHECK(adapter.has_value());
  return std::move(*adapter);
}

AdapterView Adapter::view() const {
  return {.features = basis_->view(), .b = zero_ ? nullptr : b_.data(), .scale = basis_->scale()};
}

std::vector<uint8_t> Adapter::bytes() const {
  ContainerWriter writer(
      {.kind = ContainerKind::kAdapter, .version = 1, .flags = 0, .model = basis_->spec().model});
  writer.add_bytes(kBasisHashTag, SectionType::kBytes, basis_->hash());
  writer.add_bytes(kHashTag, SectionType::kBytes, hash_);
  writer.add(kBTag, b_);
  return writer.bytes();
}

Result<void> Adapter::save(const std::filesystem::path& file) const { return write_whole(file, bytes()); }

Result<Adapter> Adapter::parse(std::span<const uint8_t> bytes, std::string_view name,
                               std::shared_ptr<const AdapterBasis> basis) {
  const ContainerExpect expect = {.kind = ContainerKind::kAdapter,
                                  .max_version = 1,
                                  .known_flags = 0,
                                  .known_tags = kAdapterTags,
                                  .model = basis->spec().model};
  ASSIGN_OR_RETURN(const Container container, Container::parse(bytes, name, expect));
  ASSIGN_OR_RETURN(const auto basis_hash, container.section(kBasisHashTag, SectionType::kBytes));
  ASSIGN_OR_RETURN(const auto own_hash, container.section(kHashTag, SectionType::kBytes));
  if (!std::ranges::equal(basis_hash, basis->hash())) {
    return fail("learning.model_mismatch", "{}: expected an adapter of basis {}, found one of another", name,
                to_hex(basis->hash()).substr(0, 12));
  }
  const uint64_t n_values = basis->n_features() * basis->d();
  ASSIGN_OR_RETURN(auto b, container.read<float>(kBTag, n_values));
  ASSIGN_OR_RETURN(Adapter adapter, make(std::move(basis), std::move(b)));
  if (!std::ranges::equal(own_hash, adapter.hash())) {
    return fail("adapter.hash", "{}: expected content {}, found another", name,
                to_hex(adapter.hash()).substr(0, 12));
  }
  return adapter;
}

Result<Adapter> Adapter::load(const std::filesystem::path& file, std::shared_ptr<const AdapterBasis> basis) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_file(file, kMaxFileBytes));
  return parse(bytes, file.string(), std::move(basis));
}

}  // namespace ruvltra
