// Opening and loading the model a verb was asked for.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "api/ready_weights.h"
#include "base/threads.h"
#include "console.h"
#include "gguf/reader.h"
#include "model/config.h"
#include "options.h"
#include "ruvltra/model.h"
#include "text/tokenizer.h"

namespace ruvltra {

// A model behind the engine that answers requests.
struct ServedModel {
  MediumModel model;
  std::string label;  // file name without folder
  double load_seconds = 0;
};

// For one request at a time, whose reader may be as slow as it likes. The context is what --ctx asks for;
// left to us it is resolve_context(), or what --kv-mem holds if that is less. Errors: option.ctx,
// option.kv_mem, and those of MediumModel::load. A progress line goes to stderr, if wanted.
// `adjust`, if given, has the last word on the configuration.
using AdjustConfig = std::function<Result<void>(MediumConfig& config)>;
Result<ServedModel> load_served(const ModelOptions& options, const SpeculationOptions& speculation,
                                const AdjustConfig& adjust = {});

// What the options ask of a library's model: kernels, threads, number type of the cache and memory limit; and
// how to load it. Errors: config.kv_type, option.size.
Result<MediumConfig> config_of(const ModelOptions& options);
LoadOptions load_options(const ModelOptions& options, ProgressBar& bar);

// Weights ready to run, for work that is not answering requests.
struct LoadedWeights : ReadyWeights {
  GgufFile file;
  size_t n_context = 0;  // what --ctx asked for, at most what the file says
  KvType kv_type = KvType::kF16;
  double load_seconds = 0;

  std::string label() const;  // file name without folder
};

// With what turns text into tokens.
struct LoadedModel : LoadedWeights {
  Tokenizer tokenizer;
};

// Refuse before reading weights when the memory they, the KV cache of n_context and a step's scratch need is
// not there. Warnings of the file go to stderr; so does a progress line, if wanted.
Result<std::unique_ptr<LoadedModel>> load_model(const ModelOptions& options,
                                                ModelRole role = ModelRole::kMain);
// The same without a tokenizer, for work on token ids.
Result<std::unique_ptr<LoadedWeights>> load_weights(const ModelOptions& options);

// The context a run gets: `asked`, or min(8192, the file's) for 0. More than the file's is a usage error.
Result<size_t> resolve_context(int asked, const ModelShape& shape, const std::string& source);

// "general.name" of a model made by `synth` says so; every tool that prints the file repeats it.
bool has_random_weights(std::string_view name);
bool has_random_weights(const Metadata& metadata);

// "Q4_K_M", "Q8_0", "F16", ... from general.file_type, or the type most weights have.
std::string quantisation_name(const GgufFile& file);

// The file's SHA-256, or weights.not_finite if a scale or value is not finite. Progress counts both readings.
Result<std::string> verify_file(const GgufFile& file, const Progress& progress);

// What --pin asks of a thread pool.
ThreadPool::Pinning pinning(const ModelOptions& options);

// Rows of one prefill step.
inline constexpr size_t kPrefillRows = 512;

}  // namespace ruvltra
