// A RuvLTRA-Medium / Qwen2.5 model, ready to answer.
//
//   auto model = ruvltra::MediumModel::load("model.gguf");
//   if (!model) return report(model.error());
//   std::puts(model->generate("Why is the sky blue?")->text.c_str());
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/config.h"
#include "ruvltra/engine.h"
#include "ruvltra/error.h"
#include "ruvltra/learning.h"
#include "ruvltra/types.h"

namespace ruvltra {

class Sona;  // sona.h

struct Logits {
  size_t n_tokens = 0, n_vocab = 0;
  std::vector<float> values;  // (n_tokens, n_vocab)
  std::span<const float> row(size_t t) const { return std::span(values).subspan(t * n_vocab, n_vocab); }
};

// How the hidden states of a text become one vector.
enum class Pooling { kMean, kLast };

// How load() goes about its work. Nothing here changes an answer.
struct LoadOptions {
  bool map_file = false;  // read through a mapping instead of piece by piece; the file must not shrink then
  bool tune = true;       // time the kernels' walks on this machine first: loads slower, runs faster
  bool pin_threads = false;  // bind each worker thread to a CPU of its own
  // Bytes of the file loaded so far, from the calling thread; false stops the load: model.cancelled.
  std::function<bool(uint64_t done, uint64_t total)> on_progress;
};

// Thread safety: all functions from any thread. Movable; the engine and its streams stay where they are, and
// streams must be gone before the model is.
class MediumModel {
 public:
  // Reads and checks the file, takes the memory of weights, KV cache and steps, and starts the engine. The
  // file's metadata rules over the shape in `config`. Errors: config.*, gguf.*, model.*, weights.*,
  // tokenizer.*, memory.limit, isa.*.
  static Result<MediumModel> load(const std::filesystem::path& gguf, MediumConfig config = {},
                                  const LoadOptions& options = {});

  MediumModel(MediumModel&&) noexcept;
  MediumModel& operator=(MediumModel&&) noexcept;
  ~MediumModel();  // cancels what still runs

  // As given to load(), with the shape, the context, the threads and the instruction set that took effect.
  const MediumConfig& config() const;
  std::string_view name() const;                  // general.name of the file
  uint64_t n_parameters() const;                  // numbers in its tensors
  std::string sha256() const;                     // of its bytes, in hexadecimal digits
  std::span<const std::string> warnings() const;  // what is odd about it, but harmless

  // Whether prompts may be messages. Errors: template.* of a template that cannot be used; such a model
  // loads, continues text, and refuses messages.
  Result<bool> has_chat_template() const;

  // Text to token ids; control tokens are recognised only if asked for. Error: tokenizer.invalid_utf8.
  Result<std::vector<TokenId>> tokenize(std::string_view text, bool parse_control = false) const;
  // The prompt the model's chat template makes of the messages, and of `tools`, the JSON text of an array of
  // OpenAI tool objects. Errors: template.*; model.no_template; json.*; request.tools.
  Result<std::vector<TokenId>> tokenize(std::span<const ChatMessage> messages,
                                        std::string_view tools = {}) const;
  // The text of these tokens, without control tokens; valid UTF-8. Error: request.token.
  Result<std::string> detokenize(std::span<const TokenId> tokens) const;
  // The bytes of one token, control tokens included: not UTF-8 where it is part of a code point. Empty for an
  // id that no token stands for. Valid while the model lives.
  std::string_view token_bytes(TokenId id) const;

  // How generate() reads a text: as the message of a chat, or, raw or without template, as it is.
  Prompt prompt(std::string_view text, bool raw = false) const;

  // The answer to `prompt` as a chat message (params.raw, or a model without template: its continuation), or
  // to the last of `messages`. Waits for its turn behind what the engine has to do. Errors: those of
  // Engine::stream; request.n unless params.n is 1; whatever made the answer fail.
  Result<Generation> generate(std::string_view prompt, const GenerateParams& params);
  Result<Generation> generate(std::span<const ChatMessage> messages, const GenerateParams& params);
  // With the sampling of the configuration.
  Result<Generation> generate(std::string_view prompt);
  Result<Generation> generate(std::span<const ChatMessage> messages);
  // That sampling, to start from.
  GenerateParams default_params() const;

  // Logits of every token of a fresh sequence. `positions`, if given, must be 0, 1, 2, ... `learned`:
  // with the learned weights that are live for it; absent: the model as it is. Errors:
  // request.empty_prompt, request.too_long, request.token, request.positions, memory.limit
  // (n_tokens x n_vocab x 4 bytes are not there), memory.exhausted, engine.stopped.
  Result<Logits> forward(std::span<const TokenId> tokens, std::span<const int> positions = {},
                         const std::optional<Scope>& learned = {});

  // What the model, or what it has learned, makes of each token given those before: (tokens.size() - 1)
  // log-probabilities of tokens 1, 2, ..., each with the n_top likeliest at its place. Of a fresh sequence, a
  // step's rows at a time. Errors: as forward(), but the memory; request.n_top (0..20).
  Result<std::vector<Sampled>> score(std::span<const TokenId> tokens, int n_top = 0,
                                     const std::optional<Scope>& learned = {});

  // The residual stream after `layer` (-1: the last one), pooled over the text: (d_model), not normalised.
  // Layers after it are not computed. Errors: as forward(); request.layer.
  Result<std::vector<float>> embed(std::string_view text, int layer = -1, Pooling pooling = Pooling::kMean);
  Result<std::vector<float>> embed(std::span<const TokenId> tokens, int layer = -1,
                                   Pooling pooling = Pooling::kMean);

  Engine& engine();

  // Starts the learning system on config().data_dir: opens the store, and fits the basis of embeddings where
  // there is none for this model (a pass over some 600 short texts, and over those of the agents; on_text may
  // be empty, and false stops after the text at hand: basis.cancelled). The configured hooks, scaled to the
  // model's depth, or explicit ones, never scaled. Nothing that the model answers changes. Errors:
  // config.sona_hooks.layers, learning.enabled (it is on), store.*, file.*, basis.*.
  Result<void> enable_sona(const std::function<bool(size_t done, size_t total)>& on_text = {});
  Result<void> enable_sona_with_hooks(std::span<const int> layers,
                                      const std::function<bool(size_t done, size_t total)>& on_text = {});
  // Null while it is off.
  Sona* sona() noexcept;
  // Stops it; what was recorded stays in the folder. No router or bank of it may be in use.
  void disable_sona();

 private:
  struct Impl;
  explicit MediumModel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ruvltra
