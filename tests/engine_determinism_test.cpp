// The same request gives the same tokens, log-probabilities and end, bit for bit: alone, and in any batch,
// with any number of threads, chunk sizes, cache state, after preemptions, forked, beside cancelled
// neighbours; and the same with proposals of every source. RUVLTRA_CONFIGURATIONS=10000 runs more of the
// same, RUVLTRA_FIRST_CONFIGURATION=n begins with the n-th, RUVLTRA_MODEL=FILE takes another model.
#include "engine_reference.h"

namespace ruvltra {
namespace {

// How much is asked of a model. Large ones get fewer and shorter requests, in fewer pages, so that a
// configuration takes seconds; everything that may vary still does.
struct Sizes {
  size_t n_kinds, max_prompt, max_output, max_requests;
  size_t max_rows, min_pages, max_pages;  // the longest request fits into min_pages
  size_t short_streams;                   // one engine of so many has streams that hold two tokens

  static Sizes of(const Weights& weights) {
    if (weights.bytes_per_token() < 64'000'000) return {32, 260, 48, 8, 300, 5, 80, 4};
    if (weights.bytes_per_token() < 640'000'000) return {20, 150, 12, 6, 160, 3, 24, 4};
    return {10, 90, 6, 6, 100, 2, 12, 2};
  }
};

// Requests of every kind; many prompts begin alike.
std::vector<TestRequest> make_requests(std::mt19937& random, const Sizes& sizes) {
  const auto pick = [&](size_t low, size_t high) { return low + random() % (high - low + 1); };
  const auto ids = read_ids(source_path("tests/golden/ids4096.txt"));
  std::vector<TestRequest> requests;
  for (size_t i = 0; i < sizes.n_kinds; ++i) {
    TestRequest request;
    const size_t begin = i % 3 == 0 ? 700 : pick(0, 3000);
    const size_t n = i % 4 == 0 ? 64 * pick(1, sizes.max_prompt / 64) : pick(1, sizes.max_prompt);
    request.prompt.assign(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                          ids.begin() + static_cast<std::ptrdiff_t>(begin + n));
    GenerateParams& params = request.params;
    params.max_tokens = static_cast<int>(pick(1, sizes.max_output));
    params.seed = pick(0, 1000);
    params.n = i % 5 == 0 ? static_cast<int>(pick(2, 4)) : 1;
    params.temperature = i % 3 == 1 ? 0.0f : 0.8f;
    if (i % 6 == 2) params.repeat_penalty = 1.2f;
    if (i % 2 == 0) params.n_logprobs = static_cast<int>(pick(1, 3));
    if (i % 7 == 3) params.stop = {"e", "th"};
    requests.push_back(std::move(request));
  }
  return requests;
}

EngineLoop::Options random_options(std::mt19937& random, const Sizes& sizes) {
  const auto pick = [&](size_t low, size_t high) { return low + random() % (high - low + 1); };
  EngineLoop::Options options;
  options.steps.max_parts = pick(4, 8);
  options.steps.max_rows = pick(0, 1) != 0 ? pick(16, 40) : pick(64, sizes.max_rows);
  options.steps.max_positions = sizes.max_prompt + sizes.max_output + 1;
  // From a pool that can hold little more than the longest request to one for all.
  options.steps.n_pages = pick(0, 1) != 0 ? pick(sizes.min_pages, 2 * sizes.min_pages - 1)
                                          : pick(sizes.max_pages / 5, sizes.max_pages);
  options.max_step_ms = pick(0, 2) == 0 ? 0.01 : pick(0, 1) == 0 ? 0 : 1000;
  options.prefix_cache = pick(0, 3) != 0;
  options.stream_tokens = pick(1, sizes.short_streams) == 1 ? 2 : 64;
  return options;
}

// Every source and setting; drafts that are mostly wrong are welcome.
SpeculativeConfig random_speculation(std::mt19937& random) {
  SpeculativeConfig config;
  config.source = static_cast<DraftSource>(random() % 3);
  config.adaptive = random() % 3 == 0;
  config.lookahead = 1 + static_cast<int>(random() % 8);
  config.acceptance_threshold = random() % 2 == 0 ? 0.0f : 0.3f;
  config.draft_temperature = random() % 3 == 0 ? 1.0f : 0.0f;
  return config;
}

void compare_configurations(const Weights* draft) {
  const uint32_t n_configurations = setting("RUVLTRA_CONFIGURATIONS", 200);
  const uint32_t first = setting("RUVLTRA_FIRST_CONFIGURATION", 0);
  ReferenceModel model(std::getenv("RUVLTRA_MODEL"));
  const Sizes sizes = Sizes::of(model.weights);
  std::mt19937 fixed(1);
  auto requests = make_requests(fixed, sizes);
  constexpr float kTemperatures[] = {0, 0.3f, 0.7f, 0, 1, 1.5f};
  for (size_t i = 0; draft != nullptr && i < requests.size(); ++i)
    requests[i].params.temperature = kTemperatures[i % std::size(kTemperatures)];
  std::vector<std::vector<TestAnswer>> expected;  // (requests, n)
  for (const TestRequest& request : requests) expected.push_back(model.alone(request));

  EngineStats sum;
  size_t n_answers = 0;
  size_t n_different = 0;
  for (uint32_t configuration = first; configuration < first + n_configurations; ++configuration) {
    std::mt19937 random(configuration);
    const int n_threads = 1 + static_cast<int>(random() % 3);
    auto options = random_options(random, sizes);
    if (draft != nullptr) {
      options.speculation = random_speculation(random);
      if (options.speculation->source != DraftSource::kLookup) options.draft = draft;
    }
    const auto loop = model.start(n_threads, options);
    struct Running {
      size_t which;
      bool cancelled;
      EngineLoop::Ticket ticket;
    };
    // Two rounds: the second finds the cache the first has left.
    for (int round = 0; round < 2; ++round) {
      std::vector<Running> running;
      const size_t n_requests = 1 + random() % sizes.max_requests;
      for (size_t i = 0; i < n_requests; ++i) {
        const size_t which = random() % requests.size();
        Treatment treatment;
        treatment.priority = static_cast<int>(random() % 3);
        treatment.tenant = random() % 4 == 0 ? "other" : "";
        treatment.use_cache = random() % 5 != 0;
        auto ticket = loop->submit(requests[which].prompt, requests[which].params, treatment);
        ASSERT_TRUE(ticket) << ticket.error().message;
        running.push_back({which, random() % 5 == 0, std::move(*ticket)});
        if (random() % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
      }
      for (const Running& request : running) {
        if (request.cancelled) loop->cancel(request.ticket.id);
      }
      for (const Running& request : running) {
        const auto answers = read_all(*request.ticket.stream, requests[request.which].params);
        for (size_t choice = 0; choice < answers.size(); ++choice) {
          const TestAnswer& answer = answers[choice];
          EXPECT_EQ(answer.n_ends, 1u);
          if (request.cancelled && answer.reason == FinishReason::kCancelled) continue;
          ++n_answers;
          if (same_bits(answer, expected[request.which][choice])) continue;
          ++n_different;
          ADD_FAILURE() << "configuration " << configuration << ", round " << round << ", request "
                        << request.which << ", choice " << choice << ": found " << answer.tokens.size()
                        << " tokens, " << finish_reason_name(answer.reason) << "; expected "
                        << expected[request.which][choice].tokens.size();
        }
      }
    }
    loop->stop();
    const EngineStats stats = loop->stats();
    sum.n_steps += stats.n_steps;
    sum.n_preemptions += stats.n_preemptions;
    sum.n_cached_tokens += stats.n_cached_tokens;
    sum.n_cancelled += stats.n_cancelled;
    sum.n_evictions += stats.n_evictions;
    sum.speculation.n_drafted += stats.speculation.n_drafted;
    sum.speculation.n_accepted += stats.speculation.n_accepted;
    sum.speculation.n_by_lookup += stats.speculation.n_by_lookup;
    EXPECT_EQ(stats.n_pages_private, 0u);
    EXPECT_EQ(stats.n_pages_free + stats.n_pages_published, stats.n_pages);
    if (n_different > 10) break;
  }
  EXPECT_EQ(n_different, 0u);
  if (n_configurations >= 10) {  // everything that may vary has varied
    EXPECT_GT(sum.n_preemptions, 0u);
    EXPECT_GT(sum.n_cached_tokens, 0u);
    EXPECT_GT(sum.n_cancelled, 0u);
    EXPECT_GT(sum.n_evictions, 0u);
    EXPECT_EQ(sum.speculation.n_by_lookup > 0, draft != nullptr);
    EXPECT_EQ(sum.speculation.n_drafted > sum.speculation.n_by_lookup, draft != nullptr);
    EXPECT_EQ(sum.speculation.n_accepted > 0, draft != nullptr);
  }
  if (draft != nullptr) {
    std::printf("%llu proposals, %llu accepted, %llu from earlier text\n",
                static_cast<unsigned long long>(sum.speculation.n_drafted),
                static_cast<unsigned long long>(sum.speculation.n_accepted),
                static_cast<unsigned long long>(sum.speculation.n_by_lookup));
  }
  std::printf(
      "%u configurations, %zu answers compared, %zu different; %llu steps, %llu preemptions, "
      "%llu cached tokens, %llu cancelled answers, %llu evictions\n",
      n_configurations, n_answers, n_different, static_cast<unsigned long long>(sum.n_steps),
      static_cast<unsigned long long>(sum.n_preemptions),
      static_cast<unsigned long long>(sum.n_cached_tokens), static_cast<unsigned long long>(sum.n_cancelled),
      static_cast<unsigned long long>(sum.n_evictions));
}

TEST(EngineDeterminism, RandomConfigurations) { compare_configurations(nullptr); }

// The draft is small and of the same vocabulary as the model.
TEST(EngineDeterminism, RandomConfigurationsThatSpeculate) {
  const ReferenceModel draft(source_path("models/pico-q8_0.gguf").c_str());
  compare_configurations(&draft.weights);
}

}  // namespace
}  // namespace ruvltra
