#include "load.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "base/fail.h"
#include "console.h"
#include "model/kv_pool.h"
#include "model/memory.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kDefaultContext = 8192;
// A pager may keep an answer waiting for as long as the library allows.
constexpr float kSlowestReaderSeconds = 86400;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

std::string LoadedWeights::label() const { return file.path().filename().string(); }

Result<size_t> resolve_context(int asked, const ModelShape& shape, const std::string& source) {
  if (asked == 0) return std::min(kDefaultContext, shape.context_length);
  if (static_cast<size_t>(asked) > shape.context_length) {
    return fail(ErrorKind::kUsage, "option.ctx", "--ctx: expected at most {} ({}), found {}",
                shape.context_length, source, asked);
  }
  return static_cast<size_t>(asked);
}

bool has_random_weights(std::string_view name) {
  return name.find("random weights") != std::string_view::npos;
}
bool has_random_weights(const Metadata& metadata) {
  return has_random_weights(metadata.get_string("general.name").value_or(""));
}

std::string quantisation_name(const GgufFile& file) {
  const Metadata& metadata = file.metadata();
  if (const auto own = metadata.get_string("ruvltra.quant"); own && *own == "mixed") return "Mixed";
  static constexpr std::pair<uint64_t, const char*> kNames[] = {
      {0, "F32"},     {1, "F16"},     {2, "Q4_0"},    {7, "Q8_0"},    {8, "Q5_0"},  {9, "Q5_1"},
      {14, "Q4_K_S"}, {15, "Q4_K_M"}, {16, "Q5_K_S"}, {17, "Q5_K_M"}, {18, "Q6_K"}, {32, "BF16"}};
  if (const auto type = metadata.get_uint("general.file_type", 0, 1024)) {
    for (const auto& [id, name] : kNames) {
      if (id == *type) return name;
    }
  }
  std::map<TensorType, uint64_t> bytes;
  for (const TensorInfo& tensor : file.tensors()) bytes[tensor.type] += tensor.n_bytes;
  if (bytes.empty()) return "no tensors";
  const auto most = std::max_element(bytes.begin(), bytes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return std::string(format_of(most->first).name);
}

namespace {

Result<void> check_finite(const GgufFile& file, const Progress& progress) {
  constexpr uint64_t kPieceElements = uint64_t{1} << 20;  // a multiple of every block length
  std::vector<uint8_t> piece;
  uint64_t done = 0;
  for (const TensorInfo& tensor : file.tensors()) {
    const Format& format = format_of(tensor.type);
    for (uint64_t first = 0; first < tensor.n_elements; first += kPieceElements) {
      const uint64_t n = std::min(kPieceElements, tensor.n_elements - first);
      piece.resize(format.row_bytes(n));
      RETURN_IF_ERROR(file.read(tensor, format.row_bytes(first), piece));
      if (!format.is_finite(piece.data(), n)) {
        return fail("weights.not_finite",
                    "{}: {}: expected finite values, found NaN or infinity in elements {}..{}",
                    file.path().string(), tensor.name, first, first + n - 1);
      }
      done += piece.size();
      if (progress && !progress(done, file.file_bytes())) {
        return fail(ErrorKind::kCancelled, "model.cancelled", "verifying: stopped on request");
      }
    }
  }
  return {};
}

}  // namespace

ThreadPool::Pinning pinning(const ModelOptions& options) {
  return options.pin ? ThreadPool::Pinning::kOneCpuEach : ThreadPool::Pinning::kNone;
}

Result<std::string> verify_file(const GgufFile& file, const Progress& progress) {
  // Two readings, one count: the second begins at the half.
  const auto half = [&](uint64_t before) -> Progress {
    if (!progress) return {};
    return [&progress, before](uint64_t done, uint64_t total) { return progress(before + done, 2 * total); };
  };
  RETURN_IF_ERROR(check_finite(file, half(0)));
  ASSIGN_OR_RETURN(const Sha256Digest digest, file_sha256(file, half(file.file_bytes())));
  return to_hex(digest);
}

Result<MediumConfig> config_of(const ModelOptions& options) {
  MediumConfig config;
  config.isa = options.isa;
  config.n_threads = options.threads;
  ASSIGN_OR_RETURN(config.paged_config.kv_type, parse_kv_type(options.kv_type));
  if (!options.memory_limit.empty()) {
    ASSIGN_OR_RETURN(config.memory_limit_bytes, parse_size(options.memory_limit));
  }
  return config;
}

LoadOptions load_options(const ModelOptions& options, ProgressBar& bar) {
  return {.map_file = options.mmap,
          .tune = options.tune,
          .pin_threads = options.pin,
          .on_progress = bar.callback()};
}

namespace {

Result<GgufFile> open_model(const ModelOptions& options) {
  ASSIGN_OR_RETURN(const auto path, resolve_model(options.model));
  ASSIGN_OR_RETURN(GgufFile file, GgufFile::open(path, {.map = options.mmap}));
  for (const std::string& warning : file.warnings()) print_warning(warning);
  return file;
}

// Context and KV cache: both have bounds that only the file's header tells.
Result<void> fit_cache(const ModelOptions& options, const std::filesystem::path& path, MediumConfig& config) {
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(path));
  ASSIGN_OR_RETURN(const ModelShape shape, ModelShape::from_file(file));
  ASSIGN_OR_RETURN(size_t n_context, resolve_context(options.ctx, shape, path.string()));
  RETURN_IF_ERROR(KvPool::check_type(shape, config.paged_config.kv_type));
  const uint64_t page_bytes = KvPool::page_bytes(shape, config.paged_config.kv_type);
  config.engine.kv_bytes = KvPool::pages_for(n_context) * page_bytes;
  if (!options.kv_mem.empty()) {
    const uint64_t context_bytes = config.engine.kv_bytes;
    ASSIGN_OR_RETURN(config.engine.kv_bytes, parse_size(options.kv_mem));
    const uint64_t least = options.ctx == 0 ? page_bytes : context_bytes;
    if (config.engine.kv_bytes < least) {
      return fail(ErrorKind::kUsage, "option.kv_mem",
                  "--kv-mem: expected at least {} bytes for {} tokens, found {}", least,
                  options.ctx == 0 ? kPageTokens : n_context, options.kv_mem);
    }
    n_context = std::min<uint64_t>(n_context, config.engine.kv_bytes / page_bytes * kPageTokens);
  }
  config.context_length = static_cast<int>(n_context);
  config.paged_config.max_pages_per_sequence = KvPool::pages_for(n_context);
  return {};
}

// The bundled model has a draft beside it.
Result<void> apply(const SpeculationOptions& speculation, const std::string& model,
                   const std::filesystem::path& path, MediumConfig& config) {
  const std::string mode = !speculation.mode.empty()   ? speculation.mode
                           : speculation.draft.empty() ? "off"
                                                       : "auto";
  SpeculativeConfig& spec = config.speculative_config;
  config.use_speculative_decoding = mode != "off";
  if (mode == "ngram") spec.source = DraftSource::kLookup;
  if (mode == "draft") spec.source = DraftSource::kModel;
  if (!speculation.draft.empty()) {
    config.draft_model_path = speculation.draft;
  } else if (model == "demo" && (mode == "draft" || mode == "auto")) {
    config.draft_model_path = path.parent_path() / kDemoDraft;
  }
  spec.adaptive = !speculation.lookahead;
  if (speculation.lookahead) spec.lookahead = *speculation.lookahead;
  spec.acceptance_threshold = static_cast<float>(speculation.stop);
  return config.validate();
}

Result<LoadedWeights> load_weights_of(GgufFile file, const ModelOptions& options,
                                      ModelRole role = ModelRole::kMain) {
  const auto begin = Clock::now();
  ASSIGN_OR_RETURN(const MediumConfig config, config_of(options));
  const KvType kv_type = config.paged_config.kv_type;
  ASSIGN_OR_RETURN(const ModelShape shape, ModelShape::from_file(file));
  ASSIGN_OR_RETURN(const size_t n_context, resolve_context(options.ctx, shape, file.path().string()));
  RETURN_IF_ERROR(KvPool::check_type(shape, kv_type));
  const MemoryNeed need = memory_need(shape, file.tensors(), kv_type, n_context, kPrefillRows);
  ProgressBar bar("loading", ProgressBar::Unit::kBytes, !options.no_progress);
  ASSIGN_OR_RETURN(ReadyWeights ready,
                   ReadyWeights::load(file, need, config, load_options(options, bar), role));
  return LoadedWeights{std::move(ready), std::move(file), n_context, kv_type, seconds_since(begin)};
}

}  // namespace

