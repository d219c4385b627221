// The engine under pressure: a pool that demand exceeds four times, cancels at any moment, forks that share
// their prompt. RUVLTRA_CANCELS=5000 cancels more often.
#include <algorithm>
#include <chrono>
#include <thread>

#include "engine_reference.h"

namespace ruvltra {
namespace {

// The bundled model, loaded once for all tests.
class EngineLoad : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model = new ReferenceModel;
    ids = read_ids(source_path("tests/golden/ids4096.txt"));
  }
  static void TearDownTestSuite() { delete model; }

  // Draws exactly n_output tokens: no token may end it.
  static TestRequest request(size_t begin, size_t n_prompt, int n_output, uint64_t seed) {
    TestRequest out;
    const auto first = ids.begin() + static_cast<std::ptrdiff_t>(begin);
    out.prompt.assign(first, first + static_cast<std::ptrdiff_t>(n_prompt));
    out.params.max_tokens = n_output;
    out.params.seed = seed;
    out.params.temperature = 0.8f;
    out.params.n_logprobs = 2;
    out.params.logit_bias = {{static_cast<TokenId>(model->tokenizer->eos()), -100.0f}};
    return out;
  }

  static EngineLoop::Options options(size_t max_parts, size_t n_pages) {
    EngineLoop::Options out;
    out.steps.max_parts = max_parts;
    out.steps.max_rows = 64;
    out.steps.max_positions = 1024;
    out.steps.n_pages = n_pages;
    return out;
  }

  static EngineLoop::Ticket submit(EngineLoop& loop, const TestRequest& asked, bool use_cache = true) {
    Treatment treatment;
    treatment.use_cache = use_cache;
    auto ticket = loop.submit(asked.prompt, asked.params, treatment);
    EXPECT_TRUE(ticket) << (ticket ? "" : ticket.error().message);
    return std::move(*ticket);
  }

  // Calls look(stats) in every turn of the loop, before the step of that turn, until it says it is done. The
  // counters are those of all turns before.
  template <class Look>
  static void every_turn(EngineLoop& loop, Look&& look) {
    ASSERT_TRUE(loop.between_steps([&](Runner&) { return look(loop.stats()); }));
  }

  static EngineStats settled(EngineLoop& loop) {
    EngineStats stats;
    for (int turn = 0; turn < 3; ++turn)
      every_turn(loop, [&](const EngineStats& now) { return stats = now, true; });
    return stats;
  }

  static ReferenceModel* model;
  static std::vector<TokenId> ids;
};
ReferenceModel* EngineLoad::model = nullptr;
std::vector<TokenId> EngineLoad::ids;

// 24 answers that come to need four pages each, and 24 pages: 96 pages are wanted, so that running requests
// must give theirs back again and again.
TEST_F(EngineLoad, DemandOfFourTimesThePool) {
  constexpr size_t kPages = 24;
  for (const bool prefix_cache : {false, true}) {
    auto asked = options(12, kPages);
    asked.prefix_cache = prefix_cache;
    const auto loop = model->start(2, asked);
    std::vector<TestRequest> requests;
    std::vector<EngineLoop::Ticket> tickets;
    size_t n_wanted = 0;
    for (size_t i = 0; i < 22; ++i) {
      requests.push_back(request(40 * i, 30 + i, 200, i));
      if (i == 5) requests.back().params.n = 3;
      const size_t n_longest = requests.back().prompt.size() + 200;
      n_wanted += static_cast<size_t>(requests.back().params.n) * KvPool::pages_for(n_longest);
    }
    ASSERT_EQ(n_wanted, 4 * kPages);
    for (const TestRequest& wanted : requests) tickets.push_back(submit(*loop, wanted));
    for (size_t i = 0; i < tickets.size(); ++i) {
      const auto found = read_all(*tickets[i].stream, requests[i].params);
      for (size_t choice = 0; choice < found.size(); ++choice) {
        EXPECT_EQ(found[choice].n_ends, 1u);
        EXPECT_FALSE(found[choice].error) << found[choice].error->message;
        EXPECT_TRUE(same_bits(found[choice], model->alone(requests[i], static_cast<int>(choice))))
            << "request " << i << ", choice " << choice;
      }
    }
    const EngineStats stats = settled(*loop);
    EXPECT_EQ(stats.n_finished, 24u);
    EXPECT_EQ(stats.n_failed + stats.n_cancelled + stats.n_timeouts, 0u);
    EXPECT_GT(stats.n_preemptions, 0u);
    EXPECT_EQ(stats.n_pages_private + stats.n_pages_shared, 0u);
    EXPECT_EQ(stats.n_pages_free + stats.n_pages_published, kPages);
    EXPECT_TRUE(prefix_cache || stats.n_pages_free == kPages);
    std::printf("%zu pages wanted of %zu, prefix cache %s: %llu finished, %llu failed, %llu preemptions\n",
                n_wanted, kPages, prefix_cache ? "on" : "off",
                static_cast<unsigned long long>(stats.n_finished),
                static_cast<unsigned long long>(stats.n_failed),
                static_cast<unsigned long long>(stats.n_preemptions));
  }
}

