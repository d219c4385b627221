// Training states and canary records of the learner: whatever the bytes, reading ends in an error, or in
// records that losses, gradients and a fit can be computed from without leaving an array or a cast. Hashes
// keep plain mutations out, so the input is also tried with its hashes repaired.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/container.h"
#include "base/threads.h"
#include "container_repair.h"
#include "kernels/dispatch.h"
#include "sona/lora_fit.h"
#include "sona/scope_state.h"
#include "sona/token_record_file.h"

namespace {

using namespace ruvltra;

constexpr Sha256Digest kModel = {7}, kBasis = {9};
constexpr size_t kRows = 24, kWidth = 8, kFeatures = 3, kMaxTokens = 64;
constexpr size_t kMostTried = 16;  // tokens that losses are computed of

// A model's output matrix, and losses over it.
struct World {
  ThreadPool pool{1};
  PackedMatrix matrix;
  std::unique_ptr<OutputHead> head;
  std::unique_ptr<LoraLoss> loss;

  World() {
    const auto table = kernel_table("");
    CHECK(table.has_value());
    const Ctx ctx{&pool, *table};
    std::vector<float> w(kRows * kWidth);
    for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>((i * i * 7 + i) % 41) / 20 - 1;
    auto packed = PackedMatrix::pack(ctx, "w", TensorType::kF32, kRows, kWidth,
                                     [&](size_t begin, size_t n, std::span<uint8_t> out) -> Result<void> {
                                       std::memcpy(out.data(), w.data() + begin * kWidth, n * kWidth * 4);
                                       return {};
                                     });
    CHECK(packed.has_value());
    matrix = std::move(*packed);
    auto made = OutputHead::make(ctx, matrix, kRows);
    CHECK(made.has_value());
    head = std::make_unique<OutputHead>(std::move(*made));
    auto losses = LoraLoss::make(ctx, *head, kFeatures, 0.5f, {});
    CHECK(losses.has_value());
    loss = std::make_unique<LoraLoss>(std::move(*losses));
  }
};

void use(const Batch& all, Ewc& ewc, const std::vector<float>& start) {
  static World world;
  LoraLoss& loss = *world.loss;
  const Batch batch{all.records, all.examples.first(std::min(all.examples.size(), kMostTried))};
  if (batch.examples.empty()) return;
  std::vector<TokenLoss> losses(batch.examples.size());
  loss.each(batch, start, losses);
  LoraFit fit(loss, ewc, start, FitOptions{});
  const FitReport report = fit.micro_batch(batch, batch, 1);
  // A candidate that is not finite stays where it was, and that was read as finite.
  for (const float value : fit.b()) CHECK(std::isfinite(value));
  CHECK(report.n_steps <= 1);
}

void parse_state(std::span<const uint8_t> bytes) {
  const StateShape shape{.model = kModel,
                         .basis = kBasis,
                         .n_features = kFeatures,
                         .d = kWidth,
                         .n_rows = kRows,
                         .top_k = 8,
                         .canary_k = kRows};
  const Scope scope{.tenant = "t", .session = "s"};
  ScopeState state(scope, shape, 1000, kMaxTokens, kMaxTokens);
  const auto parsed = state.parse(bytes, "fuzz");
  if (!parsed) {
    CHECK(!parsed.error().id.empty() && !parsed.error().message.empty());
    return;
  }
  const auto written = state.bytes();
  ScopeState again(scope, shape, 1000, kMaxTokens, kMaxTokens);
  CHECK(again.parse(written, "fuzz").has_value());
  CHECK(again.bytes() == written);
  state.outcomes.add(0.5);
  state.held_out.forget(owner_of("s"));
  const auto kept = state.kept.forgotten([](const Batch& batch) {
    CHECK(!batch.examples.empty() && batch.examples.back().index < batch.records->size());
    return 0.0;
  });
  CHECK(kept.size() <= kMaxKeptTasks);
  state.kept.forget(owner_of("s"));
  auto start = state.candidate;
  if (start.empty()) start.assign(kFeatures * kWidth, 0);
  for (const RecordPool* pool : {&state.train, &state.validation, &state.held_out})
    use(pool->batch(), state.ewc, start);
}

void parse_canary(std::span<const uint8_t> bytes) {
  const auto tags = record_tags('c');
  const auto container = Container::parse(bytes, "fuzz",
                                          {.kind = ContainerKind::kCanaryRecords,
                                           .max_version = 1,
                                           .known_flags = 0,
                                           .known_tags = tags,
                                           .model = kModel});
  TokenRecords records(
      {.n_features = kFeatures, .n_rows = kRows, .capacity = kMaxTokens, .top_k = 8, .max_ids = 0});
  if (!container || !read_records(*container, 'c', "fuzz", records)) return;
  std::vector<Example> examples;
  for (size_t i = 0; i < records.size(); ++i) examples.push_back({static_cast<uint32_t>(i), 1});
  Ewc ewc(kFeatures * kWidth, 1000);
  use({&records, examples}, ewc, std::vector<float>(kFeatures * kWidth, 0.1f));
}

void parse(std::span<const uint8_t> bytes) {
  parse_state(bytes);
  parse_canary(bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  parse({data, size});
  std::vector<uint8_t> file(data, data + size);
  fuzzing::repair_container(file, kModel, [](std::span<const fuzzing::Section>) {});
  parse(file);
  return 0;
}
