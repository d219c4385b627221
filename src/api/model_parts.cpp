#include "api/model_parts.h"

#include <algorithm>
#include <utility>

#include "base/cgroup.h"
#include "base/fail.h"
#include "base/json.h"
#include "gguf/reader.h"
#include "kernels/dispatch.h"
#include "model/memory.h"

namespace ruvltra {
namespace {

// The shape of the file takes the place of the one asked for; the context becomes what can be served.
void apply_shape(const ModelShape& shape, MediumConfig& config) {
  const size_t n_context = std::min({shape.context_length, static_cast<size_t>(config.context_length),
                                     config.paged_config.max_pages_per_sequence * kPageTokens});
  config.n_layers = static_cast<int>(shape.n_layers);
  config.d_model = static_cast<int>(shape.d_model);
  config.n_heads = static_cast<int>(shape.n_heads);
  config.n_kv_heads = static_cast<int>(shape.n_kv_heads);
  config.d_head = static_cast<int>(shape.d_head);
  config.d_ff = static_cast<int>(shape.d_ff);
  config.vocab_size = static_cast<int>(shape.n_vocab);
  config.rope_theta = static_cast<float>(shape.rope_theta);
  config.context_length = static_cast<int>(n_context);
}

// Every sequence at its longest, but no more than a quarter of the memory there is; at least one page each.
size_t kv_pages(const ModelShape& shape, const MediumConfig& config) {
  const size_t page_bytes = KvPool::page_bytes(shape, config.paged_config.kv_type);
  const auto parallel = static_cast<size_t>(config.engine.parallel);
  if (config.engine.kv_bytes > 0) return std::max(config.engine.kv_bytes / page_bytes, parallel);
  const size_t most = KvPool::pages_for(static_cast<size_t>(config.context_length)) * parallel;
  const auto memory = available_memory();
  return memory ? std::clamp(*memory / 4 / page_bytes, parallel, std::max(most, parallel)) : most;
}

Result<std::optional<ChatTemplate>> load_template(const Metadata& metadata, const Tokenizer& tokenizer) {
  const auto text_of = [&](TokenId id) { return id < 0 ? std::string_view() : tokenizer.bytes(id); };
  ASSIGN_OR_RETURN(const std::string_view source, metadata.get_string("tokenizer.chat_template"));
  if (source == "chatml") return std::nullopt;
  return ChatTemplate::parse(source, text_of(tokenizer.bos()), text_of(tokenizer.eos()));
}

Runner::Options step_options(const ModelShape& shape, const MediumConfig& config) {
  Runner::Options options;
  options.max_rows = static_cast<size_t>(config.engine.step_rows);
  options.max_parts = static_cast<size_t>(config.engine.parallel);
  options.max_positions = static_cast<size_t>(config.context_length);
  options.kv_type = config.paged_config.kv_type;
  options.n_pages = kv_pages(shape, config);
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
  return options;
}

}  // namespace

Result<std::unique_ptr<ModelParts>> ModelParts::load(const std::filesystem::path& path, MediumConfig config) {
  RETURN_IF_ERROR(config.validate());
  ASSIGN_OR_RETURN(const KernelTable* kernels, kernel_table(config.isa));
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(path));
  ASSIGN_OR_RETURN(const ModelShape shape, ModelShape::from_file(file));
  apply_shape(shape, config);
  RETURN_IF_ERROR(config.validate());
  RETURN_IF_ERROR(KvPool::check_type(shape, config.paged_config.kv_type));
  const Runner::Options steps = step_options(shape, config);
  MemoryNeed need = memory_need(shape, file.tensors(), steps.kv_type, steps.max_positions, steps.max_rows);
  need.kv_bytes = steps.n_pages * uint64_t{KvPool::page_bytes(shape, steps.kv_type)};
  need.scratch_bytes += steps.max_parts * shape.n_vocab * sizeof(float);
  RETURN_IF_ERROR(check_memory(need, config.memory_limit_bytes, path.string()));

  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::load(file.metadata()));
  std::optional<ChatTemplate> own_template;
  const bool has_template = file.metadata().contains("tokenizer.chat_template");
  if (has_template) {
    ASSIGN_OR_RETURN(own_template, load_template(file.metadata(), tokenizer));
  }
  auto pool = std::make_unique<ThreadPool>(config.n_threads > 0 ? config.n_threads : default_threads());
  config.n_threads = pool->n_threads();
  config.isa = kernels->isa;
  const Ctx ctx{pool.get(), kernels};
  ASSIGN_OR_RETURN(Weights weights, Weights::load(ctx, file));
  RETURN_IF_ERROR(weights.tune(ctx));

  const std::string name(file.metadata().get_string("general.name").value_or(""));
  std::unique_ptr<ModelParts> parts(new ModelParts{.config = std::move(config),
                                                   .name = name,
                                                   .tokenizer = std::move(tokenizer),
                                                   .own_template = std::move(own_template),
                                                   .has_template = has_template,
                                                   .pool = std::move(pool),
                                                   .weights = std::move(weights),
                                                   .loop = nullptr});
  ASSIGN_OR_RETURN(parts->loop, EngineLoop::start(ctx, parts->weights, parts->tokenizer,
                                                  loop_options(steps, parts->config)));
  return parts;
}

Result<std::vector<TokenId>> ModelParts::tokens_of(std::span<const ChatMessage> messages) const {
  if (!has_template) {
    return fail(ErrorKind::kUsage, "model.no_template",
                "messages: expected a model with a chat template; continue text instead");
  }
  if (messages.empty())
    return fail(ErrorKind::kUsage, "request.empty_prompt", "messages: expected at least one, found none");
  const ChatTemplate& chat_template = own_template ? *own_template : ChatTemplate::chatml();
  ASSIGN_OR_RETURN(const auto runs, chat_template.render(messages, Json(), true));
  return tokenizer.encode(runs);
}

Result<std::vector<TokenId>> ModelParts::tokens_of(const Prompt& prompt) const {
  if (const auto* tokens = std::get_if<std::vector<TokenId>>(&prompt)) return *tokens;
  if (const auto* text = std::get_if<std::string>(&prompt))
    return tokenizer.encode(*text, Recognise::kUserDefined);
  return tokens_of(std::span(std::get<std::vector<ChatMessage>>(prompt)));
}

}  // namespace ruvltra
