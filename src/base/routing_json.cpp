#include "base/routing_json.h"

#include <fmt/format.h>

#include <algorithm>

namespace ruvltra {
namespace {

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

Json json_of(const AgentScore& score) {
  return {{"type", score.id}, {"confidence", score.confidence}, {"reason", score.reason}};
}

Json tier_of(const RoutingDecision& decision) {
  const std::string why =
      decision.complexity ? fmt::format("{} complexity among the tasks measured", decision.complexity_level)
                          : "too few tasks of known size to say: the middle one";
  return {{"model", decision.tier},
          {"confidence", or_null(decision.tier_confidence)},
          {"complexity", or_null(decision.complexity)},
          {"reasoning", why}};
}

}  // namespace

Json routing_json(const RoutingDecision& decision) {
  Json out;
  out["task"] = decision.task;
  out["task_type"] = decision.task_type;
  const double per_second = 1000 / std::max(decision.latency_ms, 1e-3);
  out["routing"] = {{"method", decision.method},
                    {"backend", "ruvltra"},
                    {"latencyMs", decision.latency_ms},
                    {"throughput", fmt::format("{:.0f} routes/s", per_second)}};
  out["matchedPattern"] = decision.evidence.empty() ? Json(nullptr) : Json(decision.evidence.front().task);
  out["semanticMatches"] = Json::array();
  out["evidence"] = Json::array();
  for (const RouteEvidence& e : decision.evidence) {
    out["semanticMatches"].push_back({{"pattern", e.task}, {"score", e.similarity}});
    out["evidence"].push_back({{"id", e.id.text()},
                               {"agent", e.agent},
                               {"similarity", e.similarity},
                               {"quality", e.quality},
                               {"n", e.n}});
  }
  out["primaryAgent"] = json_of(decision.primary);
  out["alternativeAgents"] = Json::array();
  for (const AgentScore& score : decision.alternatives) out["alternativeAgents"].push_back(json_of(score));
  out["estimatedMetrics"] = {{"successProbability", or_null(decision.success_probability)},
                             {"estimatedDuration", nullptr},
                             {"complexity", decision.complexity_level}};
  out["swarmRecommendation"] = nullptr;
  if (decision.swarm) {
    out["swarmRecommendation"] = {{"topology", decision.swarm->topology},
                                  {"agents", decision.swarm->agents},
                                  {"coordination", decision.swarm->coordination}};
  }
  out["modelTier"] = tier_of(decision);
  out["decision_id"] = decision.id.text();
  out["trained"] = decision.trained;
  return out;
}

}  // namespace ruvltra
