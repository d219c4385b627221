// What must hold when memory is small, records are bad, data goes, the store is slow or the model is not there.
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <string_view>
#include <thread>

#include "base/fail.h"
#include "sona/route_tenant.h"
#include "sona/router_parts_for_test.h"

namespace ruvltra {
namespace {

std::unique_ptr<Router> open_router(RouterBench& bench, TextEmbedder* embedder, Router::Options options = {}) {
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

}  // namespace
}  // namespace ruvltra
