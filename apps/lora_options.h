// What the experiments on MicroLoRA share: options, and the head of their documents.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "lora_contexts.h"

namespace ruvltra {

struct LoraText {
  std::string path;  // empty: the bundled canary texts
  int n_seeds = 5;
};

// --text and --seeds, and where their values will be. Returns their names.
std::vector<std::string> add_lora_text_options(CLI::App& app, std::shared_ptr<const LoraText>& text);

// Hidden states of the text; of the first max_tokens tokens.
Result<HiddenStates> read_states(const LoadedModel& model, const LoraText& text, size_t max_tokens);

// Kind, model, commit, machine, first seed.
Json experiment_document(std::string_view kind, const LoadedModel& model, uint64_t seed);

}  // namespace ruvltra
