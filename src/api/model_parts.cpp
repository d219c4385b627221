#include "api/model_parts.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "api/draft_file.h"
#include "api/ready_weights.h"
#include "base/fail.h"
#include "base/json.h"
#include "gguf/reader.h"
#include "model/memory.h"

namespace ruvltra {
namespace {

// The shape of the file takes the place of the one asked for; the context becomes what can be served.
void apply_shape(const ModelShape& shape, MediumConfig& config) {
  const size_t n_context = std::min({shape.context_length, static_cast<size_t>(config.context_length),
                                     config.paged_config.max_pages_per_sequence * kPageTokens});
  shape.describe(config);
  config.context_length = static_cast<int>(n_context);
}

// What a configuration asks for beyond its variant must be there.
Result<void> check_built(const MediumConfig& config) {
  const MediumConfig preset = MediumConfig::preset(config.variant);
  const std::pair<const char*, bool> asked[] = {
      {"use_paged_attention", config.use_paged_attention != preset.use_paged_attention},
      {"use_flash_attention", config.use_flash_attention != preset.use_flash_attention},
  };
  for (const auto& [field, changed] : asked) {
    if (changed) {
      return fail(ErrorKind::kUnsupported, "config.not_built",
                  "config.{}: expected the variant's own value, another one has no effect in this version",
                  field);
    }
  }
  return {};
}

// What was asked for, or every sequence at its longest, but no more than a quarter of the memory there is; at
// least one page each.
Result<size_t> kv_pages(const ModelShape& shape, const MediumConfig& config) {
  const size_t page_bytes = KvPool::page_bytes(shape, config.paged_config.kv_type);
  const auto parallel = static_cast<size_t>(config.engine.parallel);
  if (const size_t asked = config.engine.kv_bytes; asked > 0) {
    const size_t n_pages = asked / page_bytes;
    if (n_pages >= parallel && n_pages <= INT32_MAX) return n_pages;
    return fail(ErrorKind::kUsage, "config.engine.kv_bytes",
                "engine.kv_bytes: expected {} (a page for each of {} sequences) to {}, found {}",
                parallel * page_bytes, parallel, INT32_MAX * page_bytes, asked);
  }
  const size_t most = KvPool::pages_for(static_cast<size_t>(config.context_length)) * parallel;
  const auto memory = available_memory();
  return memory ? std::clamp(*memory / 4 / page_bytes, parallel, std::max(most, parallel)) : most;
}

Result<Runner::Options> step_options(const ModelShape& shape, const MediumConfig& config) {
  Runner::Options options;
  ASSIGN_OR_RETURN(options.n_pages, kv_pages(shape, config));
  options.max_rows = static_cast<size_t>(config.engine.step_rows);
  options.max_parts = static_cast<size_t>(config.engine.parallel);
  options.max_positions = static_cast<size_t>(config.context_length);
  options.kv_type = config.paged_config.kv_type;
  return options;
}

EngineLoop::Options loop_options(const Runner::Options& steps, const MediumConfig& config) {
  EngineLoop::Options options;
  options.steps = steps;
  options.max_queued = static_cast<size_t>(config.engine.queue);
  options.max_step_ms = static_cast<double>(config.engine.max_step_ms);
  options.prefix_cache = config.engine.prefix_cache;
  options.stream_tokens = static_cast<size_t>(config.engine.stream_tokens);
  options.slow_reader_seconds = static_cast<double>(config.engine.slow_reader_seconds);
  if (config.use_speculative_decoding) options.speculation = config.speculative_config;
  return options;
}

// Panels and KV pages of the model itself and, if there is one, of its draft.
MemoryNeed need_of(const GgufFile& file, const ModelShape& shape, const EngineLoop::Options& loop,
                   const DraftFile* draft) {
  const Runner::Options& steps = loop.steps;
  MemoryNeed need = memory_need(shape, file.tensors(), steps.kv_type, steps.max_positions, steps.max_rows);
  need.kv_bytes = steps.n_pages * uint64_t{KvPool::page_bytes(shape, steps.kv_type)};
  need.scratch_bytes += EngineLoop::max_wanted_rows(loop) * shape.n_vocab * sizeof(float);
  if (draft != nullptr) {
    const MemoryNeed more = draft->need(loop);
    need.weights_bytes += more.weights_bytes;
    need.kv_bytes += more.kv_bytes;
    need.scratch_bytes += more.scratch_bytes;
  }
  return need;
}

}  // namespace

Result<std::unique_ptr<ModelParts>> ModelParts::load(const std::filesystem::path& path, MediumConfig config,
                                                     const LoadOptions& options) {
  RETURN_IF_ERROR(config.validate());
  RETURN_IF_ERROR(check_built(config));
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(path, {.map = options.map_file}));
  ASSIGN_OR_RETURN(const ModelShape shape, ModelShape::from_file(file));
  apply_shape(shape, config);
  RETURN_IF_ERROR(config.validate());
  RETURN_IF_ERROR(KvPool::check_type(shape, config.paged_config.kv_type));
  ASSIGN_OR_RETURN(const Runner::Options steps, step_options(shape, config));
  EngineLoop::Options loop = loop_options(steps, config);
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::load(file.metadata()));
  std::optional<DraftFile> draft;
  if (config.use_speculative_decoding && config.draft_model_path) {
    ASSIGN_OR_RETURN(draft, DraftFile::open(*config.draft_model_path, tokenizer, steps.kv_type, options));
  }
  const MemoryNeed need = need_of(file, shape, loop, draft ? &*draft : nullptr);
  auto chat_template = ChatTemplate::of_model(file.metadata(), tokenizer);
  ASSIGN_OR_RETURN(ReadyWeights ready, ReadyWeights::load(file, need, config, options));
  config.n_threads = ready.pool->n_threads();
  config.isa = ready.ctx.kernels->isa;

  const std::string name(file.metadata().get_string("general.name").value_or(""));
  const auto warnings = file.warnings();
  std::unique_ptr<ModelParts> parts(new ModelParts{.config = std::move(config),
                                                   .name = name,
                                                   .tokenizer = std::move(tokenizer),
                                                   .chat_template = std::move(chat_template),
                                                   .pool = std::move(ready.pool),
                                                   .weights = std::move(ready.weights),
                                                   .draft = {},
                                                   .warnings = {warnings.begin(), warnings.end()},
                                                   .adapters = {},
                                                   .loop = nullptr});
  if (draft) {
    ASSIGN_OR_RETURN(parts->draft, draft->load(ready.ctx, options));
    loop.draft = &*parts->draft;
  }
  ASSIGN_OR_RETURN(parts->loop, EngineLoop::start(ready.ctx, parts->weights, parts->tokenizer, loop));
  return parts;
}

