#include "lora_options.h"

#include <memory>

#include "base/file.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;

}  // namespace

std::vector<std::string> add_lora_text_options(CLI::App& app, std::shared_ptr<const LoraText>& text) {
  // Options of one name exist once in a program: the experiments share them and what they say.
  static const auto shared = std::make_shared<LoraText>();
  if (app.get_option_no_throw("--text") == nullptr) {
    app.add_option("--text", shared->path, "sona-grad, sona-teacher: the text to take contexts from")
        ->configurable(false);
    app.add_option("--seeds", shared->n_seeds, "sona-grad, sona-teacher: how many seeds, from --seed on")
        ->check(in_range(1, 1000))
        ->configurable(false);
  }
  text = shared;
  return {"--text", "--seeds"};
}

Result<HiddenStates> read_states(const LoadedModel& model, const LoraText& text, size_t max_tokens) {
  if (text.path.empty()) return hidden_states(model, canary_text(), max_tokens);
  ASSIGN_OR_RETURN(const std::string content, read_text_file(text.path, kMaxTextBytes));
  return hidden_states(model, content, max_tokens);
}

Json experiment_document(std::string_view kind, const LoadedModel& model, uint64_t seed) {
  Json out;
  out["kind"] = kind;
  out["model"] = model.label();
  out["random_weights"] = has_random_weights(model.file.metadata());
  out["commit"] = build_commit();
  out["isa"] = model.ctx.kernels->isa;
  out["n_threads"] = model.ctx.pool->n_threads();
  out["seed"] = seed;
  return out;
}

}  // namespace ruvltra
