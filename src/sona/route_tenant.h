// The router's state of one tenant, and how its lanes come to a decision. Part of router.cpp.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "index/hnsw.h"
#include "sona/route_measures.h"
#include "sona/route_model.h"
#include "sona/router.h"

namespace ruvltra {

inline constexpr int64_t kDecisionLifeUs = int64_t{30} * 24 * 3600 * 1'000'000;
// Labelled outcomes from which the head takes part, and from which the lanes' weights are fitted.
inline constexpr size_t kOutcomesForHead = 20;
inline constexpr size_t kOutcomesForWeights = 100;
inline constexpr int kVoters = 10;
inline constexpr double kVoterSimilarity = 0.5;
// What was learned before the world changed still counts a little.
inline constexpr double kBeforeDrift = 0.03;

// Over blocks of outcomes, which are few.
PageHinkley outcome_watch();

// A task that was decided and judged.
struct RouteExample {
  DecisionId id;
  std::string task, context, agent;
  double quality = 0;
  uint32_t output_tokens = 0;
  int64_t time_us = 0;  // of the outcome
  uint64_t space = 0;
  std::vector<float> embedding;  // (kEmbeddingDim) or empty
  double surprise = 0;           // -log of what the decision gave to what came out
  bool heldout() const;          // one in five, by the task: never trained on
  bool success() const { return quality >= 0.5; }
  double weight() const { return success() ? 2 * quality - 1 : 1 - 2 * quality; }
};

// Of kEmbeddingDim finite values that are not all zero. What is not is treated as absent.
bool is_usable_embedding(std::span<const float> values);

// A task as the lanes see it.
struct RouteQuery {
  std::string text;  // task and context
  std::string task;
  std::vector<std::string> words;
  uint64_t space = 0;
  std::vector<float> embedding;  // empty: words alone
  std::vector<float> profile;
  RouteFeatures x;
  bool lexical_only = false;  // there is an embedder, and it was not asked
};

struct RouteNeighbour {
  uint64_t place = 0;
  double similarity = 0;
  double weight = 0;  // u: similarity above the threshold, times recency
};

struct RouteWeights {
  std::array<double, kRouteLanes> alpha = {1, 0.5, 1, 1};
  double temperature = 1;
  bool fitted = false;
};

// All agents of the registry, in order.
struct RouteLanesOf {
  std::array<std::vector<double>, kRouteLanes> log_p;  // empty: silent
  double vote_mass = 0;                                // S
  std::vector<RouteNeighbour> neighbours;
};

// *Thread safety*: members below `mutex` are read and written under it. HNSW searches run under a shared
// lock, changes under an exclusive one; nothing slow happens under either.
struct RouteTenant {
  mutable std::shared_mutex mutex;
  std::atomic<bool> training{false};

  std::shared_ptr<const RouteModel> model;  // what the rest is made for
  HeadState head;
  uint64_t head_space = 0;  // of the embeddings in the head's features, 0 = none yet
  RouteWeights with_prior, words_only;
  ComplexityModel complexity;
  SuccessModel success;
  int64_t boundary_us = 0;  // the head's current task: outcomes from here
  int64_t drift_us = 0;     // when the world last changed
  bool boundary_pending = false;
  int64_t next_boundary_us = 0;  // where the next task begins, once it is anchored
  std::atomic<size_t> n_decisions{0};

  // Held while what was learned is written: after forget() has set `forgotten`, nothing more is.
  std::mutex write_gate;
  bool forgotten = false;

  std::unordered_map<uint64_t, RouteExample> examples;  // by place, ascending in time of arrival
  std::unordered_map<std::string, uint64_t> place_of;   // by decision id
  uint64_t next_place = 0;
  uint64_t index_space = 0;
  std::optional<HnswIndex> by_meaning, by_words;
  PageHinkley drift = outcome_watch();
  std::vector<double> block;  // surprises waiting for their block
  int64_t block_began_us = 0;
  std::vector<int64_t> block_times;
  // Made from the outcomes when somebody first explores.
  mutable std::mutex explorer_mutex;
  mutable std::optional<LinUcb> explorer;
  mutable uint64_t explored_to = 0;  // place

  // Everything above made anew for a model; the head keeps the rows of agents that stay.
  // `space`: of the embeddings that decisions get now; votes are found by them with or without a prior.
  Result<void> adopt(std::shared_ptr<const RouteModel> next, uint64_t space, const KernelTable& kernels,
                     size_t max_outcomes);
  // A new outcome, or another one for the same decision. The oldest goes beyond max_outcomes. It cannot fail:
  // the outcome is committed already.
  void learn(RouteExample example, size_t max_outcomes);

  // The vector of an outcome that had none of this space.
  void embed(RouteExample example);
  // Of `agents`, the one LinUCB would try.
  size_t explore(const RouteFeatures& x, std::span<const size_t> agents) const;

  size_t n_outcomes() const { return examples.size(); }
  std::vector<RouteNeighbour> neighbours(const RouteQuery& query, int64_t now_us,
                                         const DecisionId* without = nullptr) const;
  RouteLanesOf lanes(const RouteQuery& query, int64_t now_us, const DecisionId* without = nullptr) const;
  // What the lanes count: the schedule while there are few outcomes, fitted weights later.
  RouteWeights weights(bool has_prior) const;
  RouteWeights schedule(bool has_prior) const;
  double recency(const RouteExample& example, int64_t now_us) const;

 private:
  void index(uint64_t place, const RouteExample& example);
  Result<void> make_indices(const KernelTable& kernels, size_t max_outcomes);
  void watch(const RouteExample& example);
};

// The weighted sum of the lanes over T, as log probabilities; agents that are not enabled get -infinity.
std::vector<double> combine_lanes(const RouteModel& model, const RouteLanesOf& lanes,
                                  const RouteWeights& weights);
// What a lane adds to the best agent over what it gives on average.
std::array<double, kRouteLanes> lane_shares(const RouteLanesOf& lanes, const RouteWeights& weights,
                                            size_t best);

// Bytes of what was learned, for the store; decoding checks everything. Error: routing.state.
std::vector<uint8_t> encode_route_tenant(const RouteTenant& tenant);
Result<void> decode_route_tenant(std::span<const uint8_t> bytes, const RouteModel& model,
                                 RouteTenant& tenant);
// Under which name: one that goes with the tenant's data (store.h).
std::string route_tenant_key(std::string_view tenant);

// Fits the lanes' weights and the temperature on held-out outcomes.
RouteWeights fit_route_weights(const RouteModel& model, std::span<const RouteLanesOf> lanes,
                               std::span<const RouteExample> examples, std::span<const double> importance,
                               const RouteWeights& schedule);

}  // namespace ruvltra