Result<ServedModel> load_served(const ModelOptions& options, const SpeculationOptions& speculation,
                                const AdjustConfig& adjust) {
  const auto begin = Clock::now();
  ASSIGN_OR_RETURN(const auto path, resolve_model(options.model));
  ASSIGN_OR_RETURN(MediumConfig config, config_of(options));
  RETURN_IF_ERROR(apply(speculation, options.model, path, config));
  RETURN_IF_ERROR(fit_cache(options, path, config));
  config.engine.parallel = 1;
  config.engine.slow_reader_seconds = kSlowestReaderSeconds;
  if (adjust) RETURN_IF_ERROR(adjust(config));
  ProgressBar bar("loading", ProgressBar::Unit::kBytes, !options.no_progress);
  ASSIGN_OR_RETURN(MediumModel model, MediumModel::load(path, config, load_options(options, bar)));
  return ServedModel{std::move(model), path.filename().string(), seconds_since(begin)};
}

Result<std::unique_ptr<LoadedModel>> load_model(const ModelOptions& options, ModelRole role) {
  ASSIGN_OR_RETURN(GgufFile file, open_model(options));
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::load(file.metadata()));
  ASSIGN_OR_RETURN(LoadedWeights loaded, load_weights_of(std::move(file), options, role));
  return std::unique_ptr<LoadedModel>(new LoadedModel{std::move(loaded), std::move(tokenizer)});
}

Result<std::unique_ptr<LoadedWeights>> load_weights(const ModelOptions& options) {
  ASSIGN_OR_RETURN(GgufFile file, open_model(options));
  ASSIGN_OR_RETURN(LoadedWeights loaded, load_weights_of(std::move(file), options));
  return std::make_unique<LoadedWeights>(std::move(loaded));
}

}  // namespace ruvltra
