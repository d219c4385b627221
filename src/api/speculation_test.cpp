// Speculative decoding through the library: what it may change (counts and times) and what not (answers).
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "gguf/bytes_for_test.h"
#include "ruvltra/model.h"

namespace ruvltra {
namespace {

using testing::TemporaryFolder;

const std::filesystem::path kModels = std::filesystem::path(RUVLTRA_SOURCE_DIR) / "models";
constexpr std::string_view kLoop = "one two three one two three one two three one";
constexpr std::string_view kOpening = "Once upon a time there was an old king who had three sons";

MediumConfig plain_config() {
  MediumConfig config;
  config.context_length = 512;
  config.n_threads = 2;
  config.engine.parallel = 4;
  return config;
}

MediumConfig config_of(DraftSource source, bool adaptive, float draft_temperature = 0) {
  MediumConfig config = plain_config();
  config.use_speculative_decoding = true;
  config.speculative_config = {.source = source,
                               .lookahead = 4,
                               .acceptance_threshold = 0,
                               .draft_temperature = draft_temperature,
                               .adaptive = adaptive};
  if (source != DraftSource::kLookup) config.draft_model_path = kModels / "pico-q8_0.gguf";
  return config;
}

MediumModel load(const MediumConfig& config) {
  auto loaded = MediumModel::load(kModels / "nano-q8_0.gguf", config, {.tune = false, .on_progress = {}});
  EXPECT_TRUE(loaded) << loaded.error().message;
  return std::move(*loaded);
}

std::string error_of(const MediumConfig& config) {
  const auto loaded =
      MediumModel::load(kModels / "nano-q8_0.gguf", config, {.tune = false, .on_progress = {}});
  return loaded ? "" : std::string(loaded.error().id) + " " + loaded.error().message;
}

std::vector<Request> requests() {
  std::vector<Request> out;
  for (const float temperature : {0.0f, 0.7f, 1.3f}) {
    for (int kind = 0; kind < 4; ++kind) {
      GenerateParams params;
      params.raw = true;
      params.max_tokens = 48;
      params.seed = 3;
      params.temperature = temperature;
      params.n_logprobs = 3;
      if (kind == 1) params.n = 3;
      if (kind == 2) params.repeat_penalty = 1.15f;
      if (kind == 2) params.presence_penalty = params.frequency_penalty = 0.2f;
      if (kind == 3) params.stop = {"king's", " two,", "ow"};
      out.push_back({std::string(kind % 2 == 0 ? kLoop : kOpening), params, {}});
    }
  }
  return out;
}

std::vector<std::vector<Generation>> answers(MediumModel& model, const std::vector<Request>& requests) {
  std::vector<Stream> streams;
  std::vector<std::vector<Generation>> out;
  for (const Request& request : requests) streams.push_back(std::move(*model.engine().stream(request)));
  for (Stream& stream : streams) {
    const auto generations = stream.wait();
    out.emplace_back(generations.begin(), generations.end());
  }
  return out;
}

void expect_same(const Generation& a, const Generation& b) {
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.finish_reason, b.finish_reason);
  ASSERT_EQ(a.logprobs.size(), b.logprobs.size());
  for (size_t i = 0; i < a.logprobs.size(); ++i) {
    EXPECT_EQ(std::memcmp(&a.logprobs[i].logprob, &b.logprobs[i].logprob, sizeof(double)), 0);
    ASSERT_EQ(a.logprobs[i].top.size(), b.logprobs[i].top.size());
    for (size_t k = 0; k < a.logprobs[i].top.size(); ++k) {
      EXPECT_EQ(a.logprobs[i].top[k].token, b.logprobs[i].top[k].token);
      EXPECT_EQ(a.logprobs[i].top[k].logprob, b.logprobs[i].top[k].logprob);
    }
  }
}

// Those of the last step come a moment after its tokens.
EngineStats settled_stats(MediumModel& model) {
  while (model.engine().stats().n_running > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return model.engine().stats();
}

TEST(Speculation, ChangesNoAnswer) {
  MediumModel plain = load(plain_config());
  const auto asked = requests();
  const auto expected = answers(plain, asked);
  EXPECT_EQ(settled_stats(plain).speculation.n_drafts, 0u);
  struct Kind {
    DraftSource source;
    bool adaptive;
    float draft_temperature;
  };
  for (const Kind& kind : {Kind{DraftSource::kLookup, false, 0}, Kind{DraftSource::kModel, false, 0},
                           Kind{DraftSource::kModel, false, 1}, Kind{DraftSource::kAuto, false, 0},
                           Kind{DraftSource::kAuto, true, 0}}) {
    SCOPED_TRACE(std::to_string(static_cast<int>(kind.source)) + (kind.adaptive ? ", adaptive" : ""));
    MediumModel model = load(config_of(kind.source, kind.adaptive, kind.draft_temperature));
    const auto found = answers(model, asked);
    size_t n_drafted = 0, n_accepted = 0, n_marked = 0;
    for (size_t i = 0; i < asked.size(); ++i) {
      ASSERT_EQ(found[i].size(), expected[i].size());
      for (size_t choice = 0; choice < found[i].size(); ++choice) {
        SCOPED_TRACE("request " + std::to_string(i) + ", choice " + std::to_string(choice));
        expect_same(found[i][choice], expected[i][choice]);
        n_drafted += found[i][choice].n_drafted;
        n_accepted += found[i][choice].n_accepted;
        for (const Sampled& sampled : found[i][choice].logprobs) n_marked += sampled.was_drafted;
      }
    }
    const EngineStats stats = settled_stats(model);
    const SpeculationStats& spec = stats.speculation;
    EXPECT_EQ(spec.n_drafted, n_drafted);
    EXPECT_EQ(spec.n_accepted, n_accepted);
    EXPECT_EQ(n_marked, n_accepted);
    EXPECT_LE(spec.n_accepted, spec.n_judged);
    EXPECT_LE(spec.n_judged, spec.n_drafted);
    EXPECT_LE(spec.n_judged, spec.n_accepted + spec.n_drafts) << "one refused proposal ends a draft";
    EXPECT_LE(spec.n_accepted_by_lookup, spec.n_by_lookup);
    EXPECT_LE(spec.n_by_lookup, spec.n_drafted);
    EXPECT_EQ(spec.n_drafted_at[0], spec.n_drafts);
    uint64_t drafted_at = 0, accepted_at = 0;
    for (size_t place = 0; place < spec.n_drafted_at.size(); ++place) {
      EXPECT_LE(spec.n_accepted_at[place], spec.n_drafted_at[place]);
      drafted_at += spec.n_drafted_at[place];
      accepted_at += spec.n_accepted_at[place];
      if (place >= 4 && !kind.adaptive) {
        EXPECT_EQ(spec.n_drafted_at[place], 0u);
      }
    }
    EXPECT_EQ(drafted_at, spec.n_drafted);
    EXPECT_EQ(accepted_at, spec.n_accepted);
    if (!kind.adaptive) {
      EXPECT_GT(spec.n_accepted, 0u);
      EXPECT_EQ(spec.draft_seconds > 0, kind.source != DraftSource::kLookup);
      EXPECT_EQ(spec.n_by_lookup > 0, kind.source != DraftSource::kModel);
    }
    if (kind.source == DraftSource::kLookup) {
      EXPECT_EQ(spec.n_by_lookup, spec.n_drafted);
    }
  }
}

TEST(Speculation, MayBeDeclinedByARequest) {
  MediumModel model = load(config_of(DraftSource::kAuto, false));
  Request request = requests()[0];
  const Generation with = std::move(*model.engine().stream(request)).wait().front();
  EXPECT_GT(with.n_accepted, 0u);
  const uint64_t n_drafted = settled_stats(model).speculation.n_drafted;
  request.treatment.speculate = false;
  const Generation without = std::move(*model.engine().stream(request)).wait().front();
  expect_same(with, without);
  EXPECT_EQ(without.n_drafted, 0u);
  EXPECT_EQ(settled_stats(model).speculation.n_drafted, n_drafted);
}

// Answers that end early give back what the draft model holds: else it would soon have no room.
TEST(Speculation, CancelledAnswersLeaveNothingBehind) {
  MediumConfig config = config_of(DraftSource::kModel, false);
  MediumModel sized = load(config);
  config.engine.kv_bytes = 8 * sized.engine().stats().page_bytes;
  MediumModel model = load(config);
  Request request = requests()[0];
  std::get<std::string>(request.prompt) = std::string(kOpening) + ", " + std::string(kOpening);
  request.params.max_tokens = 400;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    request.params.seed = seed;
    Stream stream = std::move(*model.engine().stream(request));
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(stream.next());
    stream.cancel();
    stream.wait();
  }
  request.params.max_tokens = 40;
  const Generation last = std::move(*model.engine().stream(request)).wait().front();
  EXPECT_GT(last.n_drafted, 40u);
}

TEST(Speculation, RefusesConfigurations) {
  MediumConfig config = config_of(DraftSource::kModel, true);
  config.draft_model_path.reset();
  EXPECT_TRUE(error_of(config).starts_with("config.draft_model_path ")) << error_of(config);
  config = config_of(DraftSource::kModel, true);
  config.use_speculative_decoding = false;
  EXPECT_TRUE(error_of(config).starts_with("config.draft_model_path ")) << error_of(config);
  config = config_of(DraftSource::kLookup, true);
  config.draft_model_path = kModels / "pico-q8_0.gguf";
  EXPECT_TRUE(error_of(config).starts_with("config.draft_model_path ")) << error_of(config);
  config = config_of(DraftSource::kAuto, true);
  config.draft_model_path = kModels / "no such file";
  const auto missing = MediumModel::load(kModels / "nano-q8_0.gguf", config);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kIo);
  EXPECT_NE(missing.error().message.find("no such file"), std::string::npos);
}

