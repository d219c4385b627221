#include "learning.h"

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
  app.add_option("--learn", options.learn, "record: keep answers as trajectories; off: keep nothing")
      ->check(one_of({"off", "record"}))
      ->type_name("MODE")
      ->group("Learning");
  app.add_flag("--bank", options.bank, "Put what the bank knows about the first message before the dialogue")
      ->group("Learning");
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
  config.sona_config.learn = options.learn == "record" ? LearnMode::kRecord : LearnMode::kOff;
  config.enable_reasoning_bank = true;
  config.enable_agent_routing = preset.enable_agent_routing;
  ASSIGN_OR_RETURN(config.data_dir, resolve_data_dir(options.data_dir));
  return {};
}

Result<Sona*> start_sona(MediumModel& model, bool show_progress) {
  ProgressBar bar("reading the bundled texts once for this model", ProgressBar::Unit::kItems, show_progress);
  RETURN_IF_ERROR(model.enable_sona([&](size_t done, size_t total) { bar.update(done, total); }));
  return model.sona();
}

Result<LearningModel> load_learning(const ModelOptions& options, const LearningOptions& learning,
                                    const std::string& profile) {
  ASSIGN_OR_RETURN(ServedModel served, load_served(options, {}, [&](MediumConfig& config) {
                     return apply_learning(learning, profile, config);
                   }));
  LearningModel out{std::move(served)};
  ASSIGN_OR_RETURN(out.sona, start_sona(out.served.model, !options.no_progress));
  return out;
}

}  // namespace ruvltra
