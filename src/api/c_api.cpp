// The C API over the C++ one: translation of types, errors and ownership, nothing else.
#include "ruvltra/c.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "base/fail.h"
#include "ruvltra/model.h"

struct ruvltra_model {
  ruvltra::MediumModel model;
};

struct ruvltra_generation {
  ruvltra::Generation generation;
};

struct ruvltra_stream {
  ruvltra::Stream stream;
  std::string text;  // of the last event
};

namespace ruvltra {
namespace {

thread_local std::string last_message;
thread_local std::string last_id;

ruvltra_status status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInput:
      return RUVLTRA_ERROR_INPUT;
    case ErrorKind::kUsage:
      return RUVLTRA_ERROR_USAGE;
    case ErrorKind::kIo:
      return RUVLTRA_ERROR_IO;
    case ErrorKind::kMemory:
      return RUVLTRA_ERROR_MEMORY;
    case ErrorKind::kUnsupported:
      return RUVLTRA_ERROR_UNSUPPORTED;
    case ErrorKind::kCancelled:
      return RUVLTRA_ERROR_CANCELLED;
    case ErrorKind::kBusy:
      return RUVLTRA_ERROR_BUSY;
  }
  return RUVLTRA_ERROR_INTERNAL;
}

// Runs f, a Result<void>, and keeps its error for ruvltra_last_error(). No exception passes: what() is cut to
// the length that a string holds without taking memory, because a second exception here would end the
// program.
template <class F>
ruvltra_status guarded(F&& f) noexcept {
  try {
    const Result<void> result = f();
    if (result) return RUVLTRA_OK;
    last_message = result.error().message;
    last_id = result.error().id;
    return status_of(result.error().kind);
  } catch (const std::bad_alloc&) {
    last_message.clear();
    last_id = "c.memory";
    return RUVLTRA_ERROR_MEMORY;
  } catch (const std::exception& error) {
    last_message.assign(error.what(), std::min<size_t>(std::strlen(error.what()), 15));
    last_id = "c.internal";
    return RUVLTRA_ERROR_INTERNAL;
  } catch (...) {
    last_message.clear();
    last_id = "c.internal";
    return RUVLTRA_ERROR_INTERNAL;
  }
}

Result<void> need(const void* pointer, const char* name) {
  if (pointer != nullptr) return {};
  return fail(ErrorKind::kUsage, "c.null", "{}: expected a pointer, found NULL", name);
}

// The caller's structure, with defaults where it is shorter than ours.
template <class Struct>
Result<Struct> read_struct(const Struct& given, Struct defaults) {
  if (given.struct_bytes < sizeof(size_t) || given.struct_bytes > 4096) {
    return fail(ErrorKind::kUsage, "c.struct_bytes", "struct_bytes: expected the structure's size, found {}",
                given.struct_bytes);
  }
  std::memcpy(&defaults, &given, std::min(given.struct_bytes, sizeof(Struct)));
  return defaults;
}

Result<MediumConfig> config_of(const ruvltra_model_options* given) {
  MediumConfig config;
  if (given == nullptr) return config;
  ASSIGN_OR_RETURN(const ruvltra_model_options options, read_struct(*given, ruvltra_model_options{}));
  if (options.profile != nullptr) {
    ASSIGN_OR_RETURN(const Variant variant, parse_variant(options.profile));
    config = MediumConfig::preset(variant);
  }
  if (options.kv_type != nullptr) {
    ASSIGN_OR_RETURN(config.paged_config.kv_type, parse_kv_type(options.kv_type));
  }
  if (options.context_length != 0) config.context_length = options.context_length;
  if (options.n_threads != 0) config.n_threads = options.n_threads;
  if (options.parallel != 0) config.engine.parallel = options.parallel;
  config.engine.kv_bytes = options.kv_bytes;
  config.memory_limit_bytes = options.memory_limit_bytes;
  if (options.isa != nullptr) config.isa = options.isa;
  if (options.stream_tokens != 0) config.engine.stream_tokens = options.stream_tokens;
  return config;
}

ruvltra_generate_params params_of(const GenerateParams& params) {
  ruvltra_generate_params out = {};
  out.struct_bytes = sizeof out;
  out.max_tokens = params.max_tokens;
  out.temperature = params.temperature;
  out.top_p = params.top_p;
  out.min_p = params.min_p;
  out.top_k = params.top_k;
  out.repeat_penalty = params.repeat_penalty;
  out.presence_penalty = params.presence_penalty;
  out.frequency_penalty = params.frequency_penalty;
  out.has_seed = params.seed.has_value();
  out.seed = params.seed.value_or(0);
  return out;
}

