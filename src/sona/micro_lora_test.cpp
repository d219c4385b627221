#include "sona/micro_lora.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <random>

namespace ruvltra {
namespace {

BasisSpec make_spec() {
  BasisSpec spec;
  spec.model = {1, 2, 3};
  spec.n_layers = 4;
  spec.d_model = 48;
  spec.layers = {1, 3};
  return spec;
}

// Residual streams that grow from tap to tap and have a mean; feature scales differ.
std::vector<std::vector<float>> token_taps(std::mt19937& random, size_t n_taps, size_t d) {
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> taps(n_taps, std::vector<float>(d));
  for (size_t t = 0; t < n_taps; ++t)
    for (size_t i = 0; i < d; ++i)
      taps[t][i] = static_cast<float>(1 + t) * (normal(random) + (i % 5 == 0 ? 2.0f : 0.0f));
  return taps;
}

std::vector<const float*> pointers(const std::vector<std::vector<float>>& taps) {
  std::vector<const float*> result;
  for (const auto& tap : taps) result.push_back(tap.data());
  return result;
}

Result<AdapterBasis> build(const BasisSpec& spec, size_t n_tokens = kMinBasisTokens, uint32_t seed = 6) {
  auto builder = BasisBuilder::make(spec);
  if (!builder) return tl::unexpected<Error>(builder.error());
  std::mt19937 random(seed);
  for (size_t i = 0; i < n_tokens; ++i)
    builder->add(pointers(token_taps(random, spec.n_taps(), spec.d_model)).data());
  return std::move(*builder).finish();
}

std::shared_ptr<const AdapterBasis> shared_basis(const BasisSpec& spec = make_spec()) {
  return std::make_shared<const AdapterBasis>(*build(spec));
}

std::vector<float> some_b(const AdapterBasis& basis, uint32_t seed = 9) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> b(basis.n_features() * basis.d());
  for (float& value : b) value = 0.01f * normal(random);
  return b;
}

TEST(AdapterBasisTest, SizesFollowTheSpec) {
  const AdapterBasis basis = *build(make_spec());
  EXPECT_EQ(basis.n_features(), 13u);  // 4 (2 + 1) + 1
  EXPECT_TRUE(std::ranges::equal(basis.tap_layers(), std::vector<int>{1, 3, 3}));
  EXPECT_FLOAT_EQ(basis.scale(), 1 / std::sqrt(13.0f));
  auto spec = make_spec();
  spec.final_tap = false;
  EXPECT_EQ(build(spec)->n_features(), 9u);
  EXPECT_TRUE(std::ranges::equal(build(spec)->tap_layers(), std::vector<int>{1, 3}));
}

TEST(AdapterBasisTest, RowsAreOrthonormal) {
  auto spec = make_spec();
  spec.rank = 16;
  const AdapterBasis basis = *build(spec);
  const FeatureView view = basis.view();
  for (size_t tap = 0; tap < view.n_taps; ++tap) {
    for (size_t k = 0; k < 16; ++k) {
      for (size_t l = 0; l <= k; ++l) {
        double product = 0;
        for (size_t i = 0; i < 48; ++i)
          product += static_cast<double>(view.a[(tap * 16 + k) * 48 + i]) *
                     static_cast<double>(view.a[(tap * 16 + l) * 48 + i]);
        EXPECT_NEAR(product, k == l ? 1 : 0, 1e-6);
      }
    }
  }
}

// Features of other tokens of the same kind have mean 0 and deviation 1: the clip is out of the way of most.
TEST(AdapterBasisTest, FeaturesAreStandardised) {
  const auto spec = make_spec();
  const AdapterBasis basis = *build(spec, 4000);
  std::mt19937 random(77);
  std::vector<double> sum(13), square(13);
  std::vector<float> phi(13);
  const int n = 4000;
  for (int i = 0; i < n; ++i) {
    adapter_features(basis.view(), pointers(token_taps(random, 3, 48)).data(), phi.data());
    for (size_t j = 0; j < 13; ++j) {
      sum[j] += static_cast<double>(phi[j]) / n;
      square[j] += static_cast<double>(phi[j]) * static_cast<double>(phi[j]) / n;
    }
  }
  for (size_t j = 0; j < 12; ++j) {
    EXPECT_NEAR(sum[j], 0, 0.1);
    EXPECT_NEAR(square[j], 1, 0.15);
  }
  EXPECT_NEAR(sum[12], 1, 1e-9);
}

TEST(AdapterBasisTest, AFeatureThatNeverVariesIsOff) {
  auto builder = *BasisBuilder::make(make_spec());
  const std::vector<float> still(48, 3);
  std::mt19937 random(5);
  for (size_t i = 0; i < kMinBasisTokens; ++i) {
    const auto moving = token_taps(random, 1, 48);
    const float* taps[] = {still.data(), moving[0].data(), moving[0].data()};
    builder.add(taps);
  }
  const AdapterBasis basis = *std::move(builder).finish();
  for (size_t k = 0; k < 4; ++k) EXPECT_EQ(basis.view().inverse_sigma[k], 0);
  for (size_t k = 4; k < 12; ++k) EXPECT_GT(basis.view().inverse_sigma[k], 0);
}

TEST(AdapterBasisTest, EveryInputChangesProjectionAndHash) {
  const auto a_of = [](const AdapterBasis& basis, size_t tap) {
    const FeatureView view = basis.view();
    return std::vector<float>(view.a + tap * 4 * 48, view.a + (tap + 1) * 4 * 48);
  };
  const AdapterBasis basis = *build(make_spec());
  EXPECT_EQ(build(make_spec())->hash(), basis.hash());
  // Hook 3 and the final tap read the same layer, through different projections.
  EXPECT_NE(a_of(basis, 1), a_of(basis, 2));
  EXPECT_NE(a_of(basis, 0), a_of(basis, 1));
  auto spec = make_spec();
  spec.seed = 2;
  EXPECT_NE(a_of(*build(spec), 0), a_of(basis, 0));
  spec = make_spec();
  spec.model[5] = 1;
  EXPECT_NE(a_of(*build(spec), 0), a_of(basis, 0));
  spec = make_spec();
  spec.layers = {1, 2};  // layer 1 keeps its projection, whatever stands beside it
  EXPECT_EQ(a_of(*build(spec), 0), a_of(basis, 0));
  EXPECT_NE(build(spec)->hash(), basis.hash());
  EXPECT_NE(build(make_spec(), kMinBasisTokens, 8)->hash(), basis.hash());  // other canary tokens
}

TEST(AdapterBasisTest, RefusesWhatItCannotBeMadeFor) {
  const auto refused = [](auto change) {
    BasisSpec spec = make_spec();
    change(spec);
    const auto made = BasisBuilder::make(spec);
    return made ? std::string_view("accepted") : made.error().id;
  };
  EXPECT_EQ(refused([](BasisSpec& s) { s.rank = 0; }), "learning.bad_rank");
  EXPECT_EQ(refused([](BasisSpec& s) { s.rank = 17; }), "learning.bad_rank");
  EXPECT_EQ(refused([](BasisSpec& s) { s.d_model = 3; }), "learning.bad_rank");
  EXPECT_EQ(refused([](BasisSpec& s) { s.layers = {}; }), "learning.too_many_hooks");
  EXPECT_EQ(refused([](BasisSpec& s) { s.layers = {0, 1, 2, 3, 4}; }), "learning.too_many_hooks");
  EXPECT_EQ(refused([](BasisSpec& s) { s.layers = {4}; }), "learning.hook_out_of_range");
  EXPECT_EQ(refused([](BasisSpec& s) { s.layers = {-1}; }), "learning.hook_out_of_range");
  EXPECT_EQ(refused([](BasisSpec& s) { s.layers = {2, 2}; }), "learning.hook_out_of_range");
  EXPECT_EQ(refused([](BasisSpec& s) { s.d_model = 0; }), "learning.dim_mismatch");
  EXPECT_EQ(refused([](BasisSpec& s) { s.eps = NAN; }), "learning.dim_mismatch");
  EXPECT_EQ(build(make_spec(), kMinBasisTokens - 1).error().id, "learning.few_tokens");
  auto builder = *BasisBuilder::make(make_spec());
  std::mt19937 random(5);
  for (size_t i = 0; i < kMinBasisTokens; ++i) {
    auto taps = token_taps(random, 3, 48);
    if (i == 700) taps[1][3] = NAN;
    builder.add(pointers(taps).data());
  }
  EXPECT_EQ(std::move(builder).finish().error().id, "learning.not_finite");
}

class AdapterFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() / ("ruvltra-adapter-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::filesystem::path folder;
};

TEST_F(AdapterFileTest, ABasisComesBackAsItWas) {
  const AdapterBasis basis = *build(make_spec());
  const auto file = folder / "basis.rvc";
  ASSERT_TRUE(basis.save(file));
  const auto loaded = AdapterBasis::load(file, make_spec().model);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->hash(), basis.hash());
  EXPECT_EQ(loaded->bytes(), basis.bytes());
  EXPECT_TRUE(std::ranges::equal(loaded->tap_layers(), basis.tap_layers()));
  EXPECT_EQ(AdapterBasis::load(file, Sha256Digest{4}).error().id, "container.model_mismatch");
  EXPECT_EQ(AdapterBasis::load(folder / "none", make_spec().model).error().id, "file.not_found");
}

