#include "model/synth.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/fail.h"
#include "base/num.h"
#include "gguf/reader.h"
#include "model/synth_blocks.h"
#include "model/synth_vocab.h"

namespace ruvltra {
namespace {

struct Arch {
  std::string_view name;
  ModelShape shape;
  size_t first_added;  // id of <|endoftext|>
};

std::array<Arch, 3> architectures() {
  return {{{"medium", {32, 2048, 16, 2, 128, 11008, 151936, 32768, 1e-6f, 1e6, false}, 151643},
           {"small", {24, 896, 14, 2, 64, 4864, 151936, 32768, 1e-6f, 1e6, true}, 151643},
           {"tiny", {4, 256, 4, 2, 64, 768, 1024, 2048, 1e-6f, 1e6, true}, 992}}};
}

Result<Arch> find_arch(std::string_view name) {
  const auto known = architectures();
  const auto found = std::ranges::find(known, name, &Arch::name);
  if (found != known.end()) return *found;
  return fail(ErrorKind::kUsage, "synth.arch", "--arch: expected medium, small or tiny, found {}",
              ruvltra::quoted(name));
}

void describe_model(const SynthOptions& options, const ModelShape& s, Metadata& metadata) {
  metadata.set("general.architecture", std::string("qwen2"));
  metadata.set("general.name",
               fmt::format("ruvltra-{} random weights (seed {})", options.arch, options.seed));
  metadata.set("general.description", std::string("random weights: right shape and size, no meaning"));
  metadata.set("general.quantization_version", uint32_t{2});
  metadata.set("general.file_type", options.scheme.file_type);
  metadata.set("ruvltra.random_weights", true);
  metadata.set("ruvltra.random_seed", options.seed);
  if (options.scheme.mixed) metadata.set("ruvltra.quant", std::string("mixed"));
  s.describe(metadata);
}

Result<void> copy_vocabulary(const std::filesystem::path& path, Metadata& metadata, size_t& n_vocab) {
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(path));
  ASSIGN_OR_RETURN(const auto tokens, file.metadata().get_strings("tokenizer.ggml.tokens"));
  constexpr size_t kMaxVocabulary = size_t{1} << 20;
  if (tokens.empty() || tokens.size() > kMaxVocabulary) {
    return fail("model.vocab_size", "{}: tokenizer.ggml.tokens: expected 1..{} tokens, found {}",
                path.string(), kMaxVocabulary, tokens.size());
  }
  n_vocab = tokens.size();
  for (const auto& [key, value] : file.metadata().entries()) {
    if (key.starts_with("tokenizer.")) metadata.set(key, value);
  }
  return {};
}

// Rows of length K get weights of deviation 1 / sqrt(K): each product keeps the size of its normalised input,
// and the residual stream grows only with the square root of the depth. Both square root and division are
// exact IEEE operations.
float deviation_of(const TensorPlan& tensor) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(tensor.dims[0])));
}

