#include "ruvltra/sona.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <thread>

#include "ruvltra/model.h"

namespace ruvltra {
namespace {

const std::filesystem::path kModel = std::filesystem::path(RUVLTRA_SOURCE_DIR) / "models" / "nano-q8_0.gguf";
constexpr std::string_view kStory = "Tell me a story about a fox and a crow.";

// A folder that holds a basis already, copied for every test: fitting one takes a while under sanitizers.
class SonaTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    prepared = std::filesystem::temp_directory_path() / ("ruvltra-sona-basis-" + std::to_string(getpid()));
    MediumModel model = load(prepared, LearnMode::kOff);
    ASSERT_TRUE(model.enable_sona());
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(prepared); }
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() / ("ruvltra-sona-" + std::to_string(getpid()));
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    for (const auto& each : std::filesystem::directory_iterator(prepared)) {
      if (each.path().filename().string().starts_with("basis-"))
        std::filesystem::copy(each.path(), folder / each.path().filename());
    }
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  static MediumModel load(const std::filesystem::path& data_dir, LearnMode learn, bool bank = true) {
    MediumConfig config;
    config.context_length = 512;
    config.n_threads = 2;
    config.engine.parallel = 4;
    config.data_dir = data_dir;
    config.sona_config.learn = learn;
    config.enable_reasoning_bank = bank;
    return std::move(*MediumModel::load(kModel, config));
  }
  static GenerateParams params(int max_tokens) {
    GenerateParams out;
    out.max_tokens = max_tokens;
    out.seed = 5;
    return out;
  }
  std::filesystem::path folder;
  static std::filesystem::path prepared;
};
std::filesystem::path SonaTest::prepared;

Trajectory parser_task(double quality = 0.9) {
  Trajectory t("code-generation");
  t.add_state({"write a parser for dates"});
  t.add_action("generate_function", quality, "use strptime and check the rest of the text");
  t.set_verdict(Verdict::success());
  return t;
}

TEST_F(SonaTest, HooksFitTheModel) {
  MediumModel model = load(folder, LearnMode::kOff);
  EXPECT_EQ(model.sona(), nullptr);
  ASSERT_TRUE(model.enable_sona());
  EXPECT_EQ(model.enable_sona().error().id, "learning.enabled");
  SonaStatus status = model.sona()->status();
  EXPECT_EQ(status.hooks_requested, (std::vector{8, 16, 24}));
  EXPECT_EQ(status.hooks_effective, (std::vector{1, 2, 3}));  // of four layers
  EXPECT_TRUE(status.hooks_scaled);
  EXPECT_EQ(status.embed_layer, 2);
  model.disable_sona();
  EXPECT_EQ(model.sona(), nullptr);
  EXPECT_EQ(model.enable_sona_with_hooks(std::vector{8}).error().id, "config.sona_hooks.layers");
  EXPECT_EQ(model.enable_sona_with_hooks(std::vector{1, 1}).error().id, "config.sona_hooks.layers");
  EXPECT_EQ(model.enable_sona_with_hooks(std::vector{0, 1, 2, 3, 3}).error().id, "config.sona_hooks.layers");
}

TEST_F(SonaTest, WithoutAFolderItLastsAsLongAsTheModel) {
  std::filesystem::path temporary;
  {
    MediumModel model = load({}, LearnMode::kOff);
    ASSERT_TRUE(model.enable_sona_with_hooks(std::vector{1}));
    temporary = model.sona()->status().folder;
    EXPECT_TRUE(std::filesystem::exists(temporary / "learn.db"));
    EXPECT_EQ(model.sona()->status().embed_layer, 1);
    EXPECT_FALSE(model.sona()->status().hooks_scaled);
  }
  EXPECT_FALSE(std::filesystem::exists(temporary));
}

