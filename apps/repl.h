// The dialogue of `ruvltra run`: line editing, commands, and answers that Ctrl+C stops.
#pragma once

#include <CLI/CLI.hpp>

#include "chat.h"

namespace ruvltra {

struct ReplOptions {
  bool no_history = false;
  bool no_progress = false;
  bool color_accepted = false;
  CLI::App* settings = nullptr;  // the verb's options: /set gives them new values
  bool* stats = nullptr;         // bound to --stats
};

// Runs until /bye or the end of input. Errors inside a dialogue are shown and it goes on.
Result<int> run_repl(const ServedModel& served, Conversation& conversation, GenerateParams& params,
                     const ReplOptions& options);

}  // namespace ruvltra
