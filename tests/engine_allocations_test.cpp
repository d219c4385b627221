// Once requests run, a step of the engine allocates nothing: every operator new of this program is counted.
#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "engine/engine_loop.h"
#include "loaded_model.h"

namespace {
std::atomic<size_t> n_allocations{0};
}  // namespace

[[gnu::noinline]] void* operator new(size_t n_bytes) {
  n_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(n_bytes > 0 ? n_bytes : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace ruvltra {
namespace {

TEST(EngineAllocations, StepsOfRunningRequestsTakeNoMemory) {
  ThreadPool pool(2);
  const Ctx ctx{&pool, *kernel_table()};
  auto file = GgufFile::open(source_path("models/nano-q8_0.gguf"));
  const Tokenizer tokenizer = std::move(*Tokenizer::load(file->metadata()));
  const Weights weights = std::move(*Weights::load(ctx, *file));
  EngineLoop::Options options;
  options.steps.max_positions = 1024;
  options.steps.n_pages = 80;
  options.stream_tokens = 1000;
  auto loop = std::move(*EngineLoop::start(ctx, weights, tokenizer, options));

  const auto prompt = read_ids(source_path("tests/golden/ids.txt"));
  std::vector<EngineLoop::Ticket> tickets;
  for (const float temperature : {0.0f, 0.8f, 1.5f}) {
    GenerateParams params;
    params.max_tokens = 900;
    params.seed = 1;
    params.temperature = temperature;
    params.logit_bias = {{static_cast<TokenId>(tokenizer.eos()), -100.0f}};
    if (temperature > 1) params.stop = {"no such words"};
    if (temperature > 1) params.top_k = 50;
    tickets.push_back(std::move(*loop->submit({prompt.begin(), prompt.begin() + 50}, params, {})));
  }
  const auto steps_reach = [&](uint64_t n) {
    while (loop->stats().n_steps < n) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  steps_reach(20);
  const size_t before = n_allocations;
  const uint64_t first = loop->stats().n_steps;
  steps_reach(first + 300);
  EXPECT_EQ(n_allocations - before, 0u) << "in " << loop->stats().n_steps - first << " steps";
  EXPECT_EQ(loop->stats().n_running, 3u);
}

}  // namespace
}  // namespace ruvltra