Result<GenerateParams> params_of(const MediumModel& model, const ruvltra_generate_params* given) {
  GenerateParams out = model.default_params();
  if (given == nullptr) return out;
  ASSIGN_OR_RETURN(const ruvltra_generate_params params, read_struct(*given, params_of(out)));
  out.max_tokens = params.max_tokens;
  out.temperature = params.temperature;
  out.top_p = params.top_p;
  out.min_p = params.min_p;
  out.top_k = params.top_k;
  out.repeat_penalty = params.repeat_penalty;
  out.presence_penalty = params.presence_penalty;
  out.frequency_penalty = params.frequency_penalty;
  out.seed.reset();
  if (params.has_seed != 0) out.seed = params.seed;
  out.stop.clear();
  if (params.n_stop > 0) RETURN_IF_ERROR(need(params.stop, "stop"));
  for (size_t i = 0; i < params.n_stop; ++i) {
    RETURN_IF_ERROR(need(params.stop[i], "stop"));
    out.stop.emplace_back(params.stop[i]);
  }
  out.n_logprobs = params.n_logprobs;
  out.raw = params.raw != 0;
  return out;
}

Result<std::vector<ChatMessage>> messages_of(const ruvltra_message* messages, size_t n_messages) {
  RETURN_IF_ERROR(need(messages, "messages"));
  std::vector<ChatMessage> out;
  for (size_t i = 0; i < n_messages; ++i) {
    RETURN_IF_ERROR(need(messages[i].role, "role"));
    RETURN_IF_ERROR(need(messages[i].content, "content"));
    out.push_back({messages[i].role, messages[i].content, {}});
  }
  return out;
}

Result<void> open_stream(MediumModel& model, Prompt prompt, const GenerateParams& params,
                         ruvltra_stream** stream) {
  ASSIGN_OR_RETURN(Stream opened, model.engine().stream({std::move(prompt), params, {}}));
  *stream = new ruvltra_stream{std::move(opened), {}};
  return {};
}

}  // namespace
}  // namespace ruvltra

using namespace ruvltra;

const char* ruvltra_version(void) { return RUVLTRA_VERSION; }
const char* ruvltra_last_error(void) { return last_message.c_str(); }
const char* ruvltra_last_error_id(void) { return last_id.c_str(); }

ruvltra_status ruvltra_model_load(const char* path, const ruvltra_model_options* options,
                                  ruvltra_model** model) {
  return guarded([&]() -> Result<void> {
    RETURN_IF_ERROR(need(path, "path"));
    RETURN_IF_ERROR(need(model, "model"));
    ASSIGN_OR_RETURN(MediumConfig config, config_of(options));
    ASSIGN_OR_RETURN(MediumModel loaded, MediumModel::load(path, std::move(config)));
    *model = new ruvltra_model{std::move(loaded)};
    return {};
  });
}

void ruvltra_model_free(ruvltra_model* model) { delete model; }

ruvltra_status ruvltra_tokenize(const ruvltra_model* model, const char* text, int parse_control,
                                int32_t* tokens, size_t capacity, size_t* n_tokens) {
  return guarded([&]() -> Result<void> {
    RETURN_IF_ERROR(need(model, "model"));
    RETURN_IF_ERROR(need(text, "text"));
    RETURN_IF_ERROR(need(n_tokens, "n_tokens"));
    ASSIGN_OR_RETURN(const auto ids, model->model.tokenize(text, parse_control != 0));
    *n_tokens = ids.size();
    if (ids.size() > capacity) {
      return fail(ErrorKind::kUsage, "c.capacity", "capacity: expected at least {}, found {}", ids.size(),
                  capacity);
    }
    if (!ids.empty()) RETURN_IF_ERROR(need(tokens, "tokens"));
    std::copy(ids.begin(), ids.end(), tokens);
    return {};
  });
}

void ruvltra_generate_params_init(const ruvltra_model* model, ruvltra_generate_params* params) {
  if (model != nullptr && params != nullptr) *params = params_of(model->model.default_params());
}

ruvltra_status ruvltra_generate(ruvltra_model* model, const char* prompt,
                                const ruvltra_generate_params* given, ruvltra_generation** generation) {
  return guarded([&]() -> Result<void> {
    RETURN_IF_ERROR(need(model, "model"));
    RETURN_IF_ERROR(need(prompt, "prompt"));
    RETURN_IF_ERROR(need(generation, "generation"));
    ASSIGN_OR_RETURN(const GenerateParams params, params_of(model->model, given));
    ASSIGN_OR_RETURN(Generation made, model->model.generate(prompt, params));
    *generation = new ruvltra_generation{std::move(made)};
    return {};
  });
}

