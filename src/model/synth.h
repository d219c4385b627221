// Random-weight models of true shape, for speed measurements and plumbing: no meaning in what they say.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "gguf/writer.h"
#include "model/config.h"
#include "model/quantize_policy.h"

namespace ruvltra {

// The sizes that `medium`, `small` and `tiny` stand for. Error: synth.arch (usage).
Result<ModelShape> architecture_shape(std::string_view name);

struct SynthOptions {
  std::string arch = "tiny";  // medium, small, tiny
  QuantScheme scheme;
  uint64_t seed = 1;
  std::optional<size_t> n_layers;  // instead of the architecture's
  std::optional<bool> tied;
  std::filesystem::path vocab_from;  // tokenizer of this GGUF file; empty: a synthetic one
};

// Everything but the weights.
struct SynthPlan {
  ModelShape shape;
  Metadata metadata;
  std::vector<TensorPlan> tensors;
  uint64_t seed = 0;
  uint64_t n_elements = 0;
  std::vector<std::string> warnings;
};
// Errors: synth.arch (usage); those of the GGUF reader for vocab_from.
Result<SynthPlan> plan_synth(const SynthOptions& options);

// Writes the file; returns its size. The same plan gives the same bytes on every machine, with any number of
// threads. Progress counts bytes.
Result<uint64_t> synthesize(const SynthPlan& plan, const std::filesystem::path& out, bool overwrite,
                            ThreadPool& pool, const Progress& progress);

}  // namespace ruvltra
