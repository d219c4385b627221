#include "experiments.h"

#include <unistd.h>

#include <filesystem>
#include <memory>

#include "base/fail.h"
#include "base/json.h"
#include "console.h"
#include "store/faults/crash_runs.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr double kMaxOpenMs = 2'000;

struct Options {
  uint64_t kills = 100;
  uint64_t images = 2'000;
  uint64_t flips = 500;
  uint64_t errors = 400;
  uint64_t acks = 1'000;
  std::string folder;
};

// A folder that goes away, whatever happens.
class WorkFolder {
 public:
  static Result<WorkFolder> make(const std::string& parent) {
    std::error_code error;
    const std::filesystem::path base =
        parent.empty() ? std::filesystem::temp_directory_path(error) : std::filesystem::path(parent);
    WorkFolder folder;
    folder.path_ = base / fmt::format("ruvltra-bank-crash-{}", getpid());
    std::filesystem::remove_all(folder.path_, error);
    std::filesystem::create_directories(folder.path_, error);
    if (!error) return folder;
    return fail(ErrorKind::kIo, "eval.folder", "{}: cannot make it: {}", folder.path_.string(),
                error.message());
  }
  ~WorkFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  WorkFolder(WorkFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  const std::filesystem::path& path() const { return path_; }

 private:
  WorkFolder() = default;
  std::filesystem::path path_;
};

Json to_json_object(const CrashReport& report) {
  Json out;
  out["n"] = report.n;
  out["acknowledged"] = report.n_acknowledged;
  out["lost"] = report.n_lost;
  out["half"] = report.n_half;
  out["duplicate"] = report.n_duplicate;
  out["refused"] = report.n_refused;
  out["detected"] = report.n_detected;
  out["harmless"] = report.n_harmless;
  out["silent"] = report.n_silent;
  out["slowest_open_ms"] = report.worst_open_ms;
  out["failures"] = report.failures;
  return out;
}

Json to_json_object(const AckReport& report) {
  Json out;
  out["n"] = report.n;
  out["sync_p50_ms"] = report.sync_p50_ms;
  out["p50_ms"] = report.p50_ms;
  out["p99_ms"] = report.p99_ms;
  out["writers8_p99_ms"] = report.p99_of_8_ms;
  out["writers8_records_per_s"] = report.records_per_s;
  out["writers8_rows_per_s"] = report.rows_per_s;
  return out;
}

void print_report(const CrashReport& report, bool good) {
  print("{:<14} {:>7} {:>9} {:>6} {:>6} {:>6} {:>8} {:>9} {:>9} {:>7} {:>9.1f}  {}\n", report.name, report.n,
        report.n_acknowledged, report.n_lost, report.n_half, report.n_duplicate, report.n_refused,
        report.n_detected, report.n_harmless, report.n_silent, report.worst_open_ms, good ? "ok" : "FAIL");
  for (const std::string& text : report.failures) print("  {}\n", text);
}

Result<int> run(const Options& options, const ExperimentOptions& shared) {
  ASSIGN_OR_RETURN(const WorkFolder folder, WorkFolder::make(options.folder));
  struct Part {
    const char* key;
    uint64_t n;
    Result<CrashReport> (*run)(const CrashOptions&);
  };
  const Part parts[] = {{"kills", options.kills, run_kills},
                        {"power_cuts", options.images, run_power_cuts},
                        {"damage", options.flips, run_damage},
                        {"io_errors", options.errors, run_io_errors}};
  Json document;
  document["kind"] = "bank-crash";
  document["version"] = version_line();
  document["seed"] = shared.seed;
  if (!shared.json) {
    print("{:<14} {:>7} {:>9} {:>6} {:>6} {:>6} {:>8} {:>9} {:>9} {:>7} {:>9}\n", "", "n", "acked", "lost",
          "half", "twice", "refused", "detected", "harmless", "silent", "open, ms");
  }
  bool all_good = true;
  for (const Part& part : parts) {
    if (part.n == 0) continue;
    ProgressBar bar(part.key, ProgressBar::Unit::kItems, !shared.model.no_progress);
    CrashOptions crash;
    crash.seed = shared.seed;
    crash.n = part.n;
    crash.folder = folder.path() / part.key;
    crash.progress = bar.callback();
    ASSIGN_OR_RETURN(const CrashReport report, part.run(crash));
    if (report.stopped || stop_requested()) {
      return fail(ErrorKind::kCancelled, "eval.cancelled", "evaluation: stopped on request");
    }
    const bool good = report.good() && report.worst_open_ms <= kMaxOpenMs;
    all_good = all_good && good;
    document[part.key] = to_json_object(report);
    if (!shared.json) print_report(report, good);
  }
  if (options.acks > 0) {
    CrashOptions ack;
    ack.n = options.acks;
    ack.folder = folder.path() / "acks";
    ASSIGN_OR_RETURN(const AckReport report, measure_acknowledgements(ack));
    document["acknowledgement"] = to_json_object(report);
    if (!shared.json) {
      print(
          "acknowledgement of a trajectory with 3 steps: p50 {:.2f} ms, p99 {:.2f} ms (one writer); "
          "8 writers: p99 {:.2f} ms, {:.0f} trajectories/s = {:.0f} rows/s; fdatasync alone p50 {:.2f} ms\n",
          report.p50_ms, report.p99_ms, report.p99_of_8_ms, report.records_per_s, report.rows_per_s,
          report.sync_p50_ms);
    }
  }
  document["pass"] = all_good;
  if (shared.json) print("{}\n", to_json(document));
  return all_good ? kExitOk : kExitFailure;
}

}  // namespace

Experiment bank_crash_experiment() {
  const auto options = std::make_shared<Options>();
  Experiment experiment;
  experiment.name = "bank-crash";
  experiment.add_options = [options](CLI::App& app) -> std::vector<std::string> {
    const auto count = [&app](const char* name, uint64_t& place, const char* what) {
      app.add_option(name, place, what)->configurable(false)->check(in_range(0, 100'000'000))->type_name("N");
    };
    count("--kills", options->kills, "bank-crash: kill -9 of a writing process, so often");
    count("--images", options->images, "bank-crash: so many disks as a power cut leaves them");
    count("--flips", options->flips, "bank-crash: so many files with a flipped bit, a cut or swapped pages");
    count("--errors", options->errors, "bank-crash: about so many failing calls of the file system");
    count("--acks", options->acks, "bank-crash: so many acknowledgements are timed");
    app.add_option("--folder", options->folder, "bank-crash: work in a new folder inside this one (a disk)")
        ->configurable(false);
    return {"--kills", "--images", "--flips", "--errors", "--acks", "--folder"};
  };
  experiment.run = [options](const ExperimentOptions& shared) { return run(*options, shared); };
  return experiment;
}

}  // namespace ruvltra
