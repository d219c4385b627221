#include "sona/route_reasons.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "sona/words.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxEvidence = 5;
constexpr size_t kReasonWords = 3;
constexpr size_t kReasonTextBytes = 80;
constexpr double kSwarmShare = 0.15;
constexpr double kSwarmComplexity = 0.7;
constexpr double kTierBorder = 0.05;  // how far above a border prefer_cost still takes the cheaper tier
constexpr double kNoShare = 1e-9;

std::string shortened(std::string_view text) {
  if (text.size() <= kReasonTextBytes) return std::string(text);
  text = text.substr(0, kReasonTextBytes);
  return std::string(text.substr(0, text.size() - utf8_incomplete_tail(text))) + "...";
}

// The task's own words behind the strongest stems.
std::string lexical_reason(const RouteTenant& tenant, const RouteQuery& query, size_t agent) {
  std::string out;
  for (const std::string& key : tenant.model->words().strongest(query.words, agent, kReasonWords)) {
    for (const std::string& word : raw_words(query.text)) {
      if (is_stop_word(word) || stem(word) != key) continue;
      out += (out.empty() ? "" : ", ") + word;
      break;
    }
  }
  return out.empty() ? "words like those of its texts" : "its texts share the words " + out;
}

std::string vote_reason(const RouteTenant& tenant, const RouteLanesOf& lanes, const std::string& agent) {
  size_t n = 0, n_good = 0;
  for (const RouteNeighbour& neighbour : lanes.neighbours) {
    const RouteExample& example = tenant.examples.find(neighbour.place)->second;
    if (example.agent != agent) continue;
    ++n;
    n_good += example.success();
  }
  if (n == 0) return "other agents did worse with near tasks";
  return fmt::format("{} of {} near tasks given to it succeeded", n_good, n);
}

std::string reason_of(const RouteTenant& tenant, const RouteQuery& query, const RouteLanesOf& lanes,
                      const RouteWeights& weights, size_t agent) {
  const auto shares = lane_shares(lanes, weights, agent);
  const size_t lane = static_cast<size_t>(std::max_element(shares.begin(), shares.end()) - shares.begin());
  if (shares[lane] <= kNoShare) return "nothing known speaks for any agent more than this one";
  switch (static_cast<RouteLane>(lane)) {
    case RouteLane::kPrior:
      return "near to its text \"" + shortened(tenant.model->nearest_text(query.embedding, agent)) + "\"";
    case RouteLane::kLexical:
      return lexical_reason(tenant, query, agent);
    case RouteLane::kHead:
      return tenant.head.n_updates > 0 ? fmt::format("learned from {} outcomes", tenant.head.n_outcomes)
                                       : "learned from the agents' texts";
    case RouteLane::kVote:
      return vote_reason(tenant, lanes, tenant.model->registry().agents()[agent].id);
  }
  return {};
}

void add_evidence(const RouteTenant& tenant, const RouteLanesOf& lanes, RoutingDecision& decision) {
  for (const RouteNeighbour& neighbour : lanes.neighbours) {
    if (decision.evidence.size() == kMaxEvidence) break;
    const RouteExample& example = tenant.examples.find(neighbour.place)->second;
    RouteEvidence evidence;
    evidence.id = example.id;
    evidence.agent = example.agent;
    evidence.similarity = std::min(1.0, neighbour.similarity);
    evidence.quality = example.quality;
    evidence.task = example.task;
    for (const RouteNeighbour& other : lanes.neighbours) {
      evidence.n += tenant.examples.find(other.place)->second.agent == example.agent;
    }
    decision.evidence.push_back(std::move(evidence));
  }
}

void add_size(const RouteTenant& tenant, const RouteQuery& query, const RouteOptions& options,
              RoutingDecision& decision) {
  decision.complexity = tenant.complexity.rank(query.x);
  decision.complexity_level = "medium";
  decision.tier = "sonnet";
  if (!decision.complexity) return;
  constexpr std::string_view levels[] = {"low", "medium", "high"};
  constexpr std::string_view tiers[] = {"haiku", "sonnet", "opus"};
  decision.complexity_level = levels[complexity_level(*decision.complexity)];
  const double near = options.prefer_cost ? *decision.complexity - kTierBorder : *decision.complexity;
  decision.tier = tiers[complexity_level(near)];
  decision.tier_confidence = tenant.complexity.tier_accuracy;
}

}  // namespace

void describe(const RouteTenant& tenant, const RouteQuery& query, const RouteLanesOf& lanes,
              const RouteWeights& weights, std::span<const double> p, std::span<const size_t> order,
              const RouteOptions& options, RoutingDecision& decision) {
  const auto& agents = tenant.model->registry().agents();
  const auto score = [&](size_t a) {
    return AgentScore{agents[a].id, p[a], reason_of(tenant, query, lanes, weights, a)};
  };
  decision.primary = score(order[0]);
  if (options.explore && order.size() > 1 && p[order[0]] < p[order[1]]) {
    decision.primary.reason = "tried because too little is known of it here";
  }
  for (size_t i = 1; i < std::min(order.size(), static_cast<size_t>(options.k)); ++i) {
    decision.alternatives.push_back(score(order[i]));
  }
  const auto shares = lane_shares(lanes, weights, order[0]);
  const size_t lane = static_cast<size_t>(std::max_element(shares.begin(), shares.end()) - shares.begin());
  decision.method = shares[lane] <= kNoShare ? "lexical" : route_lane_name(static_cast<RouteLane>(lane));
  decision.trained = tenant.head.n_updates > 0 || lanes.vote_mass > 0;

  const std::vector<double> types = tenant.model->task_type(query.words, query.x, p);
  const size_t type = static_cast<size_t>(std::max_element(types.begin(), types.end()) - types.begin());
  decision.task_type = tenant.model->registry().task_types()[type].id;

  decision.success_probability = tenant.success.probability(query.x, order[0]);
  add_size(tenant, query, options, decision);
  add_evidence(tenant, lanes, decision);
  if (decision.complexity.value_or(0) < kSwarmComplexity) return;
  RoutingDecision::Swarm swarm;
  for (const size_t a : order) {
    if (p[a] >= kSwarmShare) swarm.agents.push_back(agents[a].id);
  }
  if (swarm.agents.size() < 3) return;
  const bool peers = decision.task_type == "documentation";
  swarm.topology = peers ? "mesh" : "hierarchical";
  swarm.coordination = peers ? "peer-to-peer" : "queen-led";
  decision.swarm = std::move(swarm);
}

}  // namespace ruvltra
