#include "ruvltra/sona.h"

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/learning_json.h"
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
  std::string tenant, session;
  std::optional<uint64_t> to;
  std::string profile = "base";
  ModelOptions model;
  LearningOptions learning;
  bool json = false;
};

Scope scope_of(const Options& options) {
  Scope scope;
  if (!options.tenant.empty()) scope.tenant = options.tenant;
  scope.session = options.session;
  return scope;
}

std::string whose(const Scope& scope) {
  if (scope.tenant.empty()) return "everybody";
  return scope.session.empty() ? scope.tenant : fmt::format("{}/{}", scope.tenant, scope.session);
}

Json generation_row(const GenerationInfo& info) {
  return {{"tenant", info.scope.tenant}, {"session", info.scope.session}, {"number", info.number},
          {"hash", info.hash},           {"parent", info.parent},         {"reason", info.reason},
          {"time_us", info.time_us}};
}

// One line of a table of generations.
void print_generation(const GenerationInfo& info) {
  print("{:<20} {:>6}  {:.12}  from {:<6} {}\n", whose(info.scope), info.number, info.hash, info.parent,
        info.reason);
}

// What became of a command that published something.
Result<int> tell(const GenerationInfo& info, bool json) {
  if (json) {
    print("{}\n", to_json(generation_row(info)));
  } else {
    print_generation(info);
  }
  return kExitOk;
}

// Reads beside whoever owns the folder; no model is needed.
Result<int> status(const Options& options) {
  ASSIGN_OR_RETURN(const auto folder, resolve_data_dir(options.learning.data_dir));
  ASSIGN_OR_RETURN(const Variant variant, parse_variant(options.profile));
  const MediumConfig preset = MediumConfig::preset(variant);
  StoreStats stats;
  std::vector<GenerationInfo> live;
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
    ASSIGN_OR_RETURN(const auto scopes, store->scopes());
    for (const auto& [tenant, session] : scopes) {
      ASSIGN_OR_RETURN(const auto last, store->live(tenant, session));
      if (!last) continue;
      live.push_back({.scope = {tenant, session},
                      .number = last->number,
                      .hash = to_hex(last->content),
                      .parent = last->parent,
                      .reason = last->reason,
                      .report = last->report,
                      .time_us = last->created_us});
    }
  }
  const auto index_bytes = std::filesystem::file_size(folder / "bank.rvc", ignored);
  const bool has_index = !ignored;
  const size_t capacity = preset.sona_config.pattern_capacity;
  if (options.json) {
    Json out;
    out["mode"] = nullptr;  // that of whoever runs, which a file does not tell
    // Of the tenant's own live weights; what an owner has in memory a file does not tell.
    out["generation"] = out["delta_nll"] = out["rel_norm"] = out["updates"] = out["frozen"] = nullptr;
    out["generations"] = Json::array();
    for (const GenerationInfo& info : live) {
      Json row = generation_row(info);
      const auto report = parse_json(info.report.empty() ? "{}" : info.report, "report");
      row["report"] = report ? *report : Json(nullptr);
      if (info.scope.tenant == scope_of(options).tenant && info.scope.session == options.session) {
        out["generation"] = info.number;
        if (report && report->contains("nll_after")) {
          out["delta_nll"] = (*report)["nll_after"].get<double>() - (*report)["nll_before"].get<double>();
          out["rel_norm"] = (*report)["delta_p999"];
        }
      }
      out["generations"].push_back(std::move(row));
    }
    out["bank"] = {{"rows", stats.n_patterns}, {"capacity", capacity}};
    out["index"] = {{"state", has_index ? "file" : "none"},
                    {"bytes", has_index ? Json(index_bytes) : Json(nullptr)}};
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
  print("adapters      {}\n", live.empty() ? "none published: answers are the model's own" : "");
  for (const GenerationInfo& info : live) print_generation(info);
  for (const DamagedRow& row : damaged)
    print_warning(
        fmt::format("{} row {}: {}; it is set aside and never served", row.table, row.row, row.what));
  return damaged.empty() ? kExitOk : kExitFailure;
}

Result<int> learn(const Options& options, Sona& sona) {
  const Scope scope = scope_of(options);
  ASSIGN_OR_RETURN(const BackgroundReport background, sona.run_background(scope));
  ASSIGN_OR_RETURN(const DeepReport deep, sona.run_deep(scope));
  const HeadReport& head = background.head;
  const ConsolidateReport& bank = deep.bank;
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
                                 {"recall_after", bank.recall_after}}},
                               {"adapter", learning_report_json(background.adapter)},
                               {"sessions", learning_report_json(deep.adapter)}}));
    return kExitOk;
  }
  print("router head   {} outcomes, {} new: {}\n", head.n_outcomes, head.n_new,
        head.accepted ? fmt::format("taken, held-out log loss {:.4f} -> {:.4f}", head.heldout_before,
                                    head.heldout_after)
                      : head.reason);
  print("bank          {} items -> {}: {} merged, {} pruned, {} clusters\n", bank.n_before, bank.n_after,
        bank.n_merged, bank.n_pruned, bank.n_clusters);
  print("adapter       {}\n", learning_line(background.adapter));
  print("sessions      {}\n", learning_line(deep.adapter));
  return kExitOk;
}