Result<PinnedGeneration> AdapterSource::pin(const Treatment& treatment,
                                            std::optional<uint64_t> number) const {
  if (number == 0) return PinnedGeneration();
  const std::shared_lock lock(mutex_);
  if (pin_) return pin_(treatment, number);
  if (!number) return PinnedGeneration();
  return fail(ErrorKind::kUsage, "learning.not_found",
              "adapter: expected a kept generation, found {}, and nothing is learned here", *number);
}

Result<std::vector<TokenId>> ModelParts::tokens_of(std::span<const ChatMessage> messages,
                                                   const Json& tools) const {
  if (!chat_template) return tl::unexpected<Error>(chat_template.error());
  if (!*chat_template) {
    return fail(ErrorKind::kUsage, "model.no_template",
                "messages: expected a model with a chat template; continue text instead");
  }
  if (messages.empty())
    return fail(ErrorKind::kUsage, "request.empty_prompt", "messages: expected at least one, found none");
  ASSIGN_OR_RETURN(const auto runs, (*chat_template)->render(messages, tools, true));
  return tokenizer.encode(runs);
}

Result<std::vector<TokenId>> ModelParts::tokens_of(const Prompt& prompt) const {
  if (const auto* tokens = std::get_if<std::vector<TokenId>>(&prompt)) return *tokens;
  if (const auto* text = std::get_if<std::string>(&prompt))
    return tokenizer.encode(*text, Recognise::kUserDefined);
  return tokens_of(std::span(std::get<std::vector<ChatMessage>>(prompt)));
}

}  // namespace ruvltra
