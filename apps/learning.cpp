#include "learning.h"

#include <charconv>
#include <cstdlib>

#include "base/fail.h"
#include "console.h"
#include "verbs.h"

namespace ruvltra {

void add_data_dir_option(CLI::App& app, std::string& data_dir) {
  app.add_option("--data-dir", data_dir,
                 "What is learned is kept here; default is $XDG_DATA_HOME/ruvltra or ~/.local/share/ruvltra")
      ->type_name("DIR")
      ->group("Learning");
}

void add_learning_options(CLI::App& app, LearningOptions& options) {
  add_data_dir_option(app, options.data_dir);
  app.add_option("--learn", options.learn,
                 "on: answer with what was learned, and learn from feedback; record: keep answers as "
                 "trajectories; off: keep nothing")
      ->check(one_of({"off", "record", "on"}))
      ->type_name("MODE")
      ->group("Learning");
  app.add_flag("--bank", options.bank, "Put what the bank knows about the first message before the dialogue")
      ->group("Learning");
  app.add_option(
         "--adapter", options.adapter,
         "With --learn on: the generation of learned weights that answers; none is the model as it is")
      ->type_name("latest|none|N")
      ->group("Learning");
}

Result<std::optional<uint64_t>> parse_adapter(std::string_view text, std::string_view option) {
  if (text == "latest") return std::nullopt;
  if (text == "none") return 0;
  uint64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && stop == text.data() + text.size() && number > 0) return number;
  return fail(ErrorKind::kUsage, "option.adapter", "{}: expected latest, none or a generation, found {}",
              option, ruvltra::quoted(text));
}

std::string learning_line(const LearningReport& report) {
  const std::string measured = fmt::format(
      "NLL {:.4f} -> {:.4f} on {} held-out tokens, canary {:+.2f} % and KL {:.4f}", report.nll_before,
      report.nll_after, report.n_held_out_tokens, 100 * report.canary_rise, report.canary_kl);
  if (report.accepted) {
    std::string line = fmt::format("published generation {}: {}", report.generation, measured);
    for (const TaskForgetting& task : report.forgetting)
      line += fmt::format(", task {} {:+.4f}", task.task.empty() ? "(found)" : task.task, task.nat);
    return line;
  }
  return fmt::format("not published: {}{}{}", report.reason, report.detail.empty() ? "" : ": ",
                     report.detail);
}

Result<std::filesystem::path> resolve_data_dir(const std::string& data_dir) {
  if (!data_dir.empty()) return std::filesystem::path(data_dir);
  const char* data_home = std::getenv("XDG_DATA_HOME");
  if (data_home != nullptr && *data_home != '\0') return std::filesystem::path(data_home) / "ruvltra";
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home != '\0') return std::filesystem::path(home) / ".local/share/ruvltra";
  return fail(ErrorKind::kUsage, "option.data_dir",
              "--data-dir: expected a folder, found none, and neither XDG_DATA_HOME nor HOME is set");
}

Result<void> apply_learning(const LearningOptions& options, const std::string& profile,
                            MediumConfig& config) {
  ASSIGN_OR_RETURN(const Variant variant, parse_variant(profile));
  const MediumConfig preset = MediumConfig::preset(variant);
  config.sona_hooks = preset.sona_hooks;
  config.sona_config = preset.sona_config;
  config.sona_config.learn = options.learn == "on"       ? LearnMode::kOn
                             : options.learn == "record" ? LearnMode::kRecord
                                                         : LearnMode::kOff;
  config.enable_reasoning_bank = true;
  config.enable_agent_routing = preset.enable_agent_routing;
  ASSIGN_OR_RETURN(config.data_dir, resolve_data_dir(options.data_dir));
  return {};
}

Result<Sona*> start_sona(MediumModel& model, bool show_progress) {
  ProgressBar bar("reading the bundled texts once for this model", ProgressBar::Unit::kItems, show_progress);
  RETURN_IF_ERROR(model.enable_sona([&](size_t done, size_t total) { return bar.update(done, total); }));
  return model.sona();
}

Result<LearningModel> load_learning(const ModelOptions& options, const LearningOptions& learning,
                                    const std::string& profile) {
  ASSIGN_OR_RETURN(ServedModel served, load_served(options, {}, [&](MediumConfig& config) {
                     auto applied = apply_learning(learning, profile, config);
                     config.sona_config.learn_at_low_priority = false;  // nobody is served
                     return applied;
                   }));
  LearningModel out{std::move(served)};
  ASSIGN_OR_RETURN(out.sona, start_sona(out.served.model, !options.no_progress));
  return out;
}

}  // namespace ruvltra
