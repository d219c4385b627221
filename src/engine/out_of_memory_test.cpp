// Every single allocation of the loop's thread is made to fail once: the request it was for fails, and
// nothing else changes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>

#include "base/threads.h"
#include "engine/allocations_for_test.h"
#include "engine/engine_loop.h"
#include "gguf/reader.h"
#include "kernels/dispatch.h"
#include "model/weights.h"

namespace ruvltra {
namespace {

const std::filesystem::path kModels = std::filesystem::path(RUVLTRA_SOURCE_DIR) / "models";

struct Found {
  std::vector<TokenId> tokens;
  std::vector<double> logprobs;
  std::vector<Outcome> ends;
};

// Everything a stream gives, per answer.
std::vector<Found> read(TokenStream& stream, int n) {
  std::vector<Found> found(static_cast<size_t>(n));
  StreamItem item;
  while (stream.take(item)) {
    Found& answer = found[static_cast<size_t>(item.choice)];
    if (item.outcome) {
      answer.ends.push_back(*item.outcome);
      continue;
    }
    answer.tokens.push_back(item.token.token);
    for (const TokenLogprob& top : item.token.top) answer.logprobs.push_back(top.logprob);
  }
  return found;
}

// Of what the parameter says: no speculation, or that of a source.
class OutOfMemory : public ::testing::TestWithParam<std::optional<DraftSource>> {
 protected:
  void SetUp() override {
    if (!RUVLTRA_COUNTS_ALLOCATIONS) GTEST_SKIP() << "operator new belongs to the sanitizer";
    ctx_ = {&pool_, *kernel_table()};
    const GgufFile file = std::move(*GgufFile::open(kModels / "nano-q8_0.gguf"));
    tokenizer_ = std::move(*Tokenizer::load(file.metadata()));
    weights_ = std::move(*Weights::load(ctx_, file));
    EngineLoop::Options options;
    options.steps.max_parts = 4;
    options.steps.max_rows = 64;
    options.steps.max_positions = 4096;
    options.steps.n_pages = 100;
    options.stream_tokens = 4096;
    if (const auto source = GetParam()) {
      draft_ = std::move(*Weights::load(ctx_, *GgufFile::open(kModels / "pico-q8_0.gguf")));
      options.speculation =
          SpeculativeConfig{.source = *source, .lookahead = 2, .acceptance_threshold = 0, .adaptive = false};
      if (*source != DraftSource::kLookup) options.draft = &draft_;
    }
    loop_ = std::move(*EngineLoop::start(ctx_, weights_, *tokenizer_, options));
  }

  // Never ended by a token.
  GenerateParams params(int max_tokens) const {
    GenerateParams out;
    out.max_tokens = max_tokens;
    out.seed = 5;
    out.logit_bias = {{static_cast<TokenId>(tokenizer_->eos()), -100.0f}};
    return out;
  }
  void fail_allocation_of_loop(size_t n) {
    ASSERT_TRUE(loop_->between_steps([n](Runner&) { return testing::fail_allocation(n), true; }));
  }
  std::vector<Found> ask(const std::vector<TokenId>& prompt, const GenerateParams& asked) {
    return read(*loop_->submit(prompt, asked, {})->stream, asked.n);
  }

  ThreadPool pool_{2};
  Ctx ctx_;
  std::optional<Tokenizer> tokenizer_;
  Weights weights_, draft_;
  std::unique_ptr<EngineLoop> loop_;
};

TEST_P(OutOfMemory, FailsTheRequestConcernedAndNothingElse) {
  const std::vector<TokenId> prompt(70, 11), other(30, 12);
  auto asked = params(6);
  asked.n = 2;
  asked.repeat_penalty = 1.1f;
  asked.n_logprobs = 2;
  asked.stop = {"a string that is longer than what fits into a string object itself"};
  const auto expected = ask(prompt, asked);
  const auto neighbour_expected = ask(other, params(2500))[0];
  const auto neighbour = *loop_->submit(other, params(2500), {});
  StreamItem first;
  ASSERT_TRUE(neighbour.stream->take(first)) << "from here on it allocates nothing";

  size_t n_failed = 0;
  for (size_t n = 1;; ++n) {
    ASSERT_LT(n, 2000u) << "a request allocates without end";
    const size_t before = testing::n_failed_allocations();
    fail_allocation_of_loop(n);
    const auto found = ask(prompt, asked);
    fail_allocation_of_loop(0);
    const bool any_failed = testing::n_failed_allocations() > before;
    for (size_t choice = 0; choice < 2; ++choice) {
      ASSERT_EQ(found[choice].ends.size(), 1u) << "allocation " << n;
      const Outcome& end = found[choice].ends[0];
      if (end.reason == FinishReason::kFailed) {
        EXPECT_TRUE(any_failed);
        EXPECT_EQ(end.error->id, "memory.exhausted");
        ++n_failed;
      } else {
        EXPECT_EQ(end.reason, FinishReason::kLength);
        EXPECT_EQ(found[choice].tokens, expected[choice].tokens) << "allocation " << n;
        EXPECT_EQ(found[choice].logprobs, expected[choice].logprobs) << "allocation " << n;
      }
    }
    if (!any_failed) break;
  }
  EXPECT_GT(n_failed, 20u);

  loop_->cancel(neighbour.id);
  const auto found = read(*neighbour.stream, 1)[0];
  ASSERT_EQ(found.ends.size(), 1u);
  EXPECT_NE(found.ends[0].reason, FinishReason::kFailed);
  EXPECT_GT(found.tokens.size(), 50u);
  ASSERT_LT(found.tokens.size(), neighbour_expected.tokens.size());
  EXPECT_EQ(first.token.token, neighbour_expected.tokens[0]);
  EXPECT_TRUE(std::equal(found.tokens.begin(), found.tokens.end(), neighbour_expected.tokens.begin() + 1));
  fail_allocation_of_loop(0);  // two turns later, counters are up to date
  fail_allocation_of_loop(0);
  const EngineStats stats = loop_->stats();
  EXPECT_EQ(stats.n_failed, n_failed);
  EXPECT_EQ(stats.n_running + stats.n_queued + stats.n_pages_private + stats.n_pages_shared, 0u);
  EXPECT_EQ(stats.n_pages_free + stats.n_pages_published, stats.n_pages);
  if (GetParam()) {
    EXPECT_GT(stats.speculation.n_accepted, 0u);
  }
  std::printf("%zu answers failed for want of memory, the neighbour drew %zu tokens\n", n_failed,
              found.tokens.size());
}

TEST_P(OutOfMemory, OtherWorkFailsAlone) {
  const auto lacking = loop_->between_steps([](Runner&) -> bool { throw std::bad_alloc(); });
  ASSERT_FALSE(lacking);
  EXPECT_EQ(lacking.error().id, "memory.exhausted");
  EXPECT_TRUE(loop_->between_steps([](Runner&) { return true; }));
  EXPECT_EQ(ask({1, 2, 3}, params(4))[0].tokens.size(), 4u);
}

INSTANTIATE_TEST_SUITE_P(All, OutOfMemory,
                         ::testing::Values(std::optional<DraftSource>(), DraftSource::kLookup,
                                           DraftSource::kModel, DraftSource::kAuto));

}  // namespace
}  // namespace ruvltra
