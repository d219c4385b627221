// Files of MicroLoRA: whatever the bytes, reading ends in an error, or in a basis or adapter that computes
// without leaving its arrays and whose delta is finite and within its bound. Hashes keep plain mutations out,
// so the input is also tried with its hashes repaired.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/container.h"
#include "container_repair.h"
#include "sona/micro_lora.h"

namespace {

using namespace ruvltra;

constexpr Sha256Digest kModel = {7};
constexpr size_t kWidth = 32;
constexpr size_t kMostValues = 1 << 16;  // of a tap: a huge basis is valid, but slow to try

// The basis that adapters of the corpus were made for, but for rounding of another mathematical library.
std::shared_ptr<const AdapterBasis> own_basis() {
  static const auto basis = [] {
    BasisSpec spec;
    spec.model = kModel;
    spec.n_layers = 4;
    spec.d_model = kWidth;
    spec.layers = {1, 2};
    spec.rank = 2;
    auto builder = BasisBuilder::make(spec);
    CHECK(builder.has_value());
    std::vector<float> x(kWidth);
    const float* taps[] = {x.data(), x.data(), x.data()};
    for (size_t t = 0; t < kMinBasisTokens; ++t) {
      for (size_t i = 0; i < kWidth; ++i) x[i] = static_cast<float>((t * 31 + i * i * 7) % 101) - 50;
      builder->add(taps);
    }
    auto made = std::move(*builder).finish();
    CHECK(made.has_value());
    return std::make_shared<const AdapterBasis>(std::move(*made));
  }();
  return basis;
}

void use(const AdapterView& view) {
  const FeatureView& features = view.features;
  const size_t d = features.d_model;
  if (d > kMostValues) return;
  std::vector<float> x(d), phi(features.n_features()), delta(d);
  for (size_t i = 0; i < d; ++i) x[i] = static_cast<float>(i % 17) - 8;
  const std::vector<const float*> taps(features.n_taps, x.data());
  adapter_features(features, taps.data(), phi.data());
  for (const float value : phi) CHECK(std::abs(value) <= kFeatureClip);
  if (view.is_zero()) return;
  const DeltaNorms norms = adapter_delta(view, phi.data(), x.data(), delta.data());
  CHECK(euclidean_norm(delta.data(), d) <= 1.001 * kMaxDeltaRatio * norms.hidden);
}

void parse(std::span<const uint8_t> bytes) {
  if (const auto basis = AdapterBasis::parse(bytes, "fuzz", kModel)) {
    CHECK(basis->n_features() == basis->spec().n_taps() * basis->spec().rank + 1);
    use({.features = basis->view(), .b = nullptr, .scale = basis->scale()});
    const auto again = AdapterBasis::parse(basis->bytes(), "fuzz", kModel);
    CHECK(again && again->hash() == basis->hash());
  } else {
    CHECK(!basis.error().id.empty() && !basis.error().message.empty());
  }
  if (const auto adapter = Adapter::parse(bytes, "fuzz", own_basis())) {
    use(adapter->view());
    const auto again = Adapter::parse(adapter->bytes(), "fuzz", own_basis());
    CHECK(again && again->hash() == adapter->hash());
  } else {
    CHECK(!adapter.error().id.empty() && !adapter.error().message.empty());
  }
}

// The basis' hash and the adapter's own are part of the content.
void repair(std::vector<uint8_t>& file) {
  fuzzing::repair_container(file, kModel, [](std::span<const fuzzing::Section> sections) {
    std::vector<float> b;
    for (const fuzzing::Section& section : sections) {
      if (section.tag == section_tag("BASH") && section.bytes.size() == 32)
        std::memcpy(section.bytes.data(), own_basis()->hash().data(), 32);
      if (section.tag != section_tag("BETA") || section.bytes.empty()) continue;
      b.resize(section.bytes.size() / sizeof(float));
      std::memcpy(b.data(), section.bytes.data(), b.size() * sizeof(float));
    }
    const auto adapter = Adapter::make(own_basis(), b);
    for (const fuzzing::Section& section : sections) {
      if (section.tag == section_tag("HASH") && section.bytes.size() == 32 && adapter)
        std::memcpy(section.bytes.data(), adapter->hash().data(), 32);
    }
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  parse({data, size});
  std::vector<uint8_t> file(data, data + size);
  repair(file);
  parse(file);
  return 0;
}