ruvltra_status ruvltra_chat(ruvltra_model* model, const ruvltra_message* messages, size_t n_messages,
                            const ruvltra_generate_params* given, ruvltra_generation** generation) {
  return guarded([&]() -> Result<void> {
    RETURN_IF_ERROR(need(model, "model"));
    RETURN_IF_ERROR(need(generation, "generation"));
    ASSIGN_OR_RETURN(const auto chat, messages_of(messages, n_messages));
    ASSIGN_OR_RETURN(const GenerateParams params, params_of(model->model, given));
    ASSIGN_OR_RETURN(Generation made, model->model.generate(chat, params));
    *generation = new ruvltra_generation{std::move(made)};
    return {};
  });
}

const char* ruvltra_generation_text(const ruvltra_generation* g) { return g->generation.text.c_str(); }
const char* ruvltra_generation_finish_reason(const ruvltra_generation* g) {
  return finish_reason_name(g->generation.finish_reason).data();
}
size_t ruvltra_generation_n_tokens(const ruvltra_generation* g) { return g->generation.tokens.size(); }
const int32_t* ruvltra_generation_tokens(const ruvltra_generation* g) { return g->generation.tokens.data(); }
double ruvltra_generation_logprob(const ruvltra_generation* g, size_t i) {
  return i < g->generation.logprobs.size() ? g->generation.logprobs[i].logprob : 0;
}
size_t ruvltra_generation_n_prompt(const ruvltra_generation* g) { return g->generation.n_prompt; }
size_t ruvltra_generation_n_cached(const ruvltra_generation* g) { return g->generation.n_cached; }
uint64_t ruvltra_generation_seed(const ruvltra_generation* g) { return g->generation.seed; }
void ruvltra_generation_free(ruvltra_generation* generation) { delete generation; }

ruvltra_status ruvltra_stream_open(ruvltra_model* model, const char* prompt,
                                   const ruvltra_generate_params* given, ruvltra_stream** stream) {
  return guarded([&]() -> Result<void> {
    RETURN_IF_ERROR(need(model, "model"));
    RETURN_IF_ERROR(need(prompt, "prompt"));
    RETURN_IF_ERROR(need(stream, "stream"));
    ASSIGN_OR_RETURN(const GenerateParams params, params_of(model->model, given));
    return open_stream(model->model, model->model.prompt(prompt, params.raw), params, stream);
  });
}

ruvltra_status ruvltra_stream_open_chat(ruvltra_model* model, const ruvltra_message* messages,
                                        size_t n_messages, const ruvltra_generate_params* given,
                                        ruvltra_stream** stream) {
  return guarded([&]() -> Result<void> {
    RETURN_IF_ERROR(need(model, "model"));
    RETURN_IF_ERROR(need(stream, "stream"));
    ASSIGN_OR_RETURN(auto chat, messages_of(messages, n_messages));
    ASSIGN_OR_RETURN(const GenerateParams params, params_of(model->model, given));
    return open_stream(model->model, std::move(chat), params, stream);
  });
}

ruvltra_status ruvltra_stream_next(ruvltra_stream* stream, const char** text) {
  return guarded([&]() -> Result<void> {
    RETURN_IF_ERROR(need(stream, "stream"));
    RETURN_IF_ERROR(need(text, "text"));
    *text = nullptr;
    auto event = stream->stream.next();
    if (!event) return {};
    if (event->generation != nullptr && event->generation->error)
      return tl::unexpected<Error>(*event->generation->error);
    stream->text = std::move(event->text);
    *text = stream->text.c_str();
    return {};
  });
}

ruvltra_status ruvltra_stream_wait(ruvltra_stream* stream, ruvltra_generation** generation) {
  return guarded([&]() -> Result<void> {
    RETURN_IF_ERROR(need(stream, "stream"));
    RETURN_IF_ERROR(need(generation, "generation"));
    Generation made = std::move(stream->stream.wait().front());
    if (made.error) return tl::unexpected<Error>(std::move(*made.error));
    *generation = new ruvltra_generation{std::move(made)};
    return {};
  });
}

void ruvltra_stream_cancel(ruvltra_stream* stream) { stream->stream.cancel(); }
void ruvltra_stream_free(ruvltra_stream* stream) { delete stream; }

size_t ruvltra_embedding_size(const ruvltra_model* model) {
  return static_cast<size_t>(model->model.config().d_model);
}

ruvltra_status ruvltra_embed(ruvltra_model* model, const char* text, int32_t layer, float* values) {
  return guarded([&]() -> Result<void> {
    RETURN_IF_ERROR(need(model, "model"));
    RETURN_IF_ERROR(need(text, "text"));
    RETURN_IF_ERROR(need(values, "values"));
    ASSIGN_OR_RETURN(const auto pooled, model->model.embed(text, layer));
    std::copy(pooled.begin(), pooled.end(), values);
    return {};
  });
}
