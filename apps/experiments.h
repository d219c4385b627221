// Experiments of the learning system: `ruvltra eval NAME`. Each prints a table, or with --json one document
// with seed, settings and raw numbers, and exits with 0 only if its gates hold.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "options.h"
#include "ruvltra/error.h"

namespace ruvltra {

// What all experiments share.
struct ExperimentOptions {
  ModelOptions model;
  uint64_t seed = 1;
  bool json = false;
};

struct Experiment {
  std::string name;
  // Declares the options that only this experiment has; their names, so that others refuse them.
  std::function<std::vector<std::string>(CLI::App& app)> add_options;
  // The exit code.
  std::function<Result<int>(const ExperimentOptions&)> run;
};

std::vector<Experiment> experiments();

Experiment hnsw_file_experiment();
Experiment bank_crash_experiment();
Experiment bank_experiment();
Experiment route_experiment();
Experiment schema_experiment();
Experiment sona_style_experiment();
Experiment sona_quality_experiment();
Experiment sona_null_experiment();
Experiment sona_poison_experiment();
Experiment sona_rollback_experiment();
Experiment sona_forget_experiment();
Experiment sona_boundary_experiment();
Experiment sona_grad_experiment();
Experiment sona_teacher_experiment();

}  // namespace ruvltra
