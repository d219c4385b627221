// What must hold when memory is small, records are bad, data goes, the store is slow or the model is not
// there.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <string_view>
#include <thread>

#include "base/fail.h"
#include "sona/route_tenant.h"
#include "sona/router_parts_for_test.h"

namespace ruvltra {
namespace {

std::unique_ptr<Router> open_router(RouterBench& bench, TextEmbedder* embedder,
                                    Router::Options options = {}) {
  options.now = [&bench] { return bench.clock; };
  auto made = Router::open(*bench.store, embedder, options);
  EXPECT_TRUE(made.has_value()) << (made ? "" : made.error().message);
  return made ? *std::move(made) : nullptr;
}

TEST(RouterDurable, VotesAreNeverFull) {
  HashedEmbedder embedder;
  RouterBench bench(&embedder);
  Router::Options options;
  options.max_outcomes = 50;
  bench.router = open_router(bench, &embedder, options);
  ASSERT_TRUE(bench.router->prepare().has_value());
  std::string last;
  for (int i = 0; i < 250; ++i) {
    last = "peel the apple number " + std::to_string(i) + " of batch" + std::to_string(i % 7);
    bench.tell(bench.route(last).id, success_of("designer"));
  }
  EXPECT_EQ(bench.router->status().n_outcomes, 50u);
  const RoutingDecision again = bench.route(last);
  ASSERT_FALSE(again.evidence.empty());
  EXPECT_EQ(again.evidence[0].task, last);
}

TEST(RouterDurable, ABadEmbeddingCountsByWords) {
  for (const float bad : {0.0f, std::numeric_limits<float>::infinity()}) {
    HashedEmbedder embedder;
    RouterBench bench(&embedder);
    DecisionRecord record;
    record.id = new_record_id();
    record.tenant = "local";
    record.task = "peel the apple";
    record.space = embedder.space();
    record.embedding.assign(kEmbeddingDim, bad);
    record.agent = record.outcome_agent = "designer";
    record.method = "lexical";
    record.probabilities = {{"designer", 0.5}};
    record.created_us = record.outcome_us = bench.clock;
    record.outcome_quality = 1;
    if (!bench.store->put_decision(record)) continue;  // the store refuses what is not finite
    const auto decision = bench.router->route("peel the apple");
    ASSERT_TRUE(decision.has_value()) << decision.error().message;
    EXPECT_EQ(decision->evidence.size(), 1u);
    ASSERT_TRUE(bench.router->train_head().has_value());
  }
}

TEST(RouterDurable, ThePriorSpeaksFromTheFirstOpenAndAfterEveryOther) {
  HashedEmbedder embedder;
  RouterBench bench;
  bench.router = open_router(bench, &embedder);
  const double weight = bench.router->status().weight_prior;
  EXPECT_GT(weight, 0);
  const char* task = "Write unit tests for the date parser";
  const auto before = bench.router->explain(task).value();
  EXPECT_FALSE(before.log_p[0].empty());
  bench.router = open_router(bench, &embedder);
  EXPECT_EQ(bench.router->status().weight_prior, weight);
  EXPECT_EQ(bench.router->explain(task).value().p, before.p);
}

// A model that can be made to wait, or to fail.
class GateEmbedder final : public TextEmbedder {
 public:
  uint64_t space() const override { return words_.space(); }
  Result<Embedding> embed(std::string_view text, std::string_view tenant) override {
    if (closed) {
      waiting = true;
      while (closed) std::this_thread::yield();
    }
    if (!error.empty()) return fail(ErrorKind::kBusy, error, "no embedding");
    return words_.embed(text, tenant);
  }
  bool cached(std::string_view, std::string_view, Embedding*) const override { return false; }
  std::atomic<bool> closed{false}, waiting{false};
  std::string_view error;