// The step that runs when the cancel arrives is the last one a request takes part in.
TEST_F(EngineLoad, ACancelFreesPagesWithinOneStep) {
  auto asked = options(4, 40);
  asked.prefix_cache = false;
  const auto loop = model->start(2, asked);
  const TestRequest kept = request(0, 100, 200, 1);
  for (const size_t n_prompt : {150, 700}) {  // cancelled while decoding, and in the middle of the prompt
    const TestRequest doomed = request(300, n_prompt, 300, 2);
    const size_t n_computed = std::min(n_prompt, size_t{300});
    const uint64_t n_before = settled(*loop).n_prefill_tokens;
    // Submitted in a turn of the loop: not a step is missed.
    std::optional<EngineLoop::Ticket> neighbour, victim;
    EngineStats before, after;
    int turn = 0;
    every_turn(*loop, [&](const EngineStats& now) {
      if (!victim) {
        neighbour = submit(*loop, kept);
        victim = submit(*loop, doomed);
        return false;
      }
      if (turn == 0 && now.n_prefill_tokens < n_before + kept.prompt.size() + n_computed) return false;
      if (turn == 0) loop->cancel(victim->id);  // noticed after the step of this turn
      if (turn == 1) before = now;
      if (turn == 2) after = now;
      return turn++ == 2;
    });
    EXPECT_EQ(before.n_running, 2u);
    EXPECT_EQ(after.n_running, 1u);
    EXPECT_EQ(after.n_steps, before.n_steps + 1);
    EXPECT_EQ(after.n_cancelled, before.n_cancelled + 1);
    const size_t n_grown = 1;  // of the neighbour, at most
    EXPECT_GE(before.n_pages_private + n_grown, after.n_pages_private + KvPool::pages_for(n_computed));
    const auto cut = read_all(*victim->stream, doomed.params)[0];
    EXPECT_EQ(cut.reason, FinishReason::kCancelled);
    EXPECT_EQ(cut.tokens.empty(), n_prompt > n_computed);
    EXPECT_TRUE(same_bits(read_all(*neighbour->stream, kept.params)[0], model->alone(kept, 0)));
    EXPECT_EQ(settled(*loop).n_pages_free, 40u);
  }
}