// A trajectory holds real hidden states, survives a restart, and leaves a bank item behind.
TEST_F(SonaTest, TrajectoriesAreKeptWithTheirHiddenStates) {
  TrajectoryId id;
  std::vector<float> text_embedding;
  {
    MediumModel model = load(folder, LearnMode::kOff);
    ASSERT_TRUE(model.enable_sona());
    id = *model.sona()->record_trajectory(parser_task());
    text_embedding = *model.sona()->embed("write a parser for dates");
  }
  MediumModel model = load(folder, LearnMode::kOff);
  ASSERT_TRUE(model.enable_sona());
  Sona& sona = *model.sona();
  const Trajectory kept = *sona.trajectory(id);
  ASSERT_EQ(kept.steps.size(), 2u);
  ASSERT_TRUE(kept.steps[0].hooks);
  EXPECT_EQ(kept.steps[0].hooks->layers, (std::vector{1, 2, 3}));
  EXPECT_EQ(kept.steps[0].hooks->space, sona.status().space);
  // The middle hook is the embedding layer; the store keeps f16.
  for (size_t i = 0; i < kEmbeddingDim; ++i)
    ASSERT_NEAR(kept.steps[0].hooks->values[kEmbeddingDim + i], text_embedding[i], 1e-3);
  EXPECT_DOUBLE_EQ(*kept.final_quality(), 1.0);  // the verdict goes before the actions' mean
  EXPECT_GT(kept.created_us, 0);
  const auto hits = *sona.reasoning_bank().search("write a parser for dates", 3, {}, {.gated = false});
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_NE(hits[0].text.find("use strptime"), std::string::npos);
  EXPECT_GT(hits[0].similarity, 0.99);
  EXPECT_EQ(sona.trajectory(id, {.tenant = "other"}).error().id, "store.not_found");
  EXPECT_TRUE(sona.reasoning_bank()
                  .search("write a parser for dates", 3, {.tenant = "other"}, {.gated = false})
                  ->empty());
}

TEST_F(SonaTest, WhatIsWrongWithATrajectoryIsSaid) {
  MediumModel model = load(folder, LearnMode::kOff);
  ASSERT_TRUE(model.enable_sona());
  Sona& sona = *model.sona();
  const auto error_of = [&](Trajectory t, Scope scope = {}) {
    return sona.record_trajectory(std::move(t), scope).error().id;
  };
  EXPECT_EQ(error_of(Trajectory("empty")), "learning.trajectory");
  EXPECT_EQ(error_of(parser_task(1.5)), "learning.quality");
  EXPECT_EQ(error_of(parser_task(NAN)), "learning.quality");
  Trajectory nameless("t");
  nameless.add_action("");
  EXPECT_EQ(error_of(nameless), "learning.trajectory");
  Trajectory foreign("t");
  foreign.add_state({.text = "x", .hooks = HookState{123, {1, 2, 3}, std::vector<float>(3 * kEmbeddingDim)}});
  EXPECT_EQ(error_of(foreign), "learning.space");
  HookState state = *sona.hook_state("a text");
  state.values[7] = NAN;
  Trajectory not_finite("t");
  not_finite.add_state({.text = "x", .hooks = state});
  EXPECT_EQ(error_of(not_finite), "learning.not_finite");
  state.values.resize(10);
  Trajectory cut("t");
  cut.add_state({.text = "x", .hooks = state});
  EXPECT_EQ(error_of(cut), "learning.space");
  Trajectory bytes("t");
  bytes.add_state({"\xff"});
  EXPECT_EQ(error_of(bytes), "learning.trajectory");
  Trajectory attempts("t");
  attempts.add_action("a").set_verdict(Verdict::recovered(0));
  EXPECT_EQ(error_of(attempts), "learning.trajectory");
  EXPECT_EQ(error_of(parser_task(), {.tenant = ""}), "bank.tenant");
  EXPECT_EQ(sona.status().n_trajectories, 0u);
}

// Off, or recording: the same bits as without a learning system.
TEST_F(SonaTest, NothingTheModelAnswersChanges) {
  MediumModel plain = load({}, LearnMode::kOff);
  const Generation expected = *plain.generate(kStory, params(40));
  const auto tokens = *plain.tokenize("Once upon a time there was a king");
  const auto logits = plain.forward(tokens)->values;
  MediumModel model = load(folder, LearnMode::kRecord);
  ASSERT_TRUE(model.enable_sona());
  EXPECT_EQ(model.generate(kStory, params(40))->tokens, expected.tokens);
  EXPECT_EQ(model.forward(tokens)->values, logits);
  model.sona()->flush();
  EXPECT_EQ(model.generate(kStory, params(40))->tokens, expected.tokens);
  EXPECT_EQ(model.sona()->status().n_recorded, 1u);
}

