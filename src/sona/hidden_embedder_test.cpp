#include "sona/hidden_embedder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <fstream>
#include <functional>

#include "base/fail.h"
#include "sona/bundled_texts.h"

namespace ruvltra {
namespace {

constexpr size_t kWidth = 32;
constexpr Sha256Digest kModel = {7};

// Numbers that depend on text and layer alone, and a count of the passes.
struct Passes {
  std::atomic<int> n{0};
  std::vector<int> last_layers;
  PooledStates states() {
    return [this](std::string_view text, std::span<const int> layers) -> Result<std::vector<float>> {
      if (text.empty()) return fail(ErrorKind::kUsage, "learning.empty_text", "text: empty");
      ++n;
      last_layers.assign(layers.begin(), layers.end());
      std::vector<float> out;
      for (const int layer : layers) {
        for (size_t i = 0; i < kWidth; ++i) {
          const size_t bits = std::hash<std::string>()(std::string(text) + "/" + std::to_string(layer) + "/" +
                                                       std::to_string(i));
          out.push_back(static_cast<float>(bits % 1000) / 1000.0f);
        }
      }
      return out;
    };
  }
};

class HiddenEmbedderTest : public testing::Test {
 protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() / ("ruvltra-embedder-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  HookBasis basis(std::vector<int> layers) {
    return *load_or_fit_basis(folder / "b", kModel, layers, kWidth, passes.states(), {});
  }
  Passes passes;
  std::filesystem::path folder;
};

TEST_F(HiddenEmbedderTest, TheBasisIsFittedOnceAndKept) {
  size_t n_told = 0;
  const std::vector<int> layers = {1, 2, 3};
  const auto count = [&](size_t done, size_t total) {
    n_told += done <= total;
    return true;
  };
  const uint64_t space =
      load_or_fit_basis(folder / "b", kModel, layers, kWidth, passes.states(), count)->space();
  const auto n_texts = static_cast<int>(whitening_texts().size());
  EXPECT_EQ(passes.n, n_texts);
  EXPECT_EQ(n_told, whitening_texts().size());
  EXPECT_EQ(load_or_fit_basis(folder / "b", kModel, layers, kWidth, passes.states(), {})->space(), space);
  EXPECT_EQ(passes.n, n_texts);
  std::ofstream(folder / "b", std::ios::trunc) << "damaged";
  EXPECT_EQ(load_or_fit_basis(folder / "b", kModel, layers, kWidth, passes.states(), {})->space(), space);
  EXPECT_EQ(passes.n, 2 * n_texts);
}

TEST_F(HiddenEmbedderTest, FittingCanBeStopped) {
  const auto stopped = load_or_fit_basis(folder / "b", kModel, std::vector{1, 2}, kWidth, passes.states(),
                                         [](size_t done, size_t) { return done < 3; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().id, "basis.cancelled");
  EXPECT_EQ(stopped.error().kind, ErrorKind::kCancelled);
  EXPECT_EQ(passes.n, 3);
  EXPECT_FALSE(std::filesystem::exists(folder / "b"));
}

TEST_F(HiddenEmbedderTest, StopsAtTheEmbeddingLayer) {
  for (const auto& [layers, at] :
       {std::pair<std::vector<int>, int>{{8, 16, 24}, 16}, {{8, 16, 24, 28}, 16}, {{5}, 5}, {{5, 9}, 5}}) {
    std::filesystem::remove(folder / "b");
    HiddenEmbedder embedder(basis(layers), passes.states());
    ASSERT_TRUE(embedder.embed("a text", "t"));
    EXPECT_EQ(passes.last_layers, std::vector{at});
  }
}

TEST_F(HiddenEmbedderTest, TheCacheIsTheTenantsOwnAndBounded) {
  HiddenEmbedder embedder(basis({1, 2}), passes.states());
  const int before = passes.n;
  const Embedding first = *embedder.embed("one", "a");
  EXPECT_EQ(embedder.embed("one", "a")->values, first.values);
  EXPECT_EQ(passes.n, before + 1);
  EXPECT_FALSE(embedder.cached("one", "b", nullptr));
  EXPECT_EQ(embedder.embed("one", "b")->values, first.values);
  EXPECT_EQ(passes.n, before + 2);
  Embedding hit;
  ASSERT_TRUE(embedder.cached("one", "a", &hit));
  EXPECT_EQ(hit.values, first.values);
  EXPECT_EQ(hit.space, embedder.space());
  for (size_t i = 0; i < HiddenEmbedder::kCacheEntries - 1; ++i) {
    ASSERT_TRUE(embedder.embed("text " + std::to_string(i), "a"));
    if (i % 100 == 0) {
      ASSERT_TRUE(embedder.cached("one", "a", nullptr));  // stays, being used
    }
  }
  EXPECT_FALSE(embedder.cached("one", "b", nullptr));
  EXPECT_TRUE(embedder.cached("one", "a", nullptr));
}

TEST_F(HiddenEmbedderTest, HooksAgreeWithTextEmbeddings) {
  HiddenEmbedder embedder(basis({1, 2, 3}), passes.states());
  const HookState state = *embedder.embed_hooks("a text");
  EXPECT_EQ(state.space, embedder.space());
  EXPECT_EQ(state.layers, (std::vector{1, 2, 3}));
  ASSERT_EQ(state.values.size(), 3 * kEmbeddingDim);
  const auto at = static_cast<std::ptrdiff_t>(embedder.embed_at() * kEmbeddingDim);
  EXPECT_EQ(std::vector<float>(state.values.begin() + at, state.values.begin() + at + kEmbeddingDim),
            embedder.embed("a text", "t")->values);
}

TEST_F(HiddenEmbedderTest, RefusesWhatHasNoEmbedding) {
  HiddenEmbedder embedder(basis({1}), passes.states());
  EXPECT_EQ(embedder.embed("", "t").error().id, "learning.empty_text");
  EXPECT_EQ(embedder.embed(std::string(HiddenEmbedder::kMaxTextBytes + 1, 'a'), "t").error().id,
            "learning.text_too_long");
}

}  // namespace
}  // namespace ruvltra
