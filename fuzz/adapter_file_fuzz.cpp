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

// Puts the right size and hashes where header and table say they belong, the basis' and the adapter's own
// among them.
void repair(std::vector<uint8_t>& file) {
  if (file.size() < 96) return;
  const uint64_t size = file.size();
  std::memcpy(file.data() + 16, &size, sizeof size);
  std::memcpy(file.data() + 24, kModel.data(), kModel.size());
  uint32_t n_sections;
  std::memcpy(&n_sections, file.data() + 12, sizeof n_sections);
  n_sections = static_cast<uint32_t>(std::min<uint64_t>(n_sections, (file.size() - 96) / 56));
  struct Part {
    uint32_t tag;
    uint64_t offset, length;
  };
  std::vector<Part> parts;
  for (uint32_t i = 0; i < n_sections; ++i) {
    const uint8_t* entry = file.data() + 64 + 56 * i;
    Part part = {};
    std::memcpy(&part.tag, entry, sizeof part.tag);
    std::memcpy(&part.offset, entry + 8, sizeof part.offset);
    std::memcpy(&part.length, entry + 16, sizeof part.length);
    if (part.offset > size || part.length > size - part.offset) part.length = part.offset = 0;
    parts.push_back(part);
  }
  std::vector<float> b;
  for (const Part& part : parts) {
    if (part.tag == section_tag("BASH") && part.length == 32)
      std::memcpy(file.data() + part.offset, own_basis()->hash().data(), 32);
    if (part.tag != section_tag("BETA") || part.length == 0) continue;
    b.resize(part.length / sizeof(float));
    std::memcpy(b.data(), file.data() + part.offset, b.size() * sizeof(float));
  }
  const auto adapter = Adapter::make(own_basis(), b);
  for (const Part& part : parts) {
    if (part.tag == section_tag("HASH") && part.length == 32 && adapter)
      std::memcpy(file.data() + part.offset, adapter->hash().data(), 32);
  }
  for (uint32_t i = 0; i < n_sections; ++i) {
    const auto digest = sha256({file.data() + parts[i].offset, parts[i].length});
    std::memcpy(file.data() + 64 + 56 * i + 24, digest.data(), digest.size());
  }
  const size_t hashed = 64 + 56 * n_sections;
  const auto digest = sha256({file.data(), hashed});
  std::memcpy(file.data() + hashed, digest.data(), digest.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  parse({data, size});
  std::vector<uint8_t> file(data, data + size);
  repair(file);
  parse(file);
  return 0;
}