TEST_F(SonaTest, AnswersAreRecordedByThemselves) {
  MediumModel model = load(folder, LearnMode::kRecord);
  ASSERT_TRUE(model.enable_sona());
  Sona& sona = *model.sona();
  Request request{std::vector<ChatMessage>{{"user", std::string(kStory), {}}}, params(24), {}};
  request.treatment.tenant = "anna";
  request.treatment.session = "s1";
  Stream stream = std::move(*model.engine().stream(request));
  const Generation answer = stream.wait()[0];
  const TrajectoryId id = *sona.trajectory_of(stream.id(), {.tenant = "anna"});
  const Trajectory kept = *sona.trajectory(id, {.tenant = "anna"});
  EXPECT_EQ(kept.task_type, "chat");
  ASSERT_EQ(kept.steps.size(), 3u);
  EXPECT_EQ(kept.steps[0].text, kStory);  // the message, not the template around it
  EXPECT_TRUE(kept.steps[0].hooks);
  EXPECT_EQ(kept.steps[1].name, "answer");
  EXPECT_EQ(kept.steps[1].text, answer.text);
  EXPECT_TRUE(kept.steps[2].hooks);  // what the hooks saw while it was written
  EXPECT_FALSE(kept.final_quality());

  // What asks not to be, or was cut off, is not.
  request.treatment.record = false;
  EXPECT_EQ(model.engine().stream(request)->wait()[0].tokens, answer.tokens);
  request.treatment.record = true;
  request.params.max_tokens = 400;
  request.params.ignore_eos = true;
  Stream cancelled = std::move(*model.engine().stream(request));
  cancelled.next();
  cancelled.cancel();
  cancelled.wait();
  EXPECT_EQ(sona.trajectory_of(cancelled.id(), {.tenant = "anna"}).error().id, "learning.not_found");
  EXPECT_EQ(sona.status().n_trajectories, 1u);
}

// Feedback on an answer becomes the trajectory's quality, a correction a bank item that the next answer can
// use.
TEST_F(SonaTest, FeedbackReachesTheBank) {
  MediumModel model = load(folder, LearnMode::kRecord);
  ASSERT_TRUE(model.enable_sona());
  Sona& sona = *model.sona();
  Stream stream = std::move(*model.engine().stream({std::string(kStory), params(12), {}}));
  stream.wait();
  ASSERT_TRUE(sona.feedback(stream.id(), {.quality = 0.2,
                                          .correction = "The crow kept the cheese and laughed at the fox.",
                                          .feedback_id = "f1"}));
  const Trajectory kept = *sona.trajectory(*sona.trajectory_of(stream.id()));
  EXPECT_DOUBLE_EQ(*kept.final_quality(), 0.2);
  const auto hits = *sona.reasoning_bank().search(kStory, 5, {}, {.gated = false});
  const auto correction = std::find_if(
      hits.begin(), hits.end(), [](const PatternHit& hit) { return hit.kind == PatternKind::kCorrection; });
  ASSERT_NE(correction, hits.end());
  EXPECT_NE(correction->text.find("kept the cheese"), std::string::npos);
  const ContextBlock block = *sona.reasoning_bank().context_for(kStory);
  EXPECT_NE(block.text.find("kept the cheese"), std::string::npos);

  const size_t n_items = sona.reasoning_bank().size();
  EXPECT_TRUE(sona.feedback(stream.id(), {.quality = 0.2,
                                          .correction = "The crow kept the cheese and laughed at the fox.",
                                          .feedback_id = "f1"}));
  EXPECT_EQ(sona.reasoning_bank().size(), n_items);  // the same again is nothing new
  EXPECT_EQ(sona.feedback(stream.id(), {.quality = 0.9, .feedback_id = "f1"}).error().id, "store.conflict");
  EXPECT_EQ(sona.feedback(stream.id(), {.quality = 2}).error().id, "learning.quality");
  EXPECT_EQ(sona.feedback(stream.id(), {.quality = NAN}).error().id, "learning.quality");
  EXPECT_EQ(sona.feedback(stream.id(), {}).error().id, "learning.signal");
  EXPECT_EQ(sona.feedback(RequestId{99999}, {.quality = 1}).error().id, "learning.not_found");
  EXPECT_FALSE(sona.feedback(*sona.trajectory_of(stream.id()), {.quality = 1}, {.tenant = "other"}));
}

TEST_F(SonaTest, TheBankCanBeOff) {
  MediumModel model = load(folder, LearnMode::kOff, false);
  ASSERT_TRUE(model.enable_sona());
  ASSERT_TRUE(model.sona()->record_trajectory(parser_task()));
  EXPECT_EQ(model.sona()->reasoning_bank().size(), 0u);
  EXPECT_EQ(model.sona()->status().n_trajectories, 1u);
  // By hand it can be used all the same.
  const PatternId id = *model.sona()->reasoning_bank().store({.title = "dates", .text = "use strptime"});
  EXPECT_TRUE(model.sona()->reasoning_bank().outcome(std::span(&id, 1), 1.0));
  EXPECT_EQ(model.sona()->reasoning_bank().outcome(std::span(&id, 1), 1.0, {.tenant = "b"}).error().id,
            "learning.not_found");
}

