// What a loaded model consists of, shared by MediumModel, Engine and the streams.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>
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

// Learned weights that a request answers with; the view is held until its last token.
struct PinnedGeneration {
  EngineLoop::PinnedAdapter view;  // null: the model as it is
  uint64_t number = 0;
  std::string hash;
};

// Who says which learned weights a request gets. Thread safety: all functions from any thread.
class AdapterSource {
 public:
  // `number` as Request::adapter, never 0.
  using Pin = std::function<Result<PinnedGeneration>(const Treatment&, std::optional<uint64_t> number)>;
  // Empty: nobody, every request gets the model as it is. Afterwards the former one is not in use.
  void set(Pin pin) {
    const std::unique_lock lock(mutex_);
    pin_ = std::move(pin);
  }
  // Error: learning.not_found if a number is asked for that is not kept.
  Result<PinnedGeneration> pin(const Treatment& treatment, std::optional<uint64_t> number) const;

 private:
  mutable std::shared_mutex mutex_;
  Pin pin_;
};

// Thread safety: const after load, but for the loop and the adapters, which look after themselves.
struct ModelParts {
  MediumConfig config;  // with what took effect
  std::string name;
  Tokenizer tokenizer;
  Result<std::optional<ChatTemplate>> chat_template;  // its error belongs to those who use it
  std::unique_ptr<ThreadPool> pool;
  Weights weights;
  std::optional<Weights> draft;  // of a model that proposes tokens
  std::vector<std::string> warnings;
  AdapterSource adapters;
  std::unique_ptr<EngineLoop> loop;  // last: it stops before what it uses goes

  static Result<std::unique_ptr<ModelParts>> load(const std::filesystem::path& path, MediumConfig config,
                                                  const LoadOptions& options);

  // Text is continued as it is, messages pass through the template. Errors: tokenizer.*, template.*,
  // model.no_template (usage).
  Result<std::vector<TokenId>> tokens_of(const Prompt& prompt) const;
  // tools: an array, or null.
  Result<std::vector<TokenId>> tokens_of(std::span<const ChatMessage> messages,
                                         const Json& tools = Json()) const;
};

}  // namespace ruvltra
