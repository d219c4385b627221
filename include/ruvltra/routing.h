// Which agent a task belongs to: declared data (docs/routing.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/learning.h"

namespace ruvltra {

// Agents are data: nothing in the code knows one by name.
struct AgentProfile {
  std::string id = {};  // 1..64 of a-z 0-9 - _
  std::vector<std::string> aliases = {};
  std::string description = {};
  std::vector<std::string> examples = {};    // tasks of its kind
  std::vector<std::string> task_types = {};  // of the ten task types
  bool enabled = true;
};

struct RouteOptions {
  int k = 3;                  // agents in the answer, 1..16
  std::string context = {};   // what else is known about the task
  bool prefer_speed = false;  // no model pass: cached embedding or lexical features alone
  bool prefer_cost = false;   // the cheaper of two tiers where the complexity is near the border
  bool explore = false;       // may try an agent that is not the likeliest (LinUCB)
  Scope scope;
};

struct AgentScore {
  std::string id = {};
  double confidence = 0;  // calibrated probability
  std::string reason = {};
};

// An earlier task that spoke for or against an agent.
struct RouteEvidence {
  RecordId id = {};
  std::string agent = {};
  double similarity = 0;
  double quality = 0;
  size_t n = 0;  // outcomes of that agent among the neighbours
  std::string task = {};
};

struct RoutingDecision {
  DecisionId id = {};
  std::string task = {};
  AgentScore primary = {};
  std::vector<AgentScore> alternatives = {};  // best first
  std::string method = {};                    // largest weighted term: "hnsw", "head", "prior", "lexical"
  std::string task_type = {};
  double latency_ms = 0;
  bool trained = false;  // learned terms take part; else registry and words alone
  // Absent while there are too few outcomes to say.
  std::optional<double> success_probability = {};
  std::optional<double> complexity = {};       // 0..1, rank among what was measured
  std::string complexity_level = {};           // "low", "medium", "high"; "medium" while complexity is absent
  std::string tier = {};                       // "haiku", "sonnet", "opus"
  std::optional<double> tier_confidence = {};  // share of measured tasks whose tier was foretold rightly
  std::vector<RouteEvidence> evidence = {};
  struct Swarm {
    std::string topology;
    std::vector<std::string> agents;
    std::string coordination;
  };
  std::optional<Swarm> swarm = {};
};

struct RouteOutcome {
  std::string agent = {};            // who did it or, with success, who should; empty: the one decided for
  std::optional<bool> success = {};  // success is quality 1, failure 0
  std::optional<double> quality = {};
  std::string feedback_id = {};  // makes it idempotent
  uint32_t output_tokens = 0;    // of the work: what complexity is learned from
};

struct RouterStatus {
  size_t n_agents = 0;
  size_t n_decisions = 0;  // kept
  size_t n_outcomes = 0;   // of these, judged
  // Of all tenants, since the start: answered, but not recorded (the disk was full, the store busy or away).
  size_t n_decisions_lost = 0;
  bool trained = false;
  double weight_prior = 0, weight_lexical = 0, weight_head = 0, weight_vote = 0;
  double temperature = 1;
  uint64_t n_head_updates = 0;
  size_t n_outcomes_in_head = 0;
};

// What training the head did, as measured.
struct HeadReport {
  size_t n_outcomes = 0, n_new = 0;
  double loss_before = 0, loss_after = 0;        // training objective without penalties, mean per outcome
  double heldout_before = 0, heldout_after = 0;  // log loss on outcomes never trained on
  size_t n_heldout = 0;
  double weight_change = 0;  // norm
  bool boundary = false;     // a task boundary: the anchor moved
  bool accepted = false;
  std::string reason = {};  // where it is not
};

}  // namespace ruvltra
