#include "engine/session.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "base/threads.h"
#include "gguf/reader.h"
#include "kernels/dispatch.h"
#include "model/weights.h"

namespace ruvltra {
namespace {

const std::filesystem::path kModel = std::filesystem::path(RUVLTRA_SOURCE_DIR) / "models" / "nano-q8_0.gguf";

// The bundled model, loaded once for all tests.
struct Model {
  ThreadPool pool{2};
  Ctx ctx;
  Weights weights;
  Tokenizer tokenizer;

  static Result<std::unique_ptr<Model>> load() {
    ASSIGN_OR_RETURN(const KernelTable* kernels, kernel_table());
    ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(kModel));
    ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::load(file.metadata()));
    ThreadPool loading(1);
    ASSIGN_OR_RETURN(Weights weights, Weights::load(Ctx{&loading, kernels}, file));
    auto model = std::unique_ptr<Model>(
        new Model{.ctx = {}, .weights = std::move(weights), .tokenizer = std::move(tokenizer)});
    model->ctx = Ctx{&model->pool, kernels};
    return model;
  }
};

class SessionTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto loaded = Model::load();
    if (loaded) model = std::move(*loaded).release();
  }
  static void TearDownTestSuite() {
    delete model;
    model = nullptr;
  }
  void SetUp() override {
    if (model == nullptr) GTEST_SKIP() << "the bundled model is missing";
  }

  static Session make(size_t n_context, size_t prefill_rows = 256) {
    auto session = Session::make(model->ctx, model->weights, model->tokenizer,
                                 {.n_context = n_context, .prefill_rows = prefill_rows});
    EXPECT_TRUE(session.has_value());
    return std::move(*session);
  }
  static std::vector<TokenId> tokens(std::string_view text) {
    return *model->tokenizer.encode(text, Recognise::kUserDefined);
  }
  static GenerateParams params(int max_tokens, uint64_t seed = 7) {
    GenerateParams out;
    out.max_tokens = max_tokens;
    out.seed = seed;
    return out;
  }
  static Model* model;
};
Model* SessionTest::model = nullptr;

constexpr std::string_view kOpening = "Once upon a time there was an old king who had three sons";

TEST_F(SessionTest, PiecesAreTheText) {
  Session session = make(256);
  std::string pieces;
  GenerateHooks hooks;
  hooks.on_text = [&](std::string_view piece) {
    EXPECT_FALSE(piece.empty());
    pieces += piece;
    return true;
  };
  const auto out = session.generate(tokens(kOpening), params(40), hooks);
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(pieces, out->text);
  EXPECT_EQ(out->text, model->tokenizer.decode(out->tokens, false));
  EXPECT_EQ(out->tokens.size(), 40u);
  EXPECT_EQ(out->finish_reason, FinishReason::kLength);
  EXPECT_EQ(out->n_prompt, tokens(kOpening).size());
  EXPECT_GE(out->timings.first_token_seconds, out->timings.prompt_seconds);
}

TEST_F(SessionTest, WithoutATokenNoTimeToGenerate) {
  Session session = make(256);
  const auto out = session.generate(tokens(kOpening), params(0), {});
  ASSERT_TRUE(out.has_value());
  EXPECT_TRUE(out->tokens.empty());
  EXPECT_GT(out->timings.prompt_seconds, 0.0);
  EXPECT_EQ(out->timings.generate_seconds, 0.0);
  EXPECT_EQ(out->timings.first_token_seconds, 0.0);
}

// Greedy requests find the likeliest token while the output matrix is read, others in a row of logits.
TEST_F(SessionTest, GreedyTokensAreTheSameWithAndWithoutARowOfLogits) {
  Session session = make(256);
  auto greedy = params(60);
  greedy.temperature = 0;
  const auto found = session.generate(tokens(kOpening), greedy, {});
  ASSERT_TRUE(found.has_value());
  greedy.n_logprobs = 1;
  const auto expected = session.generate(tokens(kOpening), greedy, {});
  ASSERT_TRUE(expected.has_value());
  EXPECT_EQ(found->tokens, expected->tokens);
  EXPECT_EQ(found->tokens.size(), 60u);
}

