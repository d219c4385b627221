// What hooks and learned weights cost, step by step and answer by answer: things done with and without, in
// turn.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "options.h"
#include "ruvltra/error.h"

namespace ruvltra {

// Speed with something over the speed without it, of neighbours in time.
struct SpeedRatios {
  std::string name;
  std::vector<double> ratios;
  double median = 0;
  double low = 0;  // lower end of its one-sided 95 % bootstrap interval
  Json json() const;
};
SpeedRatios speed_ratios(std::string_view name, std::vector<double> ratios);

// Decode steps of one sequence, as the engine does them, each with its neighbour without hooks; no learner
// runs. The same position again and again: all steps are the same work. `n_pairs` of each kind. Errors:
// those of load_weights() and of memory; bench.cancelled.
Result<std::vector<SpeedRatios>> sona_step_costs(const ModelOptions& options, int n_pairs);

}  // namespace ruvltra