// Norm weights between 3/4 and 5/4 (3 times that before the output matrix, for logits that prefer some
// tokens), biases between -1/8 and 1/8.
std::vector<uint8_t> random_vector(const TensorPlan& tensor, uint64_t seed, uint32_t index) {
  const bool is_bias = tensor.name.ends_with(".bias");
  const float centre = is_bias ? 0.0f : tensor.name == "output_norm.weight" ? 3.0f : 1.0f;
  const float reach = is_bias ? 0.125f : 0.25f * centre;
  std::vector<uint8_t> out(4 * tensor.dims[0]);
  for (size_t i = 0; i < tensor.dims[0]; ++i) {
    const auto words = philox4x32({static_cast<uint32_t>(i), 0, index, 1},
                                  {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
    const float unit = (static_cast<float>(words[0] >> 16) - 32767.5f) * 0x1p-15f;
    const float value = centre + reach * unit;
    std::memcpy(out.data() + 4 * i, &value, 4);
  }
  return out;
}

}  // namespace

Result<ModelShape> architecture_shape(std::string_view name) {
  ASSIGN_OR_RETURN(const Arch arch, find_arch(name));
  return arch.shape;
}

Result<SynthPlan> plan_synth(const SynthOptions& options) {
  ASSIGN_OR_RETURN(const Arch arch, find_arch(options.arch));
  SynthPlan plan;
  plan.seed = options.seed;
  plan.shape = arch.shape;
  plan.shape.n_layers = options.n_layers.value_or(arch.shape.n_layers);
  plan.shape.tied = options.tied.value_or(arch.shape.tied);
  describe_model(options, plan.shape, plan.metadata);
  if (options.vocab_from.empty()) {
    set_synthetic_vocabulary(plan.shape.n_vocab, arch.first_added, plan.metadata);
  } else {
    RETURN_IF_ERROR(copy_vocabulary(options.vocab_from, plan.metadata, plan.shape.n_vocab));
  }
  const PolicyInput policy{options.scheme, {}, false, plan.shape.n_layers, plan.shape.tied};
  size_t n_fallbacks = 0;
  for (const TensorSpec& spec : expected_tensors(plan.shape)) {
    const TypeChoice choice = choose_type(policy, spec.name, spec.dims);
    n_fallbacks += choice.type != choice.wished ? 1 : 0;
    plan.tensors.push_back({spec.name, choice.type, spec.dims});
    uint64_t n = 1;
    for (const uint64_t dim : spec.dims) n *= dim;
    plan.n_elements += n;
  }
  if (n_fallbacks > 0) {
    plan.warnings.push_back(fmt::format(
        "{} tensors fall back to another type: their rows are not a multiple of 256", n_fallbacks));
  }
  return plan;
}

Result<uint64_t> synthesize(const SynthPlan& plan, const std::filesystem::path& out, bool overwrite,
                            ThreadPool& pool, const Progress& progress) {
  ASSIGN_OR_RETURN(GgufWriter writer, GgufWriter::create(out, plan.metadata, plan.tensors, overwrite));
  uint64_t done = 0;
  for (size_t index = 0; index < plan.tensors.size(); ++index) {
    const TensorPlan& tensor = plan.tensors[index];
    const auto stream_index = static_cast<uint32_t>(index);
    if (tensor.dims.size() == 1) {
      const std::vector<uint8_t> bytes = random_vector(tensor, plan.seed, stream_index);
      RETURN_IF_ERROR(writer.write(index, 0, bytes));
      done += bytes.size();
      continue;
    }
    const Format& format = format_of(tensor.type);
    const BlockStream stream{plan.seed, stream_index, deviation_of(tensor)};
    const uint64_t n_bytes = format.row_bytes(tensor.dims[0]) * tensor.dims[1];
    const uint64_t piece =
        16 * format.block_bytes * std::max<uint64_t>(1, (uint64_t{1} << 20) / (16 * format.block_bytes));
    const uint64_t n_pieces = (n_bytes + piece - 1) / piece;
    const uint64_t batch = static_cast<uint64_t>(pool.n_threads()) * 16;
    for (uint64_t begin = 0; begin < n_pieces; begin += batch) {
      const uint64_t n = std::min(batch, n_pieces - begin);
      std::vector<Result<void>> results(n);
      pool.parallel_for(n, [&](size_t task, int) {
        const uint64_t at = (begin + task) * piece;
        std::vector<uint8_t> bytes(std::min(piece, n_bytes - at));
        random_blocks(stream, format, at, bytes);
        results[task] = writer.write(index, at, bytes);
      });
      for (Result<void>& result : results) RETURN_IF_ERROR(std::move(result));
      done += std::min(n_bytes, (begin + n) * piece) - begin * piece;
      if (progress && !progress(done, writer.total_bytes())) {
        return fail(ErrorKind::kCancelled, "synth.cancelled", "synth: stopped on request");
      }
    }
  }
  RETURN_IF_ERROR(writer.finish());
  return writer.total_bytes();
}

}  // namespace ruvltra
