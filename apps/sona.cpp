#include "ruvltra/sona.h"

#include "base/fail.h"
#include "base/json.h"
#include "console.h"
#include "learning.h"
#include "load.h"
#include "options.h"
#include "store/store.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  std::string action;
  std::string folder;
  std::string tenant;
  std::string profile = "base";
  ModelOptions model;
  LearningOptions learning;
  bool json = false;
};

Scope scope_of(const Options& options) {
  Scope scope;
  if (!options.tenant.empty()) scope.tenant = options.tenant;
  return scope;
}

// Reads beside whoever owns the folder; no model is needed.
Result<int> status(const Options& options) {
  ASSIGN_OR_RETURN(const auto folder, resolve_data_dir(options.learning.data_dir));
  ASSIGN_OR_RETURN(const Variant variant, parse_variant(options.profile));
  const MediumConfig preset = MediumConfig::preset(variant);
  StoreStats stats;
  std::vector<DamagedRow> damaged;
  std::error_code ignored;
  const bool exists = std::filesystem::exists(folder / "learn.db", ignored);
  if (exists) {
    Store::Options reading;
    reading.must_exist = reading.read_only = true;
    ASSIGN_OR_RETURN(const auto store, Store::open(folder, reading));
    RETURN_IF_ERROR(store->verify());
    damaged = store->damaged();  // those that opening found, too
    stats = store->stats();
  }
  const auto index_bytes = std::filesystem::file_size(folder / "bank.rvc", ignored);
  const bool has_index = !ignored;
  const size_t capacity = preset.sona_config.pattern_capacity;
  if (options.json) {
    Json out;
    out["mode"] = nullptr;  // that of whoever runs, which a file does not tell
    out["generation"] = nullptr;
    out["updates"] = {{"accepted", nullptr}, {"rejected", nullptr}};
    out["delta_nll"] = out["rel_norm"] = nullptr;
    out["bank"] = {{"rows", stats.n_patterns}, {"capacity", capacity}};
    out["index"] = {{"state", has_index ? "file" : "none"},
                    {"bytes", has_index ? Json(index_bytes) : Json(nullptr)}};
    out["frozen"] = nullptr;
    out["trajectories"] = stats.n_trajectories;
    out["feedback"] = stats.n_feedback;
    out["decisions"] = stats.n_decisions;
    out["data_dir"] = folder.string();
    out["damaged"] = Json::array();
    for (const DamagedRow& row : damaged)
      out["damaged"].push_back({{"table", row.table}, {"row", row.row}, {"what", row.what}});
    print("{}\n", to_json(out));
    return damaged.empty() ? kExitOk : kExitFailure;
  }
  print("folder        {}{}\n", folder.string(), exists ? "" : "  (nothing is kept there yet)");
  print("trajectories  {}\n", stats.n_trajectories);
  print("bank          {} of {} items, index {}\n", stats.n_patterns, capacity,
        has_index ? fmt::format("file of {} bytes", index_bytes) : std::string("not written yet"));
  print("feedback      {}\n", stats.n_feedback);
  print("decisions     {}\n", stats.n_decisions);
  print("adapters      not built yet: nothing changes the model's weights or logits\n");
  for (const DamagedRow& row : damaged)
    print_warning(
        fmt::format("{} row {}: {}; it is set aside and never served", row.table, row.row, row.what));
  return damaged.empty() ? kExitOk : kExitFailure;
}

Result<int> learn(const Options& options, Sona& sona) {
  ASSIGN_OR_RETURN(const HeadReport head, sona.train_head(scope_of(options)));
  ASSIGN_OR_RETURN(const ConsolidateReport bank, sona.pattern_bank().consolidate());
  if (options.json) {
    print("{}\n", to_json(Json{{"head",
                                {{"accepted", head.accepted},
                                 {"reason", head.reason},
                                 {"outcomes", head.n_outcomes},
                                 {"new", head.n_new},
                                 {"heldout_before", head.heldout_before},
                                 {"heldout_after", head.heldout_after},
                                 {"weight_change", head.weight_change}}},
                               {"bank",
                                {{"before", bank.n_before},
                                 {"after", bank.n_after},
                                 {"merged", bank.n_merged},
                                 {"pruned", bank.n_pruned},
                                 {"clusters", bank.n_clusters},
                                 {"recall_before", bank.recall_before},
                                 {"recall_after", bank.recall_after}}}}));
    return kExitOk;
  }
  print("router head   {} outcomes, {} new: {}\n", head.n_outcomes, head.n_new,
        head.accepted ? fmt::format("taken, held-out log loss {:.4f} -> {:.4f}", head.heldout_before,
                                    head.heldout_after)
                      : head.reason);
  print("bank          {} items -> {}: {} merged, {} pruned, {} clusters\n", bank.n_before, bank.n_after,
        bank.n_merged, bank.n_pruned, bank.n_clusters);
  return kExitOk;
}

Result<int> sona(const Options& options) {
  const bool needs_folder = options.action == "export" || options.action == "import";
  if (needs_folder == options.folder.empty()) {
    return fail(ErrorKind::kUsage, "sona.folder", "sona {}: expected {}, found {}", options.action,
                needs_folder ? "a folder" : "no further argument",
                options.folder.empty() ? "none" : ruvltra::quoted(options.folder));
  }
  if (options.action == "status") return status(options);
  ASSIGN_OR_RETURN(LearningModel model, load_learning(options.model, options.learning, options.profile));
  if (options.action == "learn") return learn(options, *model.sona);
  if (options.action == "export") {
    const auto tenant = options.tenant.empty() ? std::nullopt : std::optional(options.tenant);
    RETURN_IF_ERROR(model.sona->export_to(options.folder, tenant));
    if (options.json) print("{}\n", to_json(Json{{"folder", options.folder}}));
    return kExitOk;
  }
  ASSIGN_OR_RETURN(const ImportReport report, model.sona->import_from(options.folder, scope_of(options)));
  if (options.json) {
    print("{}\n", to_json(Json{{"records", report.n_records}, {"agents", report.n_agents}}));
  } else {
    print("{} records and {} agents\n", report.n_records, report.n_agents);
  }
  return kExitOk;
}

}  // namespace

void add_sona_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb("sona", "What was learned: look at it, work on it, take it elsewhere",
                                   "  ruvltra sona status\n"
                                   "  ruvltra sona learn\n"
                                   "  ruvltra sona export backup/\n"
                                   "  ruvltra sona import backup/ --data-dir /var/lib/ruvltra\n",
                                   [options] { return sona(*options); });
  app.add_option("action", options->action,
                 "status; learn = train the router, tidy the bank; export FOLDER; import FOLDER")
      ->required()
      ->configurable(false)
      ->check(one_of({"status", "learn", "export", "import"}));
  app.add_option("folder", options->folder, "export: a new folder; import: one that export wrote")
      ->configurable(false);
  add_model_options(app, options->model);
  add_data_dir_option(app, options->learning.data_dir);
  app.add_option("--profile", options->profile, "Hooks, capacity and thresholds: base, coder or agent")
      ->check(one_of({"base", "coder", "agent"}))
      ->type_name("NAME");
  app.add_option("--tenant", options->tenant,
                 "Whose: export is of all without it, import and learn of \"local\"")
      ->type_name("NAME");
  app.add_flag("--json", options->json, "One JSON document on stdout");
}

}  // namespace ruvltra
