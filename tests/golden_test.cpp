// The forward pass against an independent float64 implementation (tests/golden/README.md): the residual
// stream after each layer, so that a failure names the first wrong layer, and the logits of every shipped
// quantisation.
#include "loaded_model.h"

namespace ruvltra {
namespace {

constexpr int kThreads = 2;

std::vector<TokenId> golden_ids() { return read_ids(source_path("tests/golden/ids.txt")); }

// The stored values are f32; ours pass through a few thousand f32 roundings.
constexpr double kExactLayerNmse = 1e-11;
constexpr double kF16CacheLayerNmse = 3e-7;

void expect_layers(LoadedTestModel& model, bool exact, double limit) {
  const auto golden = read_npy(source_path("tests/golden/nano-f16.layers.npy"));
  const auto run = model.run(golden_ids(), 0, exact, true);
  ASSERT_EQ(run.layers.size(), golden.size());
  const size_t layer_floats = golden.size() / model.weights.shape.n_layers;
  for (size_t layer = 0; layer < model.weights.shape.n_layers; ++layer) {
    const auto ours = std::span(run.layers).subspan(layer * layer_floats, layer_floats);
    const double error = nmse(ours, std::span(golden).subspan(layer * layer_floats, layer_floats));
    std::printf("layer %zu: NMSE %.2e\n", layer, error);
    ASSERT_LE(error, limit) << "first wrong layer: " << layer;
  }
}

TEST(GoldenLayers, ExactPathMatchesTheReference) {
  LoadedTestModel model(source_path("models/nano-f16.gguf"), kThreads);
  expect_layers(model, true, kExactLayerNmse);
}

TEST(GoldenLayers, DefaultPathMatchesTheReference) {
  LoadedTestModel model(source_path("models/nano-f16.gguf"), kThreads);
  expect_layers(model, false, kF16CacheLayerNmse);
}

struct GoldenFile {
  const char* model;
  const char* logits;
  double max_kl;    // default path; the gate on 4,096 tokens is tests/reference_e2e_test.py
  double max_nmse;  // default path
};

class GoldenLogits : public testing::TestWithParam<GoldenFile> {};

TEST_P(GoldenLogits, MatchTheReference) {
  const GoldenFile& golden = GetParam();
  LoadedTestModel model(source_path(golden.model), kThreads);
  const auto reference = read_npy(source_path(golden.logits));
  const size_t n_vocab = model.weights.shape.n_vocab;

  const auto exact = model.run(golden_ids(), 0, true).logits;
  const auto fast = model.run(golden_ids(), 0, false).logits;
  std::printf("%s: exact NMSE %.2e KL %.2e, default NMSE %.2e KL %.2e\n", golden.model,
              nmse(exact, reference), mean_kl(reference, exact, n_vocab), nmse(fast, reference),
              mean_kl(reference, fast, n_vocab));
  EXPECT_LE(nmse(exact, reference), 1e-8);
  EXPECT_LE(mean_kl(reference, exact, n_vocab), 1e-8);
  EXPECT_LE(nmse(fast, reference), golden.max_nmse);
  EXPECT_LE(mean_kl(reference, fast, n_vocab), golden.max_kl);
}

INSTANTIATE_TEST_SUITE_P(
    Nano, GoldenLogits,
    testing::Values(
        GoldenFile{"models/nano-f16.gguf", "tests/golden/nano-f16.logits.npy", 1e-6, 1e-6},
        GoldenFile{"tests/golden/nano-Q8_0.gguf", "tests/golden/nano-Q8_0.logits.npy", 4e-4, 1e-3},
        GoldenFile{"tests/golden/nano-Q5_K_M.gguf", "tests/golden/nano-Q5_K_M.logits.npy", 1e-3, 1e-3},
        GoldenFile{"tests/golden/nano-Q4_K_M.gguf", "tests/golden/nano-Q4_K_M.logits.npy", 1e-3, 1e-3}),
    [](const auto& param) {
      std::string name =
          std::string(param.param.model).substr(std::string(param.param.model).find("nano-") + 5);
      return name.substr(0, name.find('.'));
    });

}  // namespace
}  // namespace ruvltra