TEST_F(SessionTest, CacheAndChunksChangeNothing) {
  const auto prompt = tokens(kOpening);
  auto with_logprobs = params(24);
  with_logprobs.n_logprobs = 2;
  Session cold = make(256);
  const auto expected = cold.generate(prompt, with_logprobs, {});
  ASSERT_TRUE(expected.has_value());
  EXPECT_EQ(expected->n_cached, 0u);

  Session chunked = make(256, 3);
  ASSERT_TRUE(chunked.generate(tokens("Once upon a time there was a fox"), params(8), {}).has_value());
  const auto warm = chunked.generate(prompt, with_logprobs, {});
  ASSERT_TRUE(warm.has_value());
  EXPECT_EQ(warm->n_cached, tokens("Once upon a time there was").size());
  EXPECT_EQ(warm->tokens, expected->tokens);
  for (size_t i = 0; i < warm->logprobs.size(); ++i) {
    EXPECT_EQ(warm->logprobs[i].logprob, expected->logprobs[i].logprob) << i;
    EXPECT_EQ(warm->logprobs[i].top[1].token, expected->logprobs[i].top[1].token) << i;
  }
  const auto again = chunked.generate(prompt, with_logprobs, {});
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->n_cached, prompt.size() - 1);
  EXPECT_EQ(again->tokens, expected->tokens);
}

TEST_F(SessionTest, SeedsDecide) {
  Session session = make(256);
  const auto prompt = tokens(kOpening);
  const auto first = session.generate(prompt, params(24, 7), {});
  EXPECT_EQ(first->tokens, session.generate(prompt, params(24, 7), {})->tokens);
  EXPECT_NE(first->tokens, session.generate(prompt, params(24, 8), {})->tokens);
  auto unseeded = params(24);
  unseeded.seed.reset();
  const auto drawn = session.generate(prompt, unseeded, {});
  EXPECT_EQ(drawn->tokens, session.generate(prompt, params(24, drawn->seed), {})->tokens);
}

TEST_F(SessionTest, StopsBeforeAStopString) {
  Session session = make(512);
  const auto whole = session.generate(tokens(kOpening), params(60), {});
  const std::string stop = whole->text.substr(20, 9);
  auto stopping = params(60);
  stopping.stop = {stop};
  std::string pieces;
  GenerateHooks hooks;
  hooks.on_text = [&](std::string_view piece) {
    pieces += piece;
    return true;
  };
  const auto cut = session.generate(tokens(kOpening), stopping, hooks);
  EXPECT_EQ(cut->finish_reason, FinishReason::kStop);
  EXPECT_EQ(cut->text, whole->text.substr(0, whole->text.find(stop)));
  EXPECT_EQ(pieces, cut->text);
}

TEST_F(SessionTest, EndsWithTheContext) {
  const auto prompt = tokens(kOpening);
  Session session = make(prompt.size() + 5);
  const auto out = session.generate(prompt, params(1000), {});
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->tokens.size(), 5u);
  EXPECT_EQ(out->finish_reason, FinishReason::kLength);

  Session small = make(prompt.size());
  const auto refused = small.generate(prompt, params(1), {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().id, "session.prompt_too_long");
  EXPECT_EQ(small.generate({}, params(1), {}).error().id, "session.empty_prompt");
}

TEST_F(SessionTest, NoTokensWanted) {
  Session session = make(256);
  const auto out = session.generate(tokens(kOpening), params(0), {});
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->text, "");
  EXPECT_EQ(out->finish_reason, FinishReason::kLength);
}

TEST_F(SessionTest, CancelLeavesAUsableSession) {
  const auto prompt = tokens(kOpening);
  Session session = make(256, 4);
  std::atomic<bool> cancel{false};
  GenerateHooks hooks;
  hooks.cancel = &cancel;
  hooks.on_prompt = [&](uint64_t done, uint64_t total) {
    EXPECT_EQ(total, prompt.size());
    cancel = done >= 4;
    return true;
  };
  const auto stopped = session.generate(prompt, params(10), hooks);
  ASSERT_TRUE(stopped.has_value());
  EXPECT_EQ(stopped->finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(stopped->tokens.empty());
  EXPECT_EQ(session.n_tokens(), 4u);

  hooks = {};
  int pieces = 0;
  hooks.on_text = [&](std::string_view) { return ++pieces < 3; };
  const auto refused = session.generate(prompt, params(50), hooks);
  EXPECT_EQ(refused->finish_reason, FinishReason::kCancelled);
  EXPECT_LT(refused->tokens.size(), 50u);
  Session fresh = make(256);
  EXPECT_EQ(session.generate(prompt, params(20), {})->tokens, fresh.generate(prompt, params(20), {})->tokens);
}

TEST_F(SessionTest, WrongParametersAreRefused) {
  Session session = make(256);
  auto wrong = params(4);
  wrong.top_p = 0;
  const auto out = session.generate(tokens(kOpening), wrong, {});
  ASSERT_FALSE(out.has_value());
  EXPECT_EQ(out.error().kind, ErrorKind::kUsage);
}

}  // namespace
}  // namespace ruvltra