// Neighbours run one after the other; beside them, victims are cancelled in the queue, in the middle of their
// prompt and while they answer.
TEST_F(EngineLoad, CancelsDisturbNobody) {
  const uint32_t n_cancels = setting("RUVLTRA_CANCELS", 300);
  std::mt19937 random(7);
  const auto pick = [&](size_t low, size_t high) { return low + random() % (high - low + 1); };
  std::vector<TestRequest> neighbours, victims;
  std::vector<TestAnswer> expected;
  for (size_t i = 0; i < 6; ++i) {
    neighbours.push_back(request(100 * i, pick(20, 200), static_cast<int>(pick(20, 60)), i));
    if (i == 2) neighbours.back().params.repeat_penalty = 1.2f;
    expected.push_back(model->alone(neighbours.back(), 0));
  }
  std::vector<std::vector<TestAnswer>> victims_expected;
  for (size_t i = 0; i < 8; ++i) {
    victims.push_back(request(100 * i + 50, pick(10, 400), static_cast<int>(pick(20, 80)), i));
    victims.back().params.n = i % 4 == 3 ? 3 : 1;
    victims_expected.push_back(model->alone(victims.back()));
  }

  size_t n_compared = 0, n_different = 0, n_in_queue = 0, n_in_prompt = 0, n_in_answer = 0, n_late = 0;
  const size_t n_pages = 30;
  const auto loop = model->start(2, options(6, n_pages));
  struct Victim {
    size_t which;
    EngineLoop::Ticket ticket;
  };
  while (n_in_queue + n_in_prompt + n_in_answer < n_cancels) {
    std::vector<std::pair<size_t, EngineLoop::Ticket>> running;
    for (int i = 0; i < 2; ++i) {
      const size_t which = pick(0, neighbours.size() - 1);
      running.emplace_back(which, submit(*loop, neighbours[which], random() % 2 == 0));
    }
    std::vector<Victim> doomed;
    for (size_t i = pick(2, 12); i > 0; --i) {
      const size_t which = pick(0, victims.size() - 1);
      doomed.push_back({which, submit(*loop, victims[which], random() % 2 == 0)});
    }
    std::shuffle(doomed.begin(), doomed.end(), random);
    for (const Victim& victim : doomed) {
      // At once, or some steps later.
      const uint64_t n_steps = loop->stats().n_steps + (random() % 3 == 0 ? 0 : pick(1, 12));
      const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
      while (loop->stats().n_steps < n_steps && std::chrono::steady_clock::now() < give_up)
        std::this_thread::yield();
      loop->cancel(victim.ticket.id);
    }
    for (const Victim& victim : doomed) {
      const auto answers = read_all(*victim.ticket.stream, victims[victim.which].params);
      for (size_t choice = 0; choice < answers.size(); ++choice) {
        EXPECT_EQ(answers[choice].n_ends, 1u);
        n_different += !agree_so_far(answers[choice], victims_expected[victim.which][choice]);
      }
      const TestAnswer& first = answers[0];
      ++(first.reason != FinishReason::kCancelled ? n_late
         : !first.tokens.empty()                  ? n_in_answer
         : first.timings.prompt_seconds > 0       ? n_in_prompt
                                                  : n_in_queue);
    }
    for (const auto& [which, ticket] : running) {
      const auto answers = read_all(*ticket.stream, neighbours[which].params);
      EXPECT_EQ(answers[0].n_ends, 1u);
      ++n_compared;
      n_different += !same_bits(answers[0], expected[which]);
    }
  }
  EXPECT_EQ(n_different, 0u);
  EXPECT_GT(n_in_queue, n_cancels / 20);
  EXPECT_GT(n_in_prompt, n_cancels / 20);
  EXPECT_GT(n_in_answer, n_cancels / 20);
  const EngineStats stats = settled(*loop);
  EXPECT_EQ(stats.n_running + stats.n_queued, 0u);
  EXPECT_EQ(stats.n_failed + stats.n_timeouts, 0u);
  EXPECT_EQ(stats.n_pages_private + stats.n_pages_shared, 0u);
  EXPECT_EQ(stats.n_pages_free + stats.n_pages_published, n_pages);
  std::printf(
      "cancelled: %zu in the queue, %zu in the prompt, %zu in the answer, %zu too late; "
      "%zu neighbours compared, %zu answers different\n",
      n_in_queue, n_in_prompt, n_in_answer, n_late, n_compared, n_different);
}

// Of the pages of n samples, only the last of the prompt's is not shared: it is copied when they write to it.
TEST_F(EngineLoad, AForkOfEightSharesThePagesOfItsPrompt) {
  constexpr size_t kSamples = 8, kPages = 40;
  TestRequest asked = request(0, 3 * kPageTokens + 20, 30, 1);
  asked.params.n = kSamples;
  const auto expected = model->alone(asked);
  for (const bool use_cache : {true, false}) {
    const auto loop = model->start(2, options(kSamples, kPages));
    std::optional<EngineLoop::Ticket> ticket;
    EngineStats prompt_done, decoding;
    every_turn(*loop, [&](const EngineStats& now) {
      if (!ticket) return ticket = submit(*loop, asked, use_cache), false;
      if (now.n_prefill_tokens == asked.prompt.size() && prompt_done.n_steps == 0) prompt_done = now;
      if (now.n_decode_tokens >= kSamples) decoding = now;
      return decoding.n_steps > 0;
    });
    EXPECT_EQ(prompt_done.n_pages_free, kPages - 4);
    EXPECT_EQ(prompt_done.n_pages_shared, 4u);
    EXPECT_EQ(decoding.n_pages_shared, 3u);
    EXPECT_EQ(decoding.n_pages_published, use_cache ? 3u : 0u);
    EXPECT_EQ(decoding.n_pages_private, kSamples + (use_cache ? 0 : 3));
    EXPECT_EQ(decoding.n_pages_free, kPages - 3 - kSamples);
    std::printf("%zu samples of %zu tokens: %zu pages for all, of these %zu shared; %zu without sharing\n",
                kSamples, asked.prompt.size(), kPages - decoding.n_pages_free, decoding.n_pages_shared,
                kSamples * KvPool::pages_for(asked.prompt.size() + 1));
    const auto found = read_all(*ticket->stream, asked.params);
    for (size_t choice = 0; choice < kSamples; ++choice)
      EXPECT_TRUE(same_bits(found[choice], expected[choice])) << choice;
    EXPECT_EQ(settled(*loop).n_pages_private, 0u);
  }
}

}  // namespace
}  // namespace ruvltra
