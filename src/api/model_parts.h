// What a loaded model consists of, shared by MediumModel, Engine and the streams.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/threads.h"
#include "engine/engine_loop.h"
#include "model/weights.h"
#include "ruvltra/config.h"
#include "ruvltra/model.h"
#include "ruvltra/types.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ruvltra {

// Thread safety: const after load, but for the loop, which looks after itself.
struct ModelParts {
  MediumConfig config;  // with what took effect
  std::string name;
  Tokenizer tokenizer;
  Result<std::optional<ChatTemplate>> chat_template;  // its error belongs to those who use it
  std::unique_ptr<ThreadPool> pool;
  Weights weights;
  std::optional<Weights> draft;  // of a model that proposes tokens
  std::vector<std::string> warnings;
  std::unique_ptr<EngineLoop> loop;  // last: it stops before what it uses goes

  static Result<std::unique_ptr<ModelParts>> load(const std::filesystem::path& path, MediumConfig config,
                                                  const LoadOptions& options);

  // Text is continued as it is, messages pass through the template. Errors: tokenizer.*, template.*,
  // model.no_template (usage).
  Result<std::vector<TokenId>> tokens_of(const Prompt& prompt) const;
  Result<std::vector<TokenId>> tokens_of(std::span<const ChatMessage> messages) const;
};

}  // namespace ruvltra
