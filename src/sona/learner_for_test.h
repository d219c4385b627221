// A small language for tests of the learner: hidden states are functions of the last two tokens, logits W h.
// Texts are drawn from it, or from an author who shifts every hidden state by the same vector.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "sona/learner.h"
#include "sona/lora_for_test.h"

namespace ruvltra::testing {

struct TestLanguage {
  static constexpr size_t kRows = 48, kWidth = 16, kLayers = 3;
  LoraWorld world{kRows, kWidth, 7, 5, 2, 1};
  std::vector<float> last = world.normals(kRows * kWidth, 0.9f), before = world.normals(kRows * kWidth, 0.4f);
  std::vector<float> mixing = world.normals(kLayers * kWidth * kWidth, 0.25f);
  std::atomic<int> n_passes = 0;

  std::vector<float> hidden(std::span<const TokenId> tokens, size_t t) const {
    std::vector<float> h(kWidth);
    for (size_t i = 0; i < kWidth; ++i) {
      h[i] = last[static_cast<size_t>(tokens[t]) * kWidth + i];
      if (t > 0) h[i] += before[static_cast<size_t>(tokens[t - 1]) * kWidth + i];
    }
    return h;
  }
  std::vector<float> tap(std::span<const float> h, int layer) const {
    std::vector<float> x(kWidth, 0);
    const float* m = mixing.data() + static_cast<size_t>(layer) * kWidth * kWidth;
    for (size_t i = 0; i < kWidth; ++i)
      for (size_t k = 0; k < kWidth; ++k) x[i] += m[i * kWidth + k] * h[k];
    return x;
  }
  TeacherForced forward() {
    return [this](std::span<const TokenId> tokens, size_t n_context, std::span<const int> layers,
                  const TeacherForcedRow& row) -> Result<void> {
      ++n_passes;
      for (size_t t = n_context - 1; t + 1 < tokens.size(); ++t) {
        const auto h = hidden(tokens, t);
        const auto z = world.logits(h, {}, {});
        const std::vector<float> logits(z.begin(), z.end());
        std::vector<std::vector<float>> values;
        std::vector<const float*> taps;
        for (const int layer : layers) values.push_back(tap(h, layer));
        for (const auto& value : values) taps.push_back(value.data());
        row(t, logits, taps.data(), static_cast<float>(euclidean_norm(h.data(), kWidth)));
      }
      return {};
    };
  }
  // n tokens of an author; an empty shift is the language itself.
  std::vector<TokenId> text(size_t n, std::mt19937& random, std::span<const float> shift = {}) const {
    std::vector<TokenId> tokens = {static_cast<TokenId>(random() % kRows)};
    while (tokens.size() < n) {
      auto h = hidden(tokens, tokens.size() - 1);
      for (size_t i = 0; i < shift.size(); ++i) h[i] += shift[i];
      const auto p = softmax(world.logits(h, {}, {}));
      tokens.push_back(static_cast<TokenId>(std::discrete_distribution<size_t>(p.begin(), p.end())(random)));
    }
    return tokens;
  }
  // Mean NLL under an adapter, by the full softmax in double: what records are an approximation of.
  double nll(const Adapter& adapter, std::span<const std::vector<TokenId>> texts) const {
    double sum = 0;
    size_t n = 0;
    const AdapterBasis& basis = adapter.basis();
    std::vector<float> phi(basis.n_features());
    for (const auto& tokens : texts) {
      for (size_t t = 0; t + 1 < tokens.size(); ++t, ++n) {
        const auto h = hidden(tokens, t);
        std::vector<std::vector<float>> values;
        std::vector<const float*> taps;
        for (const int layer : basis.tap_layers()) values.push_back(tap(h, layer));
        for (const auto& value : values) taps.push_back(value.data());
        adapter_features(basis.view(), taps.data(), phi.data());
        const auto z = world.logits(h, phi, LoraWorld::doubles(adapter.b()));
        sum += log_sum_exp(z) - z[static_cast<size_t>(tokens[t + 1])];
      }
    }
    return sum / static_cast<double>(n);
  }
  LearningSpaceSpec spec() const {
    LearningSpaceSpec spec;
    spec.basis.model.fill(7);
    spec.basis.n_layers = kLayers;
    spec.basis.d_model = kWidth;
    spec.basis.layers = {0, 1};
    spec.basis.rank = 2;
    spec.min_canary_texts = 24;
    spec.min_canary_tokens = 1200;
    return spec;
  }
  // Canary texts "0", "1", ...: drawn from the language with that seed.
  LearningSpace::Encode encode() const {
    return [this](std::string_view text) -> Result<std::vector<TokenId>> {
      std::mt19937 random(static_cast<uint32_t>(1000 + std::stoi(std::string(text))));
      return this->text(70, random);
    };
  }
};

class TestFolder {
 public:
  TestFolder() {
    static std::atomic<int> n = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("ruvltra-learner-" + std::to_string(getpid()) + "-" + std::to_string(n++));
    std::filesystem::create_directories(path_);
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A learner on a store of its own. What a machine keeps is in `folder`.
struct TestLearner {
  TestLanguage& language;
  std::filesystem::path folder;
  std::unique_ptr<Store> store;
  std::shared_ptr<const LearningSpace> space;
  std::atomic<int64_t> now = 1'000'000'000;
  std::unique_ptr<Learner> learner;

  static std::vector<std::string_view> canary() {
    static const std::vector<std::string> names = [] {
      std::vector<std::string> all;
      for (int i = 0; i < 24; ++i) all.push_back(std::to_string(i));
      return all;
    }();
    return {names.begin(), names.end()};
  }
  static Result<std::shared_ptr<const LearningSpace>> open_space(TestLanguage& language,
                                                                 const std::filesystem::path& folder) {
    const auto texts = canary();
    return LearningSpace::open(folder, language.spec(), *language.world.head, texts, language.encode(),
                               language.forward());
  }
  LearnerOptions options() {
    LearnerOptions options;
    options.automatic = false;
    options.max_steps = 4;
    options.low_priority = false;  // other tests run beside these
    options.clock_us = [this] { return now.load(); };
    options.gates.min_canary_tokens = 1000;
    // Hidden states are short for what the authors say: these gates are tested where they stand (gates_test).
    options.gates.max_canary_rise = options.gates.max_drift = options.gates.max_delta_ratio = 10;
    return options;
  }
  TestLearner(TestLanguage& of, std::filesystem::path path, std::function<void(LearnerOptions&)> change = {})
      : language(of), folder(std::move(path)) {
    Store::Options store_options;
    store_options.backup_hours = 0;
    auto opened = Store::open(folder, store_options);
    EXPECT_TRUE(opened) << opened.error().message;
    store = std::move(*opened);
    auto made = open_space(language, folder);
    EXPECT_TRUE(made) << made.error().message;
    space = *made;
    LearnerOptions own = options();
    if (change) change(own);
    auto started = Learner::open(space, *store, folder, language.forward(), own);
    EXPECT_TRUE(started) << started.error().message;
    learner = std::move(*started);
  }
  LearningSignal signal(const std::string& tenant, std::vector<TokenId> tokens,
                        LearningSignalKind kind = LearningSignalKind::kAccepted) {
    LearningSignal signal;
    signal.scope = {.tenant = tenant, .session = ""};
    signal.tokens = std::move(tokens);
    signal.n_context = 1;
    signal.kind = kind;
    return signal;
  }
  // n texts of 65 tokens.
  void teach(const std::string& tenant, int n, std::mt19937& random, std::span<const float> shift = {},
             const std::string& session = "") {
    for (int i = 0; i < n; ++i) {
      LearningSignal one = signal(tenant, language.text(65, random, shift));
      one.scope.session = session;
      EXPECT_TRUE(learner->enqueue(std::move(one)));
    }
  }
  LearnReport learn(const std::string& tenant, const std::string& session = "") {
    auto report = learner->learn({.tenant = tenant, .session = session});
    EXPECT_TRUE(report) << report.error().message;
    return report ? *report : LearnReport{};
  }
  uint64_t count(const std::string& name) const {
    const auto counters = learner->status().counters;
    const auto found = counters.find(name);
    return found == counters.end() ? 0 : found->second;
  }
};

// What every test of the learner begins with.
class LearnerTest : public ::testing::Test {
 protected:
  TestLanguage language;
  TestFolder folder;
  std::mt19937 random{17};
  std::vector<float> author = language.world.normals(TestLanguage::kWidth, 0.6f);
  const Scope ann{.tenant = "ann", .session = ""};
};

}  // namespace ruvltra::testing
