// Which agent a task belongs to. Four lanes say it, each as a distribution over the agents of the registry,
// and what became of earlier decisions decides how much each is worth (docs/routing.md):
//
//   log p(agent) ~ (a_P log P_prior + a_L log P_lexical + a_H log P_head + a_V log P_vote) / T
//
// prior: embedding against the registry's texts. lexical: words against them. head: logistic regression over
// what succeeded. vote: the nearest earlier tasks; a failure votes against its agent.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/table.h"
#include "ruvltra/routing.h"
#include "sona/agent_registry.h"
#include "sona/text_embedder.h"
#include "store/store.h"

namespace ruvltra {

class RouteModel;
struct RouteTenant;
struct RouteExample;
struct RouteQuery;
struct PendingDecisions;

inline constexpr size_t kRouteLanes = 4;
enum class RouteLane : uint8_t { kPrior, kLexical, kHead, kVote };
std::string_view route_lane_name(RouteLane lane);  // "prior", "lexical", "head", "hnsw"

// How a decision comes about, for whoever wants to look: nothing is recorded.
struct RouteExplanation {
  std::vector<std::string> agents;                     // enabled ones, in registry order
  std::array<std::vector<double>, kRouteLanes> log_p;  // (agents); empty: the lane has nothing to say
  std::array<double, kRouteLanes> weights = {};        // a_P, a_L, a_H, a_V
  double temperature = 1;
  std::vector<double> p;  // (agents)
};

// Thread safety: all functions from any thread; no lock is held while the store works or a text is embedded.
//
// Invariants: 1. Outcomes, votes and weights of one tenant reach no other. 2. Same inputs and same state give
// the same answer; equal scores go to the agent that comes first in the registry. 3. An outcome is in the
// votes once feedback() returned; the head follows in train_head().
class Router {
 public:
  struct Options {
    double ewc_lambda = 1000;
    size_t max_outcomes = 10'000;          // of a tenant, in memory; the newest stay
    const KernelTable* kernels = nullptr;  // of the index; null: the best there is
    bool prepare = true;                   // at open()
    std::function<int64_t()> now;          // microseconds since the epoch; empty: the clock
  };

  // The registry comes from the store, or is the bundled one. Without an embedder words decide alone. Both
  // must outlive the router. Embeds the registry (prepare()); where that fails the prior stays silent until
  // prepare() or train_head() does it. Errors: store.*, isa.*.
  static Result<std::unique_ptr<Router>> open(Store& store, TextEmbedder* embedder, Options options);
  ~Router();

  // Waits for no commit: the decision is written meanwhile, and a store that is busy, full or away costs the
  // decision's record (RouterStatus::n_decisions_lost), not the answer. Nor does a model that cannot be
  // asked: words decide. Errors: learning.empty_text, learning.text_too_long, learning.invalid_utf8,
  // tokenizer.*, routing.options.
  Result<RoutingDecision> route(std::string_view task, const RouteOptions& options = {});
  Result<RouteExplanation> explain(std::string_view task, const RouteOptions& options = {});
  // Errors: learning.not_found (also after 30 days), learning.quality, learning.signal (nothing said),
  // routing.agent, store.conflict (the same feedback_id said something else).
  Result<void> feedback(const DecisionId& decision, const RouteOutcome& outcome, const Scope& scope = {});

  // For the background: embeds the registry if that is not done yet, learns from the tenant's outcomes, fits
  // the lanes' weights, forgets decisions older than 30 days. Errors: learning.busy (it is at it), store.*.
  Result<HeadReport> train_head(const Scope& scope = {});
  // Embeds the registry's texts, from the store if it was done before. Until then the prior is silent.
  Result<void> prepare();
  // Another kind of work begins: what was learned is anchored at the next training.
  Result<void> begin_task(const Scope& scope, std::string_view name);

  AgentRegistry registry() const;
  // Errors: store.*.
  Result<void> set_registry(AgentRegistry registry);

  // What was learned of a tenant is dropped, in memory and in the store; its votes come again from the
  // decisions that are still there, its head with the next training. To be called before the store deletes
  // data of the tenant (a training that is going on will then write nothing) and again after it (for whoever
  // read the tenant in between). Errors: store.*.
  Result<void> forget(std::string_view tenant);

  RouterStatus status(const Scope& scope = {});

 private:
  Router(Store& store, TextEmbedder* embedder, Options options);
  std::shared_ptr<const RouteModel> model() const;
  Result<std::shared_ptr<const RouteModel>> embedded(AgentRegistry registry);
  // The tenant's state, read from the store the first time, made to fit `model`.
  Result<std::shared_ptr<RouteTenant>> tenant(const std::string& name,
                                              const std::shared_ptr<const RouteModel>& model);
  Result<std::shared_ptr<RouteTenant>> load_tenant(const std::string& name,
                                                   const std::shared_ptr<const RouteModel>& model);
  Result<RouteQuery> query(std::string_view task, const RouteOptions& options, const RouteModel& model);
  std::shared_ptr<RouteTenant> tenant_or_empty(const std::string& name,
                                               const std::shared_ptr<const RouteModel>& model);
  void record(DecisionRecord record, std::shared_ptr<RouteTenant> tenant);
  Result<void> keep(const std::string& name, RouteTenant& tenant);
  Result<void> embed_examples(const RouteModel& model, const std::string& tenant_name, RouteTenant& tenant,
                              std::vector<RouteExample>& examples);
  int64_t now() const;
  uint64_t embedding_space() const;  // 0: there is no embedder

  Store& store_;
  TextEmbedder* const embedder_;
  const Options options_;
  const std::shared_ptr<PendingDecisions> pending_;  // shared with the store's thread
  mutable std::mutex mutex_;                         // of the members below
  std::shared_ptr<const RouteModel> model_;
  std::map<std::string, std::shared_ptr<RouteTenant>> tenants_;
  uint64_t epoch_ = 0;  // of forget()
};

}  // namespace ruvltra
