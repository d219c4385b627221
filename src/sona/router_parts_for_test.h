// What tests of the router share: an embedder of hashed words, a store in a folder of its own, a clock.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "sona/router.h"
#include "sona/words.h"

namespace ruvltra {

// Texts with common stems are near; nothing else is. For tests only: no model has a say in it.
class HashedEmbedder final : public TextEmbedder {
 public:
  explicit HashedEmbedder(uint64_t space = 7) : space_(space) {}
  uint64_t space() const override { return space_; }
  Result<Embedding> embed(std::string_view text, std::string_view) override {
    ++n_embedded;
    return make(text);
  }
  bool cached(std::string_view, std::string_view, Embedding*) const override { return false; }
  std::atomic<size_t> n_embedded{0};

 private:
  Embedding make(std::string_view text) const {
    Embedding e{space_, std::vector<float>(kEmbeddingDim, 0)};
    for (const std::string& word : content_words(text)) {
      uint64_t h = space_;
      for (const char c : word) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
      e.values[h >> 32 & 255] += (h >> 40 & 1) != 0 ? 1.0f : -1.0f;
    }
    double sum = 0;
    for (const float v : e.values) sum += double{v} * v;
    if (sum == 0) e.values[0] = 1, sum = 1;
    for (float& v : e.values) v = static_cast<float>(v / std::sqrt(sum));
    return e;
  }
  uint64_t space_;
};

struct RouterBench {
  std::filesystem::path folder;
  std::unique_ptr<Store> store;
  std::unique_ptr<Router> router;
  int64_t clock = 1'700'000'000'000'000;

  explicit RouterBench(TextEmbedder* embedder = nullptr, double ewc_lambda = 1000) {
    std::string name = (std::filesystem::temp_directory_path() / "router_test_XXXXXX").string();
    folder = mkdtemp(name.data());
    reopen(embedder, ewc_lambda);
  }
  ~RouterBench() {
    router.reset();
    store.reset();
    std::filesystem::remove_all(folder);
  }
  void reopen(TextEmbedder* embedder = nullptr, double ewc_lambda = 1000) {
    router.reset();
    store.reset();
    Store::Options options;
    options.group_ms = 0;
    auto opened = Store::open(folder, options);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    store = std::move(*opened);
    Router::Options routing;
    routing.ewc_lambda = ewc_lambda;
    routing.now = [this] { return clock; };
    auto made = Router::open(*store, embedder, routing);
    ASSERT_TRUE(made.has_value()) << made.error().message;
    router = std::move(*made);
    ASSERT_TRUE(router->prepare().has_value());
  }
  RoutingDecision route(std::string_view task, RouteOptions options = {}) {
    clock += 1'000'000;
    auto decision = router->route(task, options);
    EXPECT_TRUE(decision.has_value()) << (decision ? "" : decision.error().message);
    return decision.value_or(RoutingDecision{});
  }
  void tell(const DecisionId& id, RouteOutcome outcome, const Scope& scope = {}) {
    clock += 1'000'000;
    const auto told = router->feedback(id, outcome, scope);
    EXPECT_TRUE(told.has_value()) << (told ? "" : told.error().message);
  }
  // p of an agent for a task, by a decision that is not recorded.
  double p_of(std::string_view task, std::string_view agent, const RouteOptions& options = {}) {
    const auto why = router->explain(task, options);
    EXPECT_TRUE(why.has_value());
    for (size_t a = 0; why && a < why->agents.size(); ++a) {
      if (why->agents[a] == agent) return why->p[a];
    }
    return -1;
  }
};

inline RouteOutcome success_of(std::string agent) {
  RouteOutcome outcome;
  outcome.agent = std::move(agent);
  outcome.success = true;
  return outcome;
}
inline RouteOutcome failure() {
  RouteOutcome outcome;
  outcome.success = false;
  return outcome;
}

}  // namespace ruvltra