TEST_F(AdapterFileTest, AnAdapterComesBackAsItWas) {
  const auto basis = shared_basis();
  const Adapter adapter = *Adapter::make(basis, some_b(*basis));
  const auto file = folder / "adapter.rvc";
  ASSERT_TRUE(adapter.save(file));
  const auto loaded = Adapter::load(file, basis);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->hash(), adapter.hash());
  EXPECT_TRUE(std::ranges::equal(loaded->b(), adapter.b()));
  EXPECT_EQ(loaded->view().b, loaded->b().data());
  EXPECT_FALSE(loaded->is_zero());
}

TEST_F(AdapterFileTest, AnAdapterServesItsOwnModelAndBasisOnly) {
  const auto basis = shared_basis();
  const auto bytes = Adapter::make(basis, some_b(*basis))->bytes();
  auto spec = make_spec();
  spec.seed = 2;
  EXPECT_EQ(Adapter::parse(bytes, "x", shared_basis(spec)).error().id, "learning.model_mismatch");
  spec = make_spec();
  spec.model[0] = 9;
  EXPECT_EQ(Adapter::parse(bytes, "x", shared_basis(spec)).error().id, "container.model_mismatch");
  EXPECT_FALSE(Adapter::parse(basis->bytes(), "x", basis));  // a basis is no adapter
  EXPECT_FALSE(AdapterBasis::parse(bytes, "x", make_spec().model));
}