// Files of text to write like, then the loop that learns from them.
Result<int> teach(const Options& options, Sona& sona) {
  constexpr uint64_t kMaxTextBytes = uint64_t{64} << 20;
  ASSIGN_OR_RETURN(const std::string text, read_text_file(options.folder, kMaxTextBytes));
  ASSIGN_OR_RETURN(const size_t n_tokens, sona.teach(text, scope_of(options)));
  ASSIGN_OR_RETURN(const LearningReport report, sona.learn(scope_of(options)));
  if (options.json) {
    Json out = learning_report_json(report);
    out["tokens"] = n_tokens;
    print("{}\n", to_json(out));
  } else {
    print("{} tokens read; {}\n", n_tokens, learning_line(report));
  }
  return kExitOk;
}

Result<int> history(const Options& options, const Sona& sona) {
  const auto kept = sona.history(scope_of(options));
  if (options.json) {
    Json rows = Json::array();
    for (const GenerationInfo& info : kept) rows.push_back(generation_row(info));
    print("{}\n", to_json(rows));
    return kExitOk;
  }
  if (kept.empty()) print("nothing was published for {}\n", whose(scope_of(options)));
  for (const GenerationInfo& info : kept) print_generation(info);
  return kExitOk;
}

Result<int> sona(const Options& options) {
  const bool needs_folder =
      options.action == "export" || options.action == "import" || options.action == "teach";
  if (needs_folder == options.folder.empty()) {
    return fail(ErrorKind::kUsage, "sona.folder", "sona {}: expected {}, found {}", options.action,
                needs_folder ? "a folder or file" : "no further argument",
                options.folder.empty() ? "none" : ruvltra::quoted(options.folder));
  }
  if (options.action == "status") return status(options);
  LearningOptions learning = options.learning;
  ASSIGN_OR_RETURN(const auto data_dir, resolve_data_dir(learning.data_dir));
  std::error_code ignored;
  // What is taken elsewhere needs the learner only where something was learned.
  const bool carries = options.action == "export" || options.action == "import";
  const bool learned =
      std::filesystem::exists(data_dir / "adapters", ignored) ||
      std::filesystem::exists(std::filesystem::path(options.folder) / "adapter.rvc1", ignored);
  if (!carries || learned) learning.learn = "on";
  ASSIGN_OR_RETURN(LearningModel model, load_learning(options.model, learning, options.profile));
  if (options.action == "learn") return learn(options, *model.sona);
  if (options.action == "teach") return teach(options, *model.sona);
  if (options.action == "history") return history(options, *model.sona);
  if (options.action == "rollback") {
    ASSIGN_OR_RETURN(const auto info, model.sona->rollback(scope_of(options), options.to));
    return tell(info, options.json);
  }
  if (options.action == "reset") {
    ASSIGN_OR_RETURN(const auto info, model.sona->reset(scope_of(options)));
    return tell(info, options.json);
  }
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
                                   "  ruvltra sona teach letters.txt\n"
                                   "  ruvltra sona history\n"
                                   "  ruvltra sona rollback --to 2\n"
                                   "  ruvltra sona export backup/\n"
                                   "  ruvltra sona import backup/ --data-dir /var/lib/ruvltra\n",
                                   [options] { return sona(*options); });
  app.add_option(
         "action", options->action,
         "status; learn = run every loop now; teach FILE = learn to write like it; history; rollback; "
         "reset = the model as it was; export FOLDER; import FOLDER")
      ->required()
      ->configurable(false)
      ->check(one_of({"status", "learn", "teach", "history", "rollback", "reset", "export", "import"}));
  app.add_option("folder", options->folder,
                 "export: a new folder; import: one that export wrote; teach: a text file")
      ->configurable(false);
  add_model_options(app, options->model);
  add_data_dir_option(app, options->learning.data_dir);
  app.add_option("--profile", options->profile, "Hooks, capacity and thresholds: base, coder or agent")
      ->check(one_of({"base", "coder", "agent"}))
      ->type_name("NAME");
  app.add_option("--tenant", options->tenant,
                 "Whose: export is of all without it, everything else of \"local\"")
      ->type_name("NAME");
  app.add_option("--session", options->session, "Of one conversation of the tenant")->type_name("NAME");
  app.add_option("--to", options->to, "rollback: the generation to go back to, instead of the parent")
      ->type_name("N");
  app.add_flag("--json", options->json, "One JSON document on stdout");
}

}  // namespace ruvltra
