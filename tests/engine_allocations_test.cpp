// Once requests run, a step of the engine allocates nothing: every operator new of this program is counted,
// but for those of readers that take their tokens meanwhile.
#include <atomic>
#include <cstdlib>
#include <new>
#include <optional>
#include <thread>

#include "engine/allocations_for_test.h"
#include "engine/engine_loop.h"
#include "loaded_model.h"

namespace {
std::atomic<size_t> n_allocations{0};
thread_local bool is_reader = false;
}  // namespace

#if RUVLTRA_COUNTS_ALLOCATIONS
[[gnu::noinline]] void* operator new(size_t n_bytes) {
  if (!is_reader) n_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(n_bytes > 0 ? n_bytes : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif

namespace ruvltra {
namespace {

// Takes all tokens, and keeps the likeliest ones of each as a caller would.
void read(TokenStream& stream) {
  is_reader = true;
  std::vector<TokenLogprob> kept;
  StreamItem item;
  while (stream.take(item)) kept = std::move(item.token.top);
}

// Requests of every kind, and allocations over some hundred steps in which all of them run.
void expect_no_allocations(std::optional<DraftSource> source) {
  if (!RUVLTRA_COUNTS_ALLOCATIONS) GTEST_SKIP() << "operator new belongs to the sanitizer";
  ThreadPool pool(2);
  const Ctx ctx{&pool, *kernel_table()};
  auto file = GgufFile::open(source_path("models/nano-q8_0.gguf"));
  const Tokenizer tokenizer = std::move(*Tokenizer::load(file->metadata()));
  const Weights weights = std::move(*Weights::load(ctx, *file));
  const Weights draft = std::move(*Weights::load(ctx, *GgufFile::open(source_path("models/pico-q8_0.gguf"))));
  EngineLoop::Options options;
  options.steps.max_positions = 2048;
  options.steps.n_pages = 165;
  options.stream_tokens = 40;
  if (source) {
    // Short drafts, of which each request gets some.
    options.speculation = SpeculativeConfig{.source = *source, .lookahead = 3, .acceptance_threshold = 0};
    options.speculation->adaptive = *source == DraftSource::kAuto;
    if (*source != DraftSource::kLookup) options.draft = &draft;
  }
  auto loop = std::move(*EngineLoop::start(ctx, weights, tokenizer, options));

  const auto prompt = read_ids(source_path("tests/golden/ids.txt"));
  std::vector<EngineLoop::Ticket> tickets;
  for (int kind = 0; kind < 5; ++kind) {
    GenerateParams params;
    params.max_tokens = 1900;
    params.seed = 1;
    params.temperature = kind == 0 ? 0.0f : 0.8f;
    params.logit_bias = {{static_cast<TokenId>(tokenizer.eos()), -100.0f}};
    if (kind == 2) params.top_k = 50;
    if (kind == 2) params.stop = {"no such words"};
    if (kind == 3) params.n_logprobs = 20;
    if (kind == 4) params.repeat_penalty = 1.1f;
    if (kind == 4) params.presence_penalty = params.frequency_penalty = 0.1f;
    tickets.push_back(std::move(*loop->submit({prompt.begin(), prompt.begin() + 50}, params, {})));
  }
  std::vector<std::thread> readers;
  for (const auto& ticket : tickets) readers.emplace_back([stream = ticket.stream.get()] { read(*stream); });
  const auto steps_reach = [&](uint64_t n) {
    while (loop->stats().n_steps < n) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  steps_reach(40);
  const size_t before = n_allocations;
  const uint64_t first = loop->stats().n_steps;
  const SpeculationStats drafts_before = loop->stats().speculation;
  steps_reach(first + 300);
  EXPECT_EQ(n_allocations - before, 0u) << "in " << loop->stats().n_steps - first << " steps";
  const EngineStats after = loop->stats();
  EXPECT_EQ(after.n_running, 5u);
  if (source && *source != DraftSource::kAuto) {
    EXPECT_GT(after.speculation.n_drafts, drafts_before.n_drafts);
    EXPECT_GT(after.speculation.n_accepted, drafts_before.n_accepted);
  }
  loop->stop();
  for (std::thread& reader : readers) reader.join();
}

TEST(EngineAllocations, StepsOfRunningRequestsTakeNoMemory) { expect_no_allocations({}); }
TEST(EngineAllocations, NorWithPromptLookup) { expect_no_allocations(DraftSource::kLookup); }
TEST(EngineAllocations, NorWithADraftModel) { expect_no_allocations(DraftSource::kModel); }
TEST(EngineAllocations, NorWhereTheLengthIsMeasured) { expect_no_allocations(DraftSource::kAuto); }

}  // namespace
}  // namespace ruvltra
