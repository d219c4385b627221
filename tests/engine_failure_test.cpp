// A sequence whose numbers overflow fails alone: its neighbours, and those who get its pages later, say what
// they always say.
#include <cstring>
#include <filesystem>

#include "engine/engine_loop.h"
#include "loaded_model.h"
#include "tiny_model.h"

namespace ruvltra {
namespace {

constexpr TokenId kOverflowing = 7;

// Attention adds 2e38 to the first dimension of every row. The embedding of one token is so large there that
// the sum is infinite, and NaN from the next norm on.
testing::TinyModel overflowing_model() {
  testing::TinyModel model = testing::tiny_model(TensorType::kF32, false);
  const auto set = [&](const char* name, size_t index, float value) {
    std::memcpy(model.tensor(name).data.data() + index * sizeof(float), &value, sizeof value);
  };
  set("blk.0.attn_v.bias", 0, 60000.0f);
  set("blk.0.attn_output.weight", 0, 2e38f / 60000.0f);
  set("token_embd.weight", kOverflowing * 64, 3e38f);
  return model;
}

struct Found {
  std::vector<TokenId> tokens;
  Outcome outcome;
};

Found read(TokenStream& stream) {
  Found found;
  StreamItem item;
  while (stream.take(item)) {
    if (item.outcome) {
      found.outcome = *item.outcome;
    } else {
      found.tokens.push_back(item.token.token);
    }
  }
  return found;
}

class EngineFailure : public ::testing::TestWithParam<float> {};

TEST_P(EngineFailure, NumbersThatAreNotFiniteFailOneSequence) {
  const auto path = std::filesystem::path(::testing::TempDir()) / "overflowing.gguf";
  ASSERT_TRUE(overflowing_model().write(path));
  ThreadPool pool(2);
  const Ctx ctx{&pool, *kernel_table()};
  const GgufFile file = std::move(*GgufFile::open(path));
  const Tokenizer tokenizer = std::move(*Tokenizer::load(file.metadata()));
  auto weights = Weights::load(ctx, file);
  ASSERT_TRUE(weights) << weights.error().message;

  GenerateParams params;
  params.max_tokens = 40;
  params.seed = 3;
  params.temperature = GetParam();
  params.logit_bias.push_back({kOverflowing, -100.0f});
  if (GetParam() == 0) params.logit_bias.clear();  // likeliest token, without a row of logits
  const std::vector<TokenId> good(30, 20);
  std::vector<TokenId> bad(60, 21);
  bad.back() = kOverflowing;

  EngineLoop::Options options;
  options.steps.max_positions = 128;
  options.steps.n_pages = 4;
  const auto alone = [&] {
    auto loop = std::move(*EngineLoop::start(ctx, *weights, tokenizer, options));
    return read(*loop->submit(good, params, {})->stream);
  }();
  ASSERT_EQ(alone.tokens.size(), 40u);

  auto loop = std::move(*EngineLoop::start(ctx, *weights, tokenizer, options));
  for (int round = 0; round < 4; ++round) {
    const auto failing = *loop->submit(bad, params, {});
    const auto neighbour = *loop->submit(good, params, {});
    const Found failed = read(*failing.stream);
    EXPECT_EQ(failed.outcome.reason, FinishReason::kFailed);
    ASSERT_TRUE(failed.outcome.error);
    EXPECT_EQ(failed.outcome.error->id, "sampler.not_finite");
    const Found found = read(*neighbour.stream);
    EXPECT_EQ(found.outcome.reason, FinishReason::kLength);
    EXPECT_EQ(found.tokens, alone.tokens) << "round " << round;
  }
  std::filesystem::remove(path);
}

INSTANTIATE_TEST_SUITE_P(Temperatures, EngineFailure, ::testing::Values(0.0f, 0.9f));

}  // namespace
}  // namespace ruvltra
