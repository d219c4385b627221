// The same request gives the same tokens, log-probabilities and end, bit for bit: alone, and in any batch,
// with any number of threads, chunk sizes, cache state, after preemptions, forked, beside cancelled
// neighbours. RUVLTRA_CONFIGURATIONS=10000 runs more of the same, RUVLTRA_FIRST_CONFIGURATION=n begins with
// the n-th, RUVLTRA_MODEL=FILE takes another model.
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>

#include "engine/engine_loop.h"
#include "loaded_model.h"

namespace ruvltra {
namespace {

struct Case {
  std::vector<TokenId> prompt;
  GenerateParams params;
};

struct Expected {
  std::vector<TokenId> tokens;
  std::vector<Sampled> logprobs;
  FinishReason reason = FinishReason::kLength;
};

struct Models {
  Weights weights;
  std::optional<Tokenizer> tokenizer;
  std::vector<std::unique_ptr<ThreadPool>> pools;  // of 1, 2, 3 threads
  const KernelTable* kernels = nullptr;

  Models() {
    for (const int n : {1, 2, 3}) pools.push_back(std::make_unique<ThreadPool>(n));
    kernels = *kernel_table();
    const char* other = std::getenv("RUVLTRA_MODEL");
    auto file = GgufFile::open(other != nullptr ? other : source_path("models/nano-q8_0.gguf"));
    tokenizer = std::move(*Tokenizer::load(file->metadata()));
    weights = std::move(*Weights::load(ctx(1), *file));
  }
  Ctx ctx(int n_threads) { return {pools[static_cast<size_t>(n_threads - 1)].get(), kernels}; }
};

constexpr size_t kContext = 512;

// What the request says when nothing but the forward pass and the sampler take part.
Expected alone(Models& models, const Case& request, int choice) {
  const Ctx ctx = models.ctx(1);
  const ModelShape& shape = models.weights.shape;
  Workspace workspace = std::move(*Workspace::make(shape, {.max_tokens = kContext, .max_positions = 0}, 1));
  KvPool kv = std::move(*KvPool::make(shape, KvType::kF16, KvPool::pages_for(kContext)));
  SingleSequence sequence(0, kv.n_pages());
  const auto unused = unused_tokens(*models.tokenizer, shape.n_vocab);
  Sampler sampler = std::move(*Sampler::create(request.params, shape.n_vocab, unused));
  sampler.accept_prompt(request.prompt);
  StreamText text(request.params.stop);
  std::vector<float> logits(shape.n_vocab);
  Expected out;
  std::vector<TokenId> next = request.prompt;
  while (out.tokens.size() < static_cast<size_t>(request.params.max_tokens)) {
    forward(ctx, models.weights, kv, workspace, sequence.append(next, SingleSequence::Rows::kLast), {logits});
    const size_t position = request.prompt.size() + out.tokens.size();
    const Sampled sampled =
        *sampler.sample(logits, static_cast<uint32_t>(position), static_cast<uint32_t>(choice));
    sampler.accept(sampled.token);
    out.tokens.push_back(sampled.token);
    if (request.params.n_logprobs > 0) out.logprobs.push_back(sampled);
    next.assign(1, sampled.token);
    if (models.tokenizer->ends_generation(sampled.token)) out.reason = FinishReason::kStop;
    text.push(models.tokenizer->bytes(sampled.token));
    if (text.stopped()) out.reason = FinishReason::kStop;
    if (out.reason == FinishReason::kStop) break;
  }
  return out;
}

// Requests of every kind; many prompts begin alike.
std::vector<Case> make_cases(std::mt19937& random) {
  const auto pick = [&](size_t low, size_t high) { return low + random() % (high - low + 1); };
  const auto ids = read_ids(source_path("tests/golden/ids4096.txt"));
  std::vector<Case> cases;
  for (size_t i = 0; i < 32; ++i) {
    Case request;
    const size_t begin = i % 3 == 0 ? 700 : pick(0, 3000);
    const size_t n = i % 4 == 0 ? 64 * pick(1, 3) : pick(1, 260);
    request.prompt.assign(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                          ids.begin() + static_cast<std::ptrdiff_t>(begin + n));
    GenerateParams& params = request.params;
    params.max_tokens = static_cast<int>(pick(1, 48));
    params.seed = pick(0, 1000);
    params.n = i % 5 == 0 ? static_cast<int>(pick(2, 4)) : 1;
    params.temperature = i % 3 == 1 ? 0.0f : 0.8f;
    if (i % 6 == 2) params.repeat_penalty = 1.2f;
    if (i % 2 == 0) params.n_logprobs = static_cast<int>(pick(1, 3));
    if (i % 7 == 3) params.stop = {"e", "th"};
    cases.push_back(std::move(request));
  }
  return cases;
}

EngineLoop::Options random_options(std::mt19937& random) {
  const auto pick = [&](size_t low, size_t high) { return low + random() % (high - low + 1); };
  EngineLoop::Options options;
  options.steps.max_parts = pick(4, 8);
  options.steps.max_rows = pick(0, 1) != 0 ? pick(16, 40) : pick(64, 300);
  options.steps.max_positions = kContext;
  // The longest request needs 5 pages: from a pool that can hold little more than it to one for all.
  options.steps.n_pages = pick(0, 1) != 0 ? pick(5, 9) : pick(16, 80);
  options.max_step_ms = pick(0, 2) == 0 ? 0.01 : pick(0, 1) == 0 ? 0 : 1000;
  options.prefix_cache = pick(0, 3) != 0;
  options.stream_tokens = pick(0, 3) == 0 ? 2 : 64;
  return options;
}

struct Found {
  std::vector<Expected> answers;  // (n)
};

Found read_all(TokenStream& stream, const Case& request) {
  Found found;
  found.answers.resize(static_cast<size_t>(request.params.n));
  StreamItem item;
  while (stream.take(item)) {
    Expected& answer = found.answers[static_cast<size_t>(item.choice)];
    if (item.outcome) {
      answer.reason = item.outcome->reason;
    } else {
      answer.tokens.push_back(item.token.token);
      if (request.params.n_logprobs > 0) answer.logprobs.push_back(item.token);
    }
  }
  return found;
}

bool same_bits(const Expected& a, const Expected& b) {
  if (a.tokens != b.tokens || a.reason != b.reason || a.logprobs.size() != b.logprobs.size()) return false;
  for (size_t i = 0; i < a.logprobs.size(); ++i) {
    const Sampled &x = a.logprobs[i], &y = b.logprobs[i];
    if (std::memcmp(&x.logprob, &y.logprob, sizeof x.logprob) != 0 || x.top.size() != y.top.size())
      return false;
    for (size_t k = 0; k < x.top.size(); ++k) {
      if (x.top[k].token != y.top[k].token || x.top[k].logprob != y.top[k].logprob) return false;
    }
  }
  return true;
}

uint32_t setting(const char* name, uint32_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? static_cast<uint32_t>(std::strtoul(text, nullptr, 10)) : otherwise;
}

TEST(EngineDeterminism, RandomConfigurations) {
  const uint32_t n_configurations = setting("RUVLTRA_CONFIGURATIONS", 200);
  const uint32_t first = setting("RUVLTRA_FIRST_CONFIGURATION", 0);
  Models models;
  std::mt19937 fixed(1);
  const auto cases = make_cases(fixed);
  std::vector<std::vector<Expected>> expected;  // (cases, n)
  for (const Case& request : cases) {
    auto& answers = expected.emplace_back();
    for (int choice = 0; choice < request.params.n; ++choice)
      answers.push_back(alone(models, request, choice));
  }

  EngineStats sum;
  size_t n_answers = 0;
  size_t n_different = 0;
  for (uint32_t configuration = first; configuration < first + n_configurations; ++configuration) {
    std::mt19937 random(configuration);
    const int n_threads = 1 + static_cast<int>(random() % 3);
    const auto options = random_options(random);
    auto loop =
        std::move(*EngineLoop::start(models.ctx(n_threads), models.weights, *models.tokenizer, options));
    struct Running {
      size_t which;
      bool cancelled;
      EngineLoop::Ticket ticket;
    };
    // Two rounds: the second finds the cache the first has left.
    for (int round = 0; round < 2; ++round) {
      std::vector<Running> running;
      const size_t n_requests = 1 + random() % 8;
      for (size_t i = 0; i < n_requests; ++i) {
        const size_t which = random() % cases.size();
        Treatment treatment;
        treatment.priority = static_cast<int>(random() % 3);
        treatment.tenant = random() % 4 == 0 ? "other" : "";
        treatment.use_cache = random() % 5 != 0;
        auto ticket = loop->submit(cases[which].prompt, cases[which].params, treatment);
        ASSERT_TRUE(ticket) << ticket.error().message;
        running.push_back({which, random() % 5 == 0, std::move(*ticket)});
        if (random() % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
      }
      for (const Running& request : running) {
        if (request.cancelled) loop->cancel(request.ticket.id);
      }
      for (const Running& request : running) {
        const Found found = read_all(*request.ticket.stream, cases[request.which]);
        for (size_t choice = 0; choice < found.answers.size(); ++choice) {
          const Expected& answer = found.answers[choice];
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
    EXPECT_EQ(stats.n_pages_private, 0u);
    EXPECT_EQ(stats.n_pages_free + stats.n_pages_published, stats.n_pages);
    if (n_different > 10) break;
  }
  EXPECT_EQ(n_different, 0u);
  EXPECT_GT(sum.n_preemptions, 0u);
  EXPECT_GT(sum.n_cached_tokens, 0u);
  EXPECT_GT(sum.n_cancelled, 0u);
  EXPECT_GT(sum.n_evictions, 0u);
  std::printf(
      "%u configurations, %zu answers compared, %zu different; %llu steps, %llu preemptions, "
      "%llu cached tokens, %llu cancelled answers, %llu evictions\n",
      n_configurations, n_answers, n_different, static_cast<unsigned long long>(sum.n_steps),
      static_cast<unsigned long long>(sum.n_preemptions),
      static_cast<unsigned long long>(sum.n_cached_tokens), static_cast<unsigned long long>(sum.n_cancelled),
      static_cast<unsigned long long>(sum.n_evictions));
}

}  // namespace
}  // namespace ruvltra