TEST_F(SonaTest, ATenantsDataCanBeDeleted) {
  MediumModel model = load(folder, LearnMode::kOff);
  ASSERT_TRUE(model.enable_sona());
  Sona& sona = *model.sona();
  const TrajectoryId of_a = *sona.record_trajectory(parser_task(), {.tenant = "a"});
  const TrajectoryId of_b = *sona.record_trajectory(parser_task(), {.tenant = "b"});
  const DeleteReport report = *sona.delete_data("a");
  EXPECT_EQ(report.n_trajectories, 1u);
  EXPECT_EQ(report.n_patterns, 1u);
  EXPECT_FALSE(sona.trajectory(of_a, {.tenant = "a"}));
  EXPECT_TRUE(sona.trajectory(of_b, {.tenant = "b"}));
  EXPECT_EQ(sona.reasoning_bank().size(), 1u);
}

TEST_F(SonaTest, ManyThreadsAtOnce) {
  MediumModel model = load(folder, LearnMode::kRecord);
  ASSERT_TRUE(model.enable_sona());
  Sona& sona = *model.sona();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const Scope scope{.tenant = "t" + std::to_string(i)};
      for (int k = 0; k < 4; ++k) {
        ASSERT_TRUE(sona.record_trajectory(parser_task(), scope));
        ASSERT_TRUE(model.generate(kStory, params(6)));
        ASSERT_TRUE(sona.reasoning_bank().search("dates", 2, scope));
      }
    });
  }
  auto later = sona.record_trajectory_async(parser_task());
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(later.get());
  sona.flush();
  EXPECT_EQ(sona.status().n_trajectories, 4u * 8 + 1);
  EXPECT_TRUE(sona.pattern_bank().consolidate());
}

// Many corrections of one answer at once: each is in the trajectory in the end, saying one again is nothing
// new.
TEST_F(SonaTest, NoAcknowledgedFeedbackIsLost) {
  MediumModel model = load(folder, LearnMode::kOff);
  ASSERT_TRUE(model.enable_sona());
  Sona& sona = *model.sona();
  const TrajectoryId id = *sona.record_trajectory(parser_task());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 5; ++k) {
        const std::string text = "correction " + std::to_string(i) + "." + std::to_string(k);
        ASSERT_TRUE(sona.feedback(id, {.correction = text, .feedback_id = text}));
        ASSERT_TRUE(sona.feedback(id, {.correction = text, .feedback_id = text}));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sona.trajectory(id)->steps.size(), 2u + 20);
  EXPECT_EQ(sona.feedback(id, {.quality = 0.9, .success = false}).error().id, "learning.signal");
}

TEST_F(SonaTest, WithoutRecordingFeedbackSaysWhy) {
  MediumModel model = load(folder, LearnMode::kOff);
  ASSERT_TRUE(model.enable_sona());
  const Generation answer = *model.generate(kStory, params(4));
  EXPECT_GT(answer.id, 0u);
  const auto refused = model.sona()->feedback(answer.id, {.quality = 1});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("found off"), std::string::npos);
}

// The index of the bank is linked in the background, written at the end, and read at the next start.
TEST_F(SonaTest, TheIndexFileIsWrittenAndRead) {
  for (int start = 0; start < 3; ++start) {
    MediumModel model = load(folder, LearnMode::kOff);
    ASSERT_TRUE(model.enable_sona());
    ReasoningBank& bank = model.sona()->reasoning_bank();
    EXPECT_EQ(bank.size(), static_cast<size_t>(start * 20));
    EXPECT_EQ(bank.status().last_rejected, "") << "start " << start;
    for (int i = 0; i < 20; ++i) {
      const std::string text = "item " + std::to_string(start) + "." + std::to_string(i);
      ASSERT_TRUE(bank.store({.text = text, .when = "a task about " + text}));
    }
    model.disable_sona();
    EXPECT_TRUE(std::filesystem::exists(folder / "bank.rvc"));
  }
}

// Two owners of one folder are told apart, and the first is named.
TEST_F(SonaTest, AFolderHasOneOwner) {
  MediumModel model = load(folder, LearnMode::kOff), second = load(folder, LearnMode::kOff);
  ASSERT_TRUE(model.enable_sona());
  const auto refused = second.enable_sona();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().id, "store.locked");
  EXPECT_NE(refused.error().message.find(std::to_string(getpid())), std::string::npos)
      << refused.error().message;
}

}  // namespace
}  // namespace ruvltra