TEST(Speculation, RefusesAnotherVocabulary) {
  const TemporaryFolder folder;
  const auto path = folder / "other.gguf";
  std::string bytes;
  {
    std::ifstream in(kModels / "pico-q8_0.gguf", std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  const size_t at = bytes.find("<|im_start|>");
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, 12, "<|im_stopt|>");
  std::ofstream(path, std::ios::binary) << bytes;
  MediumConfig config = config_of(DraftSource::kModel, true);
  config.draft_model_path = path;
  const auto loaded =
      MediumModel::load(kModels / "nano-q8_0.gguf", config, {.tune = false, .on_progress = {}});
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().id, "draft.vocabulary");
  EXPECT_EQ(loaded.error().kind, ErrorKind::kUsage);
  EXPECT_NE(loaded.error().message.find("token 4094"), std::string::npos) << loaded.error().message;
}

// A limit that the model alone keeps.
TEST(Speculation, TheDraftCountsAsMemory) {
  MediumConfig config = plain_config();
  config.engine.kv_bytes = 16 << 20;
  config.memory_limit_bytes = 1 << 20;
  while (!error_of(config).empty()) config.memory_limit_bytes += 1 << 20;
  MediumConfig both = config_of(DraftSource::kModel, true);
  both.engine.kv_bytes = config.engine.kv_bytes;
  both.memory_limit_bytes = config.memory_limit_bytes;
  EXPECT_TRUE(error_of(both).starts_with("memory.limit ")) << error_of(both);
  both.memory_limit_bytes += size_t{64} << 20;
  EXPECT_EQ(error_of(both), "");
}

}  // namespace
}  // namespace ruvltra
