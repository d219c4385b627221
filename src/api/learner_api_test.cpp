// Adapters behind the public face: a model that is taught a text it never saw answers differently, measurably
// better on the rest of that text, and for nobody else.
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "api/teacher_forced.h"
#include "ruvltra/model.h"
#include "ruvltra/sona.h"

namespace ruvltra {
namespace {

const std::filesystem::path kSource = RUVLTRA_SOURCE_DIR;
const std::filesystem::path kModel = kSource / "models" / "nano-q8_0.gguf";
constexpr std::string_view kStory = "Tell me a story about a fox and a crow.";

std::string text_of(const std::filesystem::path& file, size_t begin, size_t n) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream all;
  all << in.rdbuf();
  return all.str().substr(begin, n);
}
std::string melville(size_t begin, size_t n) {
  return text_of(kSource / "tests" / "data" / "authors" / "melville.txt", begin, n);
}

// Folders that hold basis, adapter basis and canary already: making them takes a while under sanitizers.
class LearnerApiTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    prepared = std::filesystem::temp_directory_path() / ("ruvltra-learner-ready-" + std::to_string(getpid()));
    MediumModel model = load(prepared, LearnMode::kOn);
    const auto enabled = model.enable_sona();
    ASSERT_TRUE(enabled) << enabled.error().message;
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(prepared); }
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() / ("ruvltra-learner-api-" + std::to_string(getpid()));
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    for (const auto& each : std::filesystem::directory_iterator(prepared)) {
      const std::string name = each.path().filename().string();
      if (name.find("basis") != std::string::npos || name == "canary.rvc1")
        std::filesystem::copy(each.path(), folder / name);
    }
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  static MediumModel load(const std::filesystem::path& data_dir, LearnMode learn) {
    MediumConfig config;
    config.context_length = 512;
    config.n_threads = 2;
    config.engine.parallel = 4;
    config.data_dir = data_dir;
    config.sona_config.learn = learn;
    config.sona_config.learn_at_low_priority = false;  // beside other tests
    return std::move(*MediumModel::load(kModel, config));
  }
  // Answers to the same question, as a hash of tokens and log-probabilities would tell them apart.
  static Generation ask(MediumModel& model, const Scope& scope = {}, std::optional<uint64_t> adapter = {}) {
    Request request;
    request.prompt = model.prompt(kStory);
    request.params.max_tokens = 24;
    request.params.seed = 5;
    request.params.n_logprobs = 3;
    request.treatment.tenant = scope.tenant;
    request.treatment.session = scope.session;
    request.adapter = adapter;
    auto stream = model.engine().stream(std::move(request));
    EXPECT_TRUE(stream) << stream.error().message;
    return std::move(stream->wait().front());
  }
  static bool same_bits(const Generation& a, const Generation& b) {
    if (a.tokens != b.tokens || a.logprobs.size() != b.logprobs.size()) return false;
    for (size_t i = 0; i < a.logprobs.size(); ++i) {
      if (a.logprobs[i].logprob != b.logprobs[i].logprob) return false;
      for (size_t k = 0; k < a.logprobs[i].top.size(); ++k)
        if (a.logprobs[i].top[k].logprob != b.logprobs[i].top[k].logprob) return false;
    }
    return true;
  }
  static double nll(MediumModel& model, const std::string& text, const std::optional<Scope>& learned = {}) {
    auto tokens = *model.tokenize(text);
    tokens.resize(std::min<size_t>(tokens.size(), 500));
    const Logits logits = *model.forward(tokens, {}, learned);
    double sum = 0;
    for (size_t t = 0; t + 1 < tokens.size(); ++t) {
      const float* row = logits.values.data() + t * logits.n_vocab;
      double total = 0;
      for (size_t v = 0; v < logits.n_vocab; ++v) total += std::exp(static_cast<double>(row[v]));
      sum += std::log(total) - static_cast<double>(row[tokens[t + 1]]);
    }
    return sum / static_cast<double>(tokens.size() - 1);
  }
  std::filesystem::path folder;
  static std::filesystem::path prepared;
};
std::filesystem::path LearnerApiTest::prepared;

TEST_F(LearnerApiTest, OnButUntrainedIsTheModelsOwnBits) {
  MediumModel off = load(folder, LearnMode::kOff);
  const Generation own = ask(off);
  MediumModel on = load(folder, LearnMode::kOn);
  ASSERT_TRUE(on.enable_sona());
  const Generation untrained = ask(on);
  EXPECT_TRUE(same_bits(own, untrained));
  EXPECT_EQ(untrained.adapter_generation, 0u);
  EXPECT_TRUE(untrained.adapter_hash.empty());
  const AdapterStatus status = on.sona()->status().adapters;
  EXPECT_TRUE(status.learns);
  EXPECT_TRUE(status.live.empty());
  EXPECT_TRUE(status.notes.empty()) << status.notes.front();  // basis and canary were loaded
}

