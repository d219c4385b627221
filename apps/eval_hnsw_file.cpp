// `eval hnsw-file`: index files damaged on purpose. Needs no model.
#include <memory>

#include "base/fail.h"
#include "base/json.h"
#include "console.h"
#include "experiments.h"
#include "index/file_damage.h"
#include "kernels/dispatch.h"
#include "verbs.h"

namespace ruvltra {
namespace {

// Prints how many of `count` damaged files were refused and why; exit code 0 only if all were.
Result<int> eval_hnsw_file(uint64_t count, uint64_t seed, bool json) {
  ASSIGN_OR_RETURN(const KernelTable* const kernels, kernel_table());
  ASSIGN_OR_RETURN(const DamageReport report, damage_index_files(count, seed, *kernels));
  const bool passed = report.n_detected == report.n_files;
  if (json) {
    Json out;
    out["kind"] = "hnsw-file";
    out["commit"] = build_commit();
    out["seed"] = seed;
    out["files"] = report.n_files;
    out["detected"] = report.n_detected;
    out["by_damage"] = report.by_damage;
    out["by_reason"] = report.by_reason;
    out["missed"] = report.missed;
    out["passed"] = passed;
    print("{}\n", to_json(out));
  } else {
    print("{} of {} damaged index files refused (seed {})\n", report.n_detected, report.n_files, seed);
    for (const auto& [reason, n] : report.by_reason) print("  {:<26} {}\n", reason, n);
    for (const auto& [damage, n] : report.missed) print("  believed: {} of damage {}\n", n, damage);
  }
  return passed ? kExitOk : kExitFailure;
}

}  // namespace

Experiment hnsw_file_experiment() {
  const auto count = std::make_shared<uint64_t>(100'000);
  return {.name = "hnsw-file",
          .add_options =
              [count](CLI::App& app) {
                app.add_option("--count", *count, "hnsw-file: how many damaged files")
                    ->check(in_range(int64_t{1}, int64_t{1} << 40))
                    ->configurable(false);
                return std::vector<std::string>{"--count"};
              },
          .run =
              [count](const ExperimentOptions& options) {
                return eval_hnsw_file(*count, options.seed, options.json);
              }};
}

}  // namespace ruvltra
