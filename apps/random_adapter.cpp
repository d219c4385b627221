#include "random_adapter.h"

#include <random>
#include <utility>
#include <vector>

#include "base/fail.h"

namespace ruvltra {

Result<std::shared_ptr<const AdapterBasis>> random_basis(const BasisSpec& spec) {
  ASSIGN_OR_RETURN(BasisBuilder builder, BasisBuilder::make(spec));
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(spec.d_model * spec.n_taps());
  std::vector<const float*> taps;
  for (size_t t = 0; t < spec.n_taps(); ++t) taps.push_back(x.data() + t * spec.d_model);
  for (size_t i = 0; i < kMinBasisTokens; ++i) {
    for (float& value : x) value = normal(random);
    builder.add(taps.data());
  }
  ASSIGN_OR_RETURN(AdapterBasis basis, std::move(builder).finish());
  return std::make_shared<const AdapterBasis>(std::move(basis));
}

Result<std::shared_ptr<const Adapter>> random_adapter(std::shared_ptr<const AdapterBasis> basis,
                                                      uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.01f);
  std::vector<float> b(basis->n_features() * basis->d());
  for (float& value : b) value = normal(random);
  ASSIGN_OR_RETURN(Adapter adapter, Adapter::make(std::move(basis), std::move(b)));
  return std::make_shared<const Adapter>(std::move(adapter));
}

}  // namespace ruvltra
