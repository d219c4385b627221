#include "route_trial.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxTasksBytes = uint64_t{16} << 20;
constexpr size_t kBins = 10;

std::string lowercase_ascii(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 32);
  }
  return out;
}

size_t place_of_best(const std::vector<double>& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

double expected_calibration_error(std::vector<std::pair<double, bool>> sure) {
  std::sort(sure.begin(), sure.end());
  double error = 0;
  for (size_t b = 0; b < kBins; ++b) {
    double gap = 0;
    for (size_t i = b * sure.size() / kBins; i < (b + 1) * sure.size() / kBins; ++i) {
      gap += sure[i].first - (sure[i].second ? 1 : 0);
    }
    error += std::abs(gap) / static_cast<double>(sure.size());
  }
  return error;
}

}  // namespace

Result<std::vector<RouteTask>> read_route_tasks(const std::filesystem::path& file) {
  ASSIGN_OR_RETURN(const std::string text, read_text_file(file, kMaxTasksBytes));
  std::vector<RouteTask> tasks;
  size_t line_number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    const std::string where = fmt::format("{}:{}", file.string(), ++line_number);
    if (line.empty()) continue;
    ASSIGN_OR_RETURN(const Json row, parse_json(line, where));
    RouteTask task;
    for (const auto& [name, value] :
         {std::pair{"text", &task.text}, {"agent", &task.agent}, {"group", &task.group}}) {
      if (!row.is_object() || !row.contains(name) || !row[name].is_string()) {
        return fail("eval.tasks", "{}: {}: expected a text", where, name);
      }
      *value = row[name].get<std::string>();
    }
    tasks.push_back(std::move(task));
  }
  if (tasks.empty()) return fail("eval.tasks", "{}: expected tasks, found none", file.string());
  return tasks;
}

Result<KeywordTable> read_keyword_table(const std::filesystem::path& file) {
  ASSIGN_OR_RETURN(const std::string text, read_text_file(file, kMaxTasksBytes));
  ASSIGN_OR_RETURN(const Json document, parse_json(text, file.string()));
  const auto wrong = [&] {
    return fail("eval.tasks", "{}: expected {{\"agents\": {{id: [word, ...]}}, \"fallback\": id}}",
                file.string());
  };
  if (!document.is_object() || !document.contains("agents") || !document["agents"].is_object())
    return wrong();
  if (!document.contains("fallback") || !document["fallback"].is_string()) return wrong();
  KeywordTable table;
  table.fallback = document["fallback"].get<std::string>();
  table.train_accuracy = document.value("train_accuracy", 0.0);
  for (const auto& [agent, words] : document["agents"].items()) {
    if (!words.is_array()) return wrong();
    table.agents.emplace_back(agent, std::vector<std::string>());
    for (const Json& word : words) {
      if (!word.is_string()) return wrong();
      table.agents.back().second.push_back(word.get<std::string>());
    }
  }
  return table;
}

std::string KeywordTable::choose(std::string_view task) const {
  const std::string text = lowercase_ascii(task);
  for (const auto& [agent, words] : agents) {
    for (const std::string& word : words) {
      if (text.find(word) != std::string::npos) return agent;
    }
  }
  return fallback;
}

std::string RouteMeasure::text() const {
  return fmt::format("{:5.1f} %   top-3 {:5.1f} %   ECE {:.3f}   Brier {:.3f}", 100 * accuracy,
                     100 * in_first_three, ece, brier);
}

Result<RouteMeasure> measure_routes(Router& router, std::span<const RouteTask> tasks,
                                    const AgentPermutation& permutation) {
  RouteMeasure out;
  std::vector<std::pair<double, bool>> sure;
  std::array<size_t, kRouteLanes> lane_hits = {}, lane_tasks = {};
  size_t n_hits = 0, n_three = 0;
  for (const RouteTask& task : tasks) {
    ASSIGN_OR_RETURN(const RouteExplanation why, router.explain(task.text));
    const auto moved = permutation.find(task.agent);
    const std::string& right = moved == permutation.end() ? task.agent : moved->second;
    const size_t best = place_of_best(why.p);
    const bool hit = why.agents[best] == right;
    out.hits.push_back(hit);
    n_hits += hit;
    sure.emplace_back(why.p[best], hit);
    double p_right = 0;
    for (size_t a = 0; a < why.p.size(); ++a) {
      const bool is_right = why.agents[a] == right;
      if (is_right) p_right = why.p[a];
      const double away = why.p[a] - (is_right ? 1 : 0);
      out.brier += away * away;
    }
    n_three += std::count_if(why.p.begin(), why.p.end(), [&](double p) { return p > p_right; }) < 3;
    for (size_t lane = 0; lane < kRouteLanes; ++lane) {
      if (why.log_p[lane].empty()) continue;
      ++lane_tasks[lane];
      lane_hits[lane] += why.agents[place_of_best(why.log_p[lane])] == right;
    }
  }
  const auto n = static_cast<double>(tasks.size());
  out.accuracy = static_cast<double>(n_hits) / n;
  out.in_first_three = static_cast<double>(n_three) / n;
  out.brier /= n;
  out.ece = expected_calibration_error(std::move(sure));
  for (size_t lane = 0; lane < kRouteLanes; ++lane) {
    out.lane_accuracy[lane] = lane_tasks[lane] == 0 ? -1 : static_cast<double>(lane_hits[lane]) / n;
  }
  return out;
}

double mcnemar_p(size_t only_a, size_t only_b) {
  const size_t n = only_a + only_b, k = std::min(only_a, only_b);
  double tail = 0;
  for (size_t i = 0; i <= k; ++i) {
    const auto N = static_cast<double>(n), I = static_cast<double>(i);
    tail += std::exp(std::lgamma(N + 1) - std::lgamma(I + 1) - std::lgamma(N - I + 1) - N * std::log(2.0));
  }
  return std::min(1.0, 2 * tail);
}

double roc_area(std::vector<double> high, std::vector<double> low) {
  std::sort(low.begin(), low.end());
  double sum = 0;
  for (const double v : high) {
    const auto below = std::lower_bound(low.begin(), low.end(), v) - low.begin();
    const auto upto = std::upper_bound(low.begin(), low.end(), v) - low.begin();
    sum += 0.5 * static_cast<double>(below + upto);
  }
  return sum / (static_cast<double>(high.size()) * static_cast<double>(low.size()));
}

double percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto place = static_cast<size_t>(p * static_cast<double>(values.size() - 1) + 0.5);
  return values[std::min(place, values.size() - 1)];
}

}  // namespace ruvltra