 private:
  HashedEmbedder words_;
};

// A training that began before the deletion must not write what it learned after it.
TEST(RouterDurable, NothingOfADeletedTenantComesBack) {
  GateEmbedder embedder;
  RouterBench bench(&embedder);
  const Scope scope{"secret", {}};
  RouteOptions options;
  options.scope = scope;
  options.prefer_speed = true;  // no embedding: the training makes it
  for (int i = 0; i < 30; ++i) {
    bench.tell(bench.route("peel the apple " + std::to_string(i), options).id, success_of("designer"), scope);
  }
  ASSERT_TRUE(bench.store->put_value(route_tenant_key("secret"), std::vector<uint8_t>{1}).has_value());
  embedder.closed = true;
  std::thread training([&] { EXPECT_TRUE(bench.router->train_head(scope).has_value()); });
  while (!embedder.waiting) std::this_thread::yield();
  EXPECT_TRUE(bench.router->forget("secret").has_value());
  EXPECT_TRUE(bench.store->delete_data("secret").has_value());
  EXPECT_TRUE(bench.router->forget("secret").has_value());
  embedder.closed = false;
  training.join();
  bench.reopen(&embedder);
  EXPECT_FALSE(bench.store->value(route_tenant_key("secret")).value().has_value());
  EXPECT_EQ(bench.router->status(scope).n_outcomes, 0u);
  EXPECT_FALSE(bench.router->status(scope).trained);
}

TEST(RouterDurable, DeletingATenantInTheStoreDeletesItsHead) {
  RouterBench bench;
  bench.tell(bench.route("peel the apple").id, success_of("designer"));
  ASSERT_TRUE(bench.router->train_head().has_value());
  ASSERT_TRUE(bench.store->value(route_tenant_key("local")).value().has_value());
  ASSERT_TRUE(bench.store->delete_data("local").has_value());
  EXPECT_FALSE(bench.store->value(route_tenant_key("local")).value().has_value());
}

// The store waits for others before it commits: the decision is on its way when feedback asks for it.
TEST(RouterDurable, FeedbackRightAfterTheDecisionFindsIt) {
  RouterBench bench;
  bench.router.reset();
  bench.store.reset();
  Store::Options slow;
  slow.group_ms = 200;
  bench.store = Store::open(bench.folder, slow).value();
  bench.router = open_router(bench, nullptr);
  for (int i = 0; i < 3; ++i) {
    const RoutingDecision decision = bench.route("peel the apple " + std::to_string(i));
    EXPECT_GT(decision.latency_ms, 0);
    bench.tell(decision.id, success_of("designer"));
  }
  EXPECT_EQ(bench.router->status().n_outcomes, 3u);
  EXPECT_EQ(bench.router->status().n_decisions_lost, 0u);
}

TEST(RouterDurable, AStoreThatTakesNothingCostsTheRecordNotTheAnswer) {
  HashedEmbedder embedder;
  RouterBench bench(&embedder);
  bench.tell(bench.route("peel the apple").id, success_of("designer"));
  bench.router.reset();
  bench.store.reset();
  Store::Options options;
  options.read_only = true;
  bench.store = Store::open(bench.folder, options).value();
  HashedEmbedder other(8);  // whose vectors of the registry cannot be kept
  bench.router = open_router(bench, &other);
  EXPECT_GT(bench.router->status().weight_prior, 0);
  const RoutingDecision decision = bench.route("peel the apple");
  EXPECT_EQ(decision.evidence.size(), 1u);
  const RouterStatus status = bench.router->status();
  EXPECT_EQ(status.n_decisions_lost, 1u);
  EXPECT_EQ(status.n_decisions, 1u);
  EXPECT_EQ(bench.router->feedback(decision.id, failure()).error().id, "learning.not_found");
}

TEST(RouterDurable, WithoutAnAnswerOfTheModelWordsDecide) {
  GateEmbedder embedder;
  RouterBench bench(&embedder);
  embedder.error = "engine.stopped";
  const char* task = "Write unit tests for the date parser";
  EXPECT_EQ(bench.route(task).method, "lexical");
  EXPECT_TRUE(bench.router->explain(task).value().log_p[0].empty());
  embedder.error = "tokenizer.invalid";
  EXPECT_EQ(bench.router->route(task).error().id, "tokenizer.invalid");
  // Nor does an open fail: the prior is silent until it is prepared.
  embedder.error = "engine.stopped";
  AgentProfile cook;
  cook.id = "cook";
  cook.description = "prepares meals, soups and desserts";
  bench.router = open_router(bench, nullptr);
  ASSERT_TRUE(bench.router->set_registry(bench.router->registry().with({cook}, "test").value()).has_value());
  bench.router = open_router(bench, &embedder);
  EXPECT_EQ(bench.router->status().weight_prior, 0);
  EXPECT_EQ(bench.route("Prepare a soup for dessert").primary.id, "cook");
  embedder.error = {};
  ASSERT_TRUE(bench.router->train_head().has_value());
  EXPECT_GT(bench.router->status().weight_prior, 0);
}

// Votes by meaning need no prior.
TEST(RouterDurable, EmbeddingsVoteFromTheFirstOutcomeOn) {
  HashedEmbedder embedder;
  RouterBench bench;
  Router::Options options;
  options.prepare = false;
  bench.router = open_router(bench, &embedder, options);
  bench.tell(bench.route("peel zzyzx apple").id, success_of("designer"));
  const auto task = std::string("apple zzyzx");
  const RoutingDecision near = bench.route(task);
  ASSERT_EQ(near.evidence.size(), 1u);
  const double cosine = 2 / std::sqrt(6.0);
  EXPECT_GE(near.evidence[0].similarity, cosine - 1e-3);
}

}  // namespace
}  // namespace ruvltra
