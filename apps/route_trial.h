// Labelled tasks against a router: what `eval route` measures.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "ruvltra/error.h"
#include "sona/router.h"

namespace ruvltra {

struct RouteTask {
  std::string text, agent, group;
};
// Lines of {"text", "agent", "group"}. Errors: file.*, json.*, eval.tasks.
Result<std::vector<RouteTask>> read_route_tasks(const std::filesystem::path& file);

// An ordered list of agents with substrings; the first agent with one in the lowercased task gets it.
struct KeywordTable {
  std::vector<std::pair<std::string, std::vector<std::string>>> agents;
  std::string fallback;
  double train_accuracy = 0;
  std::string choose(std::string_view task) const;
};
Result<KeywordTable> read_keyword_table(const std::filesystem::path& file);

// Which agent succeeds instead; one that is not in it succeeds itself.
using AgentPermutation = std::map<std::string, std::string>;

struct RouteMeasure {
  std::vector<bool> hits;  // by task
  double accuracy = 0;
  double in_first_three = 0;
  double ece = 0;  // 10 bins of equal mass, of the first choice
  double brier = 0;
  std::array<double, kRouteLanes> lane_accuracy = {};  // of each lane alone; negative: it was silent
  std::string text() const;
};
Result<RouteMeasure> measure_routes(Router& router, std::span<const RouteTask> tasks,
                                    const AgentPermutation& permutation = {});

// Two-sided exact binomial test on the discordant pairs (McNemar).
double mcnemar_p(size_t only_a, size_t only_b);
// Area under the ROC curve: the chance that a value of `high` exceeds one of `low`, ties half.
double roc_area(std::vector<double> high, std::vector<double> low);
double percentile(std::vector<double> values, double p);

}  // namespace ruvltra