// Every byte of a file counts: none can change, and no part can be missing, unseen.
TEST_F(AdapterFileTest, NoDamageGoesUnseen) {
  const auto basis = shared_basis();
  const auto bytes = Adapter::make(basis, some_b(*basis))->bytes();
  for (size_t at = 0; at < bytes.size(); at += 7) {
    auto damaged = bytes;
    damaged[at] ^= 0x10;
    EXPECT_FALSE(Adapter::parse(damaged, "x", basis)) << at;
  }
  for (size_t size = 0; size < bytes.size(); size += 97)
    EXPECT_FALSE(Adapter::parse(std::span(bytes).first(size), "x", basis)) << size;
}

TEST(MicroLoraTest, RefusesWrongSizesAndValues) {
  const auto basis = shared_basis();
  auto b = some_b(*basis);
  b.pop_back();
  EXPECT_EQ(Adapter::make(basis, b).error().id, "learning.dim_mismatch");
  b.push_back(INFINITY);
  EXPECT_EQ(Adapter::make(basis, b).error().id, "learning.not_finite");
}

TEST(MicroLoraTest, TheHashNamesBasisAndValues) {
  const auto basis = shared_basis();
  const auto b = some_b(*basis);
  const Sha256Digest hash = Adapter::make(basis, b)->hash();
  EXPECT_EQ(Adapter::make(basis, b)->hash(), hash);
  auto other = b;
  other[17] = std::nextafter(other[17], 1.0f);
  EXPECT_NE(Adapter::make(basis, other)->hash(), hash);
  auto spec = make_spec();
  spec.seed = 2;
  EXPECT_NE(Adapter::make(shared_basis(spec), b)->hash(), hash);
}

TEST(MicroLoraTest, TheZeroAdapterIsNone) {
  const Adapter zero = Adapter::zero(shared_basis());
  EXPECT_TRUE(zero.is_zero());
  EXPECT_TRUE(zero.view().is_zero());
}

}  // namespace
}  // namespace ruvltra