TEST_F(LearnerApiTest, ATaughtTextIsPredictedBetterUntilItIsRolledBack) {
#ifdef __SANITIZE_ADDRESS__
  if (std::getenv("RUVLTRA_SLOW_TESTS") == nullptr)
    GTEST_SKIP() << "minutes under sanitizers: set RUVLTRA_SLOW_TESTS; src/sona/learner_test.cpp is quicker";
#endif
  const std::string rest = melville(500'000, 2000);
  const std::string tales = text_of(kSource / "tests" / "golden" / "heldout.txt", 10'000, 2000);
  Generation own, taught;
  double own_nll = 0, taught_nll = 0;
  {
    MediumModel model = load(folder, LearnMode::kOn);
    ASSERT_TRUE(model.enable_sona());
    Sona& sona = *model.sona();
    own = ask(model);
    own_nll = nll(model, rest);
    EXPECT_EQ(sona.learn()->reason, "too few tokens");
    EXPECT_GT(*sona.teach(melville(2000, 24'000)), 5500u);
    const LearningReport report = *sona.learn();
    ASSERT_TRUE(report.accepted) << report.reason << ": " << report.detail;
    EXPECT_GT(report.gain_lower_bound, 0);
    taught = ask(model);
    EXPECT_EQ(taught.adapter_generation, report.generation);
    EXPECT_EQ(taught.adapter_hash, report.hash);
    EXPECT_FALSE(same_bits(own, taught));
    taught_nll = nll(model, rest, Scope{});
    EXPECT_LT(taught_nll, own_nll);                                        // text it was not taught
    EXPECT_LT(nll(model, tales, Scope{}), 1.01 * nll(model, tales));       // and others lose little
    EXPECT_EQ(nll(model, rest), own_nll);                                  // the model itself is as it was
    EXPECT_TRUE(same_bits(ask(model, {}, 0), own));                        // by request
    EXPECT_TRUE(same_bits(ask(model, {.tenant = "somebody else"}), own));  // another tenant
  }
  MediumModel model = load(folder, LearnMode::kOn);  // after a restart
  ASSERT_TRUE(model.enable_sona());
  Sona& sona = *model.sona();
  EXPECT_TRUE(same_bits(ask(model), taught));
  const GenerationInfo live = sona.live();
  EXPECT_EQ(live.hash, taught.adapter_hash);
  EXPECT_TRUE(sona.rollback());
  EXPECT_TRUE(same_bits(ask(model), own));
  EXPECT_TRUE(same_bits(ask(model, {}, live.number), taught));  // kept, and asked for by number
  EXPECT_TRUE(sona.rollback({}, live.number));
  EXPECT_TRUE(same_bits(ask(model), taught));
  EXPECT_EQ(sona.live().hash, live.hash);
  EXPECT_GT(sona.live().number, live.number);
  EXPECT_TRUE(sona.reset());
  EXPECT_TRUE(same_bits(ask(model), own));
  EXPECT_EQ(sona.history().size(), 4u);

  // Of one tenant to another, as a file.
  const auto file = folder / "taken.rvc1";
  ASSERT_TRUE(sona.rollback({}, live.number));
  ASSERT_TRUE(sona.export_adapter(file));
  const auto imported = sona.import_adapter(file, {.tenant = "guest"});
  ASSERT_TRUE(imported) << imported.error().message;
  EXPECT_EQ(imported->hash, live.hash);
  EXPECT_TRUE(same_bits(ask(model, {.tenant = "guest"}), taught));

  // A tenant's deletion takes its weights with it.
  ASSERT_TRUE(sona.delete_data("local"));
  EXPECT_TRUE(same_bits(ask(model), own));
  EXPECT_TRUE(sona.history().empty());
  EXPECT_TRUE(same_bits(ask(model, {.tenant = "guest"}), taught));
}

TEST_F(LearnerApiTest, FeedbackBecomesSignals) {
  MediumModel model = load(folder, LearnMode::kOn);
  ASSERT_TRUE(model.enable_sona());
  Sona& sona = *model.sona();
  const auto n_signals = [&] { return sona.status().adapters.n_signals; };
  const Generation answer = ask(model);
  ASSERT_TRUE(sona.feedback(answer.id, {.correction = "Call me Ishmael."}));
  EXPECT_EQ(n_signals(), 1u);
  ASSERT_TRUE(sona.feedback(ask(model).id, {.accepted = true}));
  EXPECT_EQ(n_signals(), 2u);
  ASSERT_TRUE(sona.feedback(ask(model).id, {.quality = 0.5}));
  EXPECT_EQ(n_signals(), 3u);
  EXPECT_EQ(sona.feedback(answer.id, {}).error().id, "learning.signal");
  // Of a trajectory from before a restart, by its text.
  const TrajectoryId id = *sona.trajectory_of(answer.id);
  model.disable_sona();
  ASSERT_TRUE(model.enable_sona());
  ASSERT_TRUE(model.sona()->feedback(id, {.correction = "Call me Ishmael, if you please."}));
  EXPECT_EQ(model.sona()->status().adapters.n_signals, 1u);
}

// The scheduling class of the thread of that name; -1: there is none.
int policy_of_thread(const std::string& name) {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string found;
    std::getline(std::ifstream(task.path() / "comm"), found);
    if (found == name)
      return sched_getscheduler(static_cast<pid_t>(std::stoi(task.path().filename().string())));
  }
  return -1;
}

TEST_F(LearnerApiTest, ItsThreadGivesWayUnlessItIsTold) {
  for (const bool low : {true, false}) {
    MediumConfig config;
    config.context_length = 512;
    config.n_threads = 1;
    config.data_dir = folder;
    config.sona_config.learn = LearnMode::kOn;
    config.sona_config.learn_at_low_priority = low;
    auto model = MediumModel::load(kModel, config);
    ASSERT_TRUE(model) << model.error().message;
    ASSERT_TRUE(model->enable_sona());
    // The thread has set itself up when it has worked something off.
    ASSERT_TRUE(model->sona()->learn({.tenant = "ann", .session = ""}));
    EXPECT_EQ(policy_of_thread("sona-learn"), low ? SCHED_BATCH : sched_getscheduler(0)) << low;
  }
}

TEST_F(LearnerApiTest, WhoDoesNotLearnSaysSo) {
  MediumModel model = load(folder, LearnMode::kRecord);
  ASSERT_TRUE(model.enable_sona());
  EXPECT_EQ(model.sona()->teach("some text").error().id, "learning.disabled");
  EXPECT_EQ(model.sona()->learn().error().id, "learning.disabled");
  EXPECT_EQ(model.sona()->rollback().error().id, "learning.disabled");
  Request request;
  request.prompt = std::string("x");
  request.adapter = 3;
  EXPECT_EQ(model.engine().stream(std::move(request)).error().id, "learning.not_found");
}

// What learning sees of a text is what the model computes for anybody: the same logits, bit for bit, |h| of
// the row that makes them.
TEST_F(LearnerApiTest, TeacherForcedRowsAreTheModelsOwn) {
  MediumConfig config;
  config.context_length = 512;
  auto parts = *ModelParts::load(kModel, config, {});
  MediumModel model = *MediumModel::load(kModel, config);
  const auto tokens = *model.tokenize(melville(2000, 600));
  const Logits expected = *model.forward(tokens);
  size_t next = 6;
  const std::vector<int> taps = {1, 3, 3};
  // It rests after every piece, at most 16 tokens: asks then whether answers are made.
  size_t n_rests = 0;
  const auto pace = std::make_shared<LearningPace>([&] { return ++n_rests == 0; });
  const auto passed = teacher_forced(*parts, pace)(
      tokens, 7, taps,
      [&](size_t t, std::span<const float> logits, const float* const* states, float hidden_norm) {
        ASSERT_EQ(t, next++);
        for (size_t v = 0; v < logits.size(); ++v)
          ASSERT_EQ(logits[v], expected.values[t * expected.n_vocab + v]);
        EXPECT_EQ(states[1], states[2]);
        double squares = 0;
        const size_t d = parts->weights.shape.d_model;
        std::vector<double> x(states[1], states[1] + d);
        for (const double each : x) squares += each * each;
        const double scale = 1 / std::sqrt(squares / static_cast<double>(d) + 1e-6);
        double norm = 0;
        for (size_t i = 0; i < d; ++i)
          norm += std::pow(x[i] * scale * static_cast<double>(parts->weights.output_norm.data()[i]), 2);
        EXPECT_NEAR(hidden_norm, std::sqrt(norm), 1e-3 * std::sqrt(norm));
      });
  ASSERT_TRUE(passed) << passed.error().message;
  EXPECT_EQ(next, tokens.size() - 1);
  EXPECT_EQ(n_rests, 1 + (tokens.size() - 7 + 15) / 16);  // the six before the first target, then the rest
}

}  // namespace
}  // namespace ruvltra
