#include "sona/router.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <set>
#include <thread>

#include "sona/route_tenant.h"
#include "sona/router_parts_for_test.h"

namespace ruvltra {
namespace {

TEST(Router, RoutesByWordsAloneAndSaysWhy) {
  RouterBench bench;
  const RoutingDecision tests = bench.route("Write unit tests for the date parser");
  EXPECT_EQ(tests.primary.id, "tester");
  EXPECT_EQ(tests.method, "lexical");
  EXPECT_EQ(tests.task_type, "testing");
  EXPECT_NE(tests.primary.reason.find("tests"), std::string::npos) << tests.primary.reason;
  EXPECT_EQ(tests.alternatives.size(), 2u);
  EXPECT_GE(tests.primary.confidence, tests.alternatives[0].confidence);
  EXPECT_FALSE(tests.trained);
  EXPECT_FALSE(tests.success_probability || tests.complexity || tests.tier_confidence || tests.swarm);
  EXPECT_EQ(tests.complexity_level, "medium");
  const std::string login = bench.route("Implement authentication system").primary.id;
  EXPECT_TRUE(login == "security-architect" || login == "coder") << login;
}

TEST(Router, SameTaskSameAnswerAndProbabilitiesSumToOne) {
  RouterBench bench;
  const auto a = bench.router->explain("the build server is out of disk space").value();
  const auto b = bench.router->explain("the build server is out of disk space").value();
  EXPECT_EQ(a.p, b.p);
  double sum = 0;
  for (const double p : a.p) sum += p;
  EXPECT_NEAR(sum, 1, 1e-9);
  // No known word: all agents are equal, and the first of the registry is named.
  EXPECT_EQ(bench.route("zzyzx qwrtp").primary.id, "coder");
}

TEST(Router, RefusesWhatIsOutOfRange) {
  RouterBench bench;
  const auto error = [&](std::string_view task, RouteOptions options) {
    const auto result = bench.router->route(task, options);
    return result ? std::string_view("none") : result.error().id;
  };
  EXPECT_EQ(error(" \n", {}), "learning.empty_text");
  EXPECT_EQ(error(std::string(70'000, 'a'), {}), "learning.text_too_long");
  EXPECT_EQ(error("\xff\xfe", {}), "learning.invalid_utf8");
  RouteOptions options;
  options.k = 17;
  EXPECT_EQ(error("task", options), "routing.options");
  options.k = 0;
  EXPECT_EQ(error("task", options), "routing.options");
}

TEST(Router, OneFailureLowersTheAgentAtOnce) {
  RouterBench bench;
  const char* task = "Review this pull request and comment on the changes";
  const RoutingDecision first = bench.route(task);
  ASSERT_EQ(first.primary.id, "reviewer");  // at place 2
  bench.tell(first.id, failure());
  const RoutingDecision second = bench.route(task);
  const double after = bench.p_of(task, first.primary.id);
  EXPECT_LT(after, first.primary.confidence);
  // A failure votes against its agent: all others stand higher in that lane.
  const auto why = bench.router->explain(task).value();
  const std::vector<double>& votes = why.log_p[static_cast<size_t>(RouteLane::kVote)];
  ASSERT_EQ(votes.size(), why.agents.size());
  for (size_t a = 0; a < votes.size(); ++a) {
    if (a != 2) {
      EXPECT_GT(votes[a], votes[2]) << why.agents[a];
    }
  }
  ASSERT_EQ(second.evidence.size(), 1u);
  EXPECT_EQ(second.evidence[0].quality, 0);
  EXPECT_EQ(second.evidence[0].agent, first.primary.id);
  // A success makes sure of it.
  const char* other = "Write unit tests for the date parser";
  const RoutingDecision liked = bench.route(other);
  bench.tell(liked.id, success_of(liked.primary.id));
  EXPECT_GT(bench.p_of(other, liked.primary.id), liked.primary.confidence);
  // A success of somebody else lifts that one.
  const double before = bench.p_of(task, "designer");
  bench.tell(second.id, success_of("designer"));
  EXPECT_GT(bench.p_of(task, "designer"), before);
}

TEST(Router, FeedbackIsCheckedIdempotentAndCannotContradictItself) {
  RouterBench bench;
  const RoutingDecision decision = bench.route("Write the changelog");
  const auto error = [&](const DecisionId& id, const RouteOutcome& outcome, const Scope& scope = {}) {
    const auto result = bench.router->feedback(id, outcome, scope);
    return result ? std::string_view("none") : result.error().id;
  };
  EXPECT_EQ(error(decision.id, {}), "learning.signal");
  RouteOutcome outcome;
  for (const double bad : {-0.1, 1.1, std::nan("")}) {
    outcome.quality = bad;
    EXPECT_EQ(error(decision.id, outcome), "learning.quality");
  }
  outcome.quality = 0.9;
  outcome.success = false;
  EXPECT_EQ(error(decision.id, outcome), "learning.quality");
  outcome.success.reset();
  outcome.agent = "nobody";
  EXPECT_EQ(error(decision.id, outcome), "routing.agent");
  outcome.agent = "api-docs";  // an alias
  outcome.feedback_id = "f1";
  EXPECT_EQ(error(DecisionId{}, outcome), "learning.not_found");
  EXPECT_EQ(error(decision.id, outcome, {"another", {}}), "learning.not_found");
  EXPECT_EQ(error(decision.id, outcome), "none");
  EXPECT_EQ(error(decision.id, outcome), "none");
  EXPECT_EQ(bench.router->status().n_outcomes, 1u);
  EXPECT_EQ(bench.store->decision("local", decision.id)->outcome_agent, "documenter");
  outcome.quality = 0.1;
  EXPECT_EQ(error(decision.id, outcome), "store.conflict");
  const RoutingDecision old = bench.route("Write the manual");
  bench.clock += kDecisionLifeUs + 1;
  EXPECT_EQ(error(old.id, failure()), "learning.not_found");
}

TEST(Router, WhatATenantLearnedReachesNoOther) {
  RouterBench bench;
  const char* task = "Fix the crash on startup";
  RouteOptions a, b;
  a.scope.tenant = "a";
  b.scope.tenant = "b";
  const auto before = bench.router->explain(task, b).value().p;
  for (int i = 0; i < 30; ++i) {
    const auto decision = bench.route(std::string(task) + " " + std::to_string(i), a);
    bench.tell(decision.id, success_of("designer"), a.scope);
  }
  ASSERT_TRUE(bench.router->train_head(a.scope).has_value());
  EXPECT_GT(bench.p_of(task, "designer", a), 0.3);
  EXPECT_EQ(bench.router->explain(task, b).value().p, before);
  EXPECT_TRUE(bench.route(task, b).evidence.empty());
  // Deleted and forgotten: as if it had never been.
  ASSERT_TRUE(bench.store->delete_data("a").has_value());
  ASSERT_TRUE(bench.router->forget("a").has_value());
  EXPECT_EQ(bench.router->explain(task, a).value().p, before);
}

// Tasks of one's own with labels that the registry would never give.
std::vector<std::pair<std::string, std::string>> odd_tasks() {
  std::vector<std::pair<std::string, std::string>> out;
  const char* fruits[] = {"apple", "pear", "plum", "cherry", "quince", "grape", "melon", "peach"};
  const char* metals[] = {"copper", "zinc", "nickel", "cobalt", "silver", "chrome", "brass", "bronze"};
  const char* verbs[] = {"peel", "wash", "sort", "count", "weigh", "pack", "label", "store"};
  for (int i = 0; i < 64; ++i) {
    out.emplace_back(std::string(verbs[i / 8]) + " the " + fruits[i % 8], "designer");
    out.emplace_back(std::string(verbs[(i + 3) % 8]) + " the " + metals[i / 8] + " bars", "ml-developer");
  }
  return out;
}

TEST(Router, LearnsFromOutcomesAndKeepsItOverARestart) {
  HashedEmbedder embedder;
  RouterBench bench(&embedder);
  size_t n = 0;
  for (const auto& [task, agent] : odd_tasks()) {
    RouteOutcome outcome = success_of(agent);
    outcome.output_tokens = agent == "designer" ? 20 : 2000;
    bench.tell(bench.route(task).id, outcome);
    if (++n % 32 == 0) {
      ASSERT_TRUE(bench.router->train_head().has_value());
    }
  }
  const RouterStatus status = bench.router->status();
  EXPECT_TRUE(status.trained);
  EXPECT_GT(status.n_head_updates, 0u);
  EXPECT_EQ(status.n_outcomes, odd_tasks().size());
  const RoutingDecision fruit = bench.route("wash the melon"), metal = bench.route("label the nickel bars");
  EXPECT_EQ(fruit.primary.id, "designer");
  EXPECT_EQ(metal.primary.id, "ml-developer");
  ASSERT_TRUE(fruit.success_probability && fruit.complexity && metal.complexity);
  EXPECT_GT(*fruit.success_probability, 0.9);
  EXPECT_LT(*fruit.complexity, *metal.complexity);
  EXPECT_EQ(fruit.complexity_level, "low");
  EXPECT_EQ(fruit.tier, "haiku");
  EXPECT_GT(*fruit.tier_confidence, 0.5);
  const auto before = bench.router->explain("pack the plum and the silver bars").value().p;
  bench.reopen(&embedder);
  const auto after = bench.router->explain("pack the plum and the silver bars").value().p;
  for (size_t a = 0; a < before.size(); ++a) EXPECT_NEAR(after[a], before[a], 2e-3);
}

TEST(Router, PreparesVectorsOnceAndAsksNoModelWhenSpeedIsPreferred) {
  HashedEmbedder embedder;
  RouterBench bench(&embedder);
  const size_t n_texts = RouteModel::texts(AgentRegistry::defaults()).size();
  EXPECT_EQ(embedder.n_embedded, n_texts);
  EXPECT_FALSE(bench.router->explain("Write unit tests").value().log_p[0].empty());
  bench.reopen(&embedder);
  EXPECT_EQ(embedder.n_embedded, n_texts + 1);  // the texts came from the store
  RouteOptions fast;
  fast.prefer_speed = true;
  EXPECT_EQ(bench.route("Write unit tests", fast).method, "lexical");
  EXPECT_EQ(embedder.n_embedded, n_texts + 1);
  // Another space: nothing of the old one is compared with.
  HashedEmbedder other(8);
  bench.reopen(&other);
  EXPECT_EQ(other.n_embedded, n_texts);
}

TEST(Router, RegistryChangesAreKeptAndNewAgentsTakePart) {
  RouterBench bench;
  for (int i = 0; i < 30; ++i) {
    bench.tell(bench.route("peel the apple number " + std::to_string(i)).id, success_of("designer"));
  }
  ASSERT_TRUE(bench.router->train_head().has_value());
  AgentProfile cook;
  cook.id = "cook";
  cook.description = "prepares meals, soups and desserts";
  cook.examples = {"Boil the soup", "Bake a cake with cream"};
  AgentRegistry next = bench.router->registry().with({cook}, "test").value();
  next = next.without("reviewer").value();
  ASSERT_TRUE(bench.router->set_registry(next).has_value());
  EXPECT_EQ(bench.route("Bake a dessert with cream").primary.id, "cook");
  EXPECT_EQ(bench.p_of("Review the pull request", "reviewer"), -1);
  EXPECT_GT(bench.p_of("peel the apple", "designer"), 0.5);
  bench.reopen();
  EXPECT_EQ(bench.route("Bake a dessert with cream").primary.id, "cook");
  EXPECT_EQ(bench.router->registry().hash(), next.hash());
}

TEST(Router, ExplorationTriesAgentsThatAreNotTheLikeliest) {
  HashedEmbedder embedder;
  RouterBench bench(&embedder);
  RouteOptions explore;
  explore.explore = true;
  std::set<std::string> tried;
  for (int i = 0; i < 12; ++i) {
    const RoutingDecision decision = bench.route("Write unit tests for the date parser", explore);
    tried.insert(decision.primary.id);
    bench.tell(decision.id, failure());
  }
  EXPECT_GE(tried.size(), 10u);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(bench.route("Write unit tests for another parser").task_type, "testing");
}

TEST(Router, TrainingTwiceAtOnceIsBusyAndThreadsMayShareIt) {
  RouterBench bench;
  std::vector<std::thread> threads;
  std::atomic<int> n_failed{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      RouteOptions options;
      options.scope.tenant = t % 2 == 0 ? "even" : "odd";
      for (int i = 0; i < 20; ++i) {
        const auto decision = bench.router->route("write test " + std::to_string(t * 100 + i), options);
        n_failed += !decision || !bench.router->feedback(decision->id, success_of("tester"), options.scope);
        if (i % 10 != 9) continue;
        const auto trained = bench.router->train_head(options.scope);
        n_failed += !trained && trained.error().id != "learning.busy";
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(n_failed, 0);
  EXPECT_EQ(bench.router->status({"even", {}}).n_outcomes, 40u);
}

TEST(Router, StateOfAnotherKindOrDamagedIsNotTaken) {
  RouterBench bench;
  const auto model = RouteModel::create(AgentRegistry::defaults(), 1000);
  RouteTenant tenant;
  tenant.model = model;
  tenant.head = model->initial_head();
  const std::vector<uint8_t> bytes = encode_route_tenant(tenant);
  RouteTenant read;
  EXPECT_TRUE(decode_route_tenant(bytes, *model, read).has_value());
  EXPECT_EQ(read.head.head.weights, tenant.head.head.weights);
  for (const size_t place : {size_t{0}, size_t{5}, bytes.size() / 2, bytes.size() - 1}) {
    std::vector<uint8_t> damaged = bytes;
    damaged[place] ^= 1;
    EXPECT_FALSE(decode_route_tenant(damaged, *model, read).has_value());
  }
  for (const size_t size : {size_t{0}, size_t{10}, bytes.size() - 1}) {
    EXPECT_FALSE(decode_route_tenant(std::span(bytes).first(size), *model, read).has_value());
  }
}

}  // namespace
}  // namespace ruvltra
