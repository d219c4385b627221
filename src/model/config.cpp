#include "model/config.h"

#include <cmath>
#include <map>

#include "base/fail.h"

namespace ruvltra {
namespace {

// Reads keys "qwen2.<name>" and gives each failure the identity of its key.
class ShapeReader {
 public:
  explicit ShapeReader(const Metadata& metadata) : metadata_(metadata) {}

  bool has(std::string_view name) const { return metadata_.contains(key(name)); }

  Result<size_t> get_uint(std::string_view name, std::string_view id, uint64_t low, uint64_t high) const {
    return renamed(metadata_.get_uint(key(name), low, high), id);
  }
  Result<size_t> get_uint_or(std::string_view name, std::string_view id, uint64_t low, uint64_t high,
                             size_t other) const {
    if (!has(name)) return other;
    return get_uint(name, id, low, high);
  }

  // A number in [low, high].
  Result<double> get_real(std::string_view name, std::string_view id, double low, double high) const {
    ASSIGN_OR_RETURN(const double value, renamed(metadata_.get_float(key(name)), id));
    if (value >= low && value <= high) return value;
    return fail(id, "{}: {}: expected {}..{}, found {}", metadata_.source(), key(name), low, high, value);
  }

  const std::string& source() const { return metadata_.source(); }
  static std::string key(std::string_view name) { return "qwen2." + std::string(name); }

  template <class T>
  static Result<T> renamed(Result<T> result, std::string_view id) {
    if (result) return result;
    Error error = std::move(result).error();
    error.id = id;
    return tl::unexpected<Error>(std::move(error));
  }

 private:
  const Metadata& metadata_;
};

constexpr double kSmallestTheta = 1e-30;

Result<void> read_attention(const ShapeReader& reader, ModelShape& shape) {
  ASSIGN_OR_RETURN(shape.n_heads, reader.get_uint("attention.head_count", "model.head_count", 1, 256));
  ASSIGN_OR_RETURN(shape.n_kv_heads, reader.get_uint_or("attention.head_count_kv", "model.head_count_kv", 1,
                                                        256, shape.n_heads));
  if (shape.n_kv_heads > shape.n_heads || shape.n_heads % shape.n_kv_heads != 0) {
    return fail("model.head_count_kv",
                "{}: qwen2.attention.head_count_kv: expected a divisor of head_count {}, found {}",
                reader.source(), shape.n_heads, shape.n_kv_heads);
  }
  if (!reader.has("attention.key_length") && shape.d_model % shape.n_heads != 0) {
    return fail(
        "model.embedding_length",
        "{}: qwen2.embedding_length: expected a multiple of head_count {} (or a key_length), found {}",
        reader.source(), shape.n_heads, shape.d_model);
  }
  ASSIGN_OR_RETURN(shape.d_head, reader.get_uint_or("attention.key_length", "model.key_length", 2, 512,
                                                    shape.d_model / shape.n_heads));
  if (shape.d_head < 2 || shape.d_head > 512 || shape.d_head % 2 != 0) {
    return fail("model.key_length", "{}: head size: expected an even number in 2..512, found {}",
                reader.source(), shape.d_head);
  }
  ASSIGN_OR_RETURN(const size_t value_length,
                   reader.get_uint_or("attention.value_length", "model.value_length", 2, 512, shape.d_head));
  if (value_length != shape.d_head) {
    return fail("model.value_length",
                "{}: qwen2.attention.value_length: expected the key length {}, found {}", reader.source(),
                shape.d_head, value_length);
  }
  ASSIGN_OR_RETURN(const size_t window, reader.get_uint_or("attention.sliding_window", "model.sliding_window",
                                                           0, 1 << 30, shape.context_length));
  if (window != 0 && window < shape.context_length) {
    return fail(ErrorKind::kUnsupported, "model.sliding_window",
                "{}: qwen2.attention.sliding_window: expected none below the context {}, found {}",
                reader.source(), shape.context_length, window);
  }
  return {};
}

Result<void> read_rope(const Metadata& metadata, const ShapeReader& reader, ModelShape& shape) {
  shape.rope_theta = 10000;
  if (reader.has("rope.freq_base")) {
    ASSIGN_OR_RETURN(shape.rope_theta,
                     reader.get_real("rope.freq_base", "model.rope_freq_base", kSmallestTheta, 1e12));
  }
  ASSIGN_OR_RETURN(
      const size_t rope_dim,
      reader.get_uint_or("rope.dimension_count", "model.rope_dimension_count", 0, 1 << 20, shape.d_head));
  if (rope_dim != shape.d_head) {
    return fail("model.rope_dimension_count",
                "{}: qwen2.rope.dimension_count: expected the head size {}, found {}", reader.source(),
                shape.d_head, rope_dim);
  }
  if (reader.has("rope.scaling.type")) {
    ASSIGN_OR_RETURN(
        const std::string_view type,
        ShapeReader::renamed(metadata.get_string("qwen2.rope.scaling.type"), "model.rope_scaling"));
    if (type != "none") {
      return fail(ErrorKind::kUnsupported, "model.rope_scaling",
                  "{}: qwen2.rope.scaling.type: expected \"none\", found {}", reader.source(), quoted(type));
    }
  }
  for (const std::string_view name : {"rope.scaling.factor", "rope.scale_linear"}) {
    if (!reader.has(name)) continue;
    ASSIGN_OR_RETURN(const double factor, reader.get_real(name, "model.rope_scaling_factor", 1e-6, 1e6));
    if (factor != 1) {
      return fail(ErrorKind::kUnsupported, "model.rope_scaling_factor", "{}: {}: expected 1, found {}",
                  reader.source(), ShapeReader::key(name), factor);
    }
  }
  return {};
}

const TensorInfo* find_tensor(std::span<const TensorInfo> tensors, std::string_view name) {
  for (const TensorInfo& tensor : tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// The embedding has one row per token; where the file says the count elsewhere, too, all must agree.
Result<void> read_vocabulary(const Metadata& metadata, const ShapeReader& reader,
                             std::span<const TensorInfo> tensors, ModelShape& shape) {
  const TensorInfo* embedding = find_tensor(tensors, "token_embd.weight");
  if (embedding == nullptr) {
    return fail("model.tensor_missing", "{}: tensor token_embd.weight: expected, not found",
                metadata.source());
  }
  const uint64_t n_rows = embedding->dims.size() == 2 ? embedding->dims[1] : 0;
  if (n_rows < 1 || n_rows > uint64_t{1} << 20) {
    return fail("model.tensor_shape",
                "{}: tensor token_embd.weight: expected 2 dimensions and 1..{} rows, found [{}]",
                metadata.source(), 1 << 20, fmt::join(embedding->dims, ", "));
  }
  shape.n_vocab = n_rows;
  if (metadata.contains("tokenizer.ggml.tokens")) {
    ASSIGN_OR_RETURN(const auto tokens, metadata.get_strings("tokenizer.ggml.tokens"));
    if (tokens.size() != n_rows) {
      return fail("model.vocab_size", "{}: token_embd.weight: expected {} rows, one per token, found {}",
                  metadata.source(), tokens.size(), n_rows);
    }
  }
  ASSIGN_OR_RETURN(const size_t declared,
                   reader.get_uint_or("vocab_size", "model.vocab_size", 1, 1 << 20, n_rows));
  if (declared != n_rows) {
    return fail("model.vocab_size",
                "{}: qwen2.vocab_size: expected {}, the rows of token_embd.weight, found {}",
                metadata.source(), n_rows, declared);
  }
  shape.tied = find_tensor(tensors, "output.weight") == nullptr;
  ASSIGN_OR_RETURN(const auto kept, read_draft_vocabulary(metadata, shape.n_vocab));
  shape.n_head_rows = kept.size();
  if (shape.is_trimmed() && shape.tied) {
    return fail("model.tensor_missing",
                "{}: tensor output.weight: expected for the {} tokens of {}, not found", metadata.source(),
                kept.size(), kDraftVocabularyKey);
  }
  return {};
}

}  // namespace

Result<std::vector<int32_t>> read_draft_vocabulary(const Metadata& metadata, size_t n_vocab) {
  constexpr std::string_view kId = "model.draft_vocab";
  if (!metadata.contains(kDraftVocabularyKey)) return std::vector<int32_t>();
  ASSIGN_OR_RETURN(const auto ids, ShapeReader::renamed(metadata.get_i32s(kDraftVocabularyKey), kId));
  if (ids.empty() || ids.size() > n_vocab) {
    return fail(kId, "{}: {}: expected 1..{} tokens, found {}", metadata.source(), kDraftVocabularyKey,
                n_vocab, ids.size());
  }
  for (size_t row = 0; row < ids.size(); ++row) {
    const int64_t lowest = row == 0 ? 0 : int64_t{ids[row - 1]} + 1;
    if (ids[row] >= lowest && static_cast<size_t>(ids[row]) < n_vocab) continue;
    return fail(kId, "{}: {}[{}]: expected a token id of {}..{}, in ascending order, found {}",
                metadata.source(), kDraftVocabularyKey, row, lowest, n_vocab - 1, ids[row]);
  }
  return std::vector<int32_t>(ids.begin(), ids.end());
}

Result<ModelShape> ModelShape::from_metadata(const Metadata& metadata, std::span<const TensorInfo> tensors) {
  ASSIGN_OR_RETURN(const std::string_view architecture,
                   ShapeReader::renamed(metadata.get_string("general.architecture"), "model.architecture"));
  if (architecture != "qwen2") {
    return fail(ErrorKind::kUnsupported, "model.architecture",
                "{}: general.architecture: expected \"qwen2\", found {}", metadata.source(),
                quoted(architecture));
  }
  const ShapeReader reader(metadata);
  ModelShape shape;
  ASSIGN_OR_RETURN(shape.n_layers, reader.get_uint("block_count", "model.block_count", 1, 512));
  ASSIGN_OR_RETURN(shape.d_model, reader.get_uint("embedding_length", "model.embedding_length", 32, 32768));
  ASSIGN_OR_RETURN(shape.d_ff,
                   reader.get_uint("feed_forward_length", "model.feed_forward_length", 1, 262144));
  ASSIGN_OR_RETURN(shape.context_length,
                   reader.get_uint("context_length", "model.context_length", 1, 1 << 20));
  RETURN_IF_ERROR(read_attention(reader, shape));
  ASSIGN_OR_RETURN(const double eps,
                   reader.get_real("attention.layer_norm_rms_epsilon", "model.rms_epsilon", 1e-12, 1e-2));
  shape.rms_eps = static_cast<float>(eps);
  RETURN_IF_ERROR(read_rope(metadata, reader, shape));
  RETURN_IF_ERROR(read_vocabulary(metadata, reader, tensors, shape));
  return shape;
}

void ModelShape::describe(MediumConfig& config) const {
  config.n_layers = static_cast<int>(n_layers);
  config.d_model = static_cast<int>(d_model);
  config.n_heads = static_cast<int>(n_heads);
  config.n_kv_heads = static_cast<int>(n_kv_heads);
  config.d_head = static_cast<int>(d_head);
  config.d_ff = static_cast<int>(d_ff);
  config.vocab_size = static_cast<int>(n_vocab);
  config.context_length = static_cast<int>(context_length);
  config.rope_theta = static_cast<float>(rope_theta);
}

void ModelShape::describe(Metadata& metadata) const {
  const auto set = [&](std::string_view name, size_t n) {
    metadata.set(ShapeReader::key(name), static_cast<uint32_t>(n));
  };
  set("block_count", n_layers);
  set("context_length", context_length);
  set("embedding_length", d_model);
  set("feed_forward_length", d_ff);
  set("attention.head_count", n_heads);
  set("attention.head_count_kv", n_kv_heads);
  if (n_heads * d_head != d_model) {
    set("attention.key_length", d_head);
    set("attention.value_length", d_head);
  }
  metadata.set("qwen2.rope.freq_base", static_cast<float>(rope_theta));
  metadata.set("qwen2.attention.layer_norm_rms_epsilon", rms_eps);
}

ModelShape ModelShape::from_config(const MediumConfig& config, bool tied) {
  ModelShape shape;
  shape.n_layers = static_cast<size_t>(config.n_layers);
  shape.d_model = static_cast<size_t>(config.d_model);
  shape.n_heads = static_cast<size_t>(config.n_heads);
  shape.n_kv_heads = static_cast<size_t>(config.n_kv_heads);
  shape.d_head = static_cast<size_t>(config.d_head);
  shape.d_ff = static_cast<size_t>(config.d_ff);
  shape.n_vocab = static_cast<size_t>(config.vocab_size);
  shape.context_length = static_cast<size_t>(config.context_length);
  shape.rope_theta = static_cast<double>(config.rope_theta);
  shape.tied = tied;
  return shape;
}

uint64_t ModelShape::n_parameters() const {
  uint64_t n = 0;
  for (const TensorSpec& tensor : expected_tensors(*this)) {
    uint64_t n_elements = 1;
    for (const uint64_t dim : tensor.dims) n_elements *= dim;
    n += n_elements;
  }
  return n;
}

std::vector<TensorSpec> expected_tensors(const ModelShape& s) {
  std::vector<TensorSpec> tensors;
  tensors.push_back({"token_embd.weight", {s.d_model, s.n_vocab}});
  for (size_t layer = 0; layer < s.n_layers; ++layer) {
    const auto add = [&](std::string_view name, std::vector<uint64_t> dims) {
      tensors.push_back({fmt::format("blk.{}.{}", layer, name), std::move(dims)});
    };
    add("attn_norm.weight", {s.d_model});
    add("attn_q.weight", {s.d_model, s.d_q()});
    add("attn_q.bias", {s.d_q()});
    add("attn_k.weight", {s.d_model, s.d_kv()});
    add("attn_k.bias", {s.d_kv()});
    add("attn_v.weight", {s.d_model, s.d_kv()});
    add("attn_v.bias", {s.d_kv()});
    add("attn_output.weight", {s.d_q(), s.d_model});
    add("ffn_norm.weight", {s.d_model});
    add("ffn_gate.weight", {s.d_model, s.d_ff});
    add("ffn_up.weight", {s.d_model, s.d_ff});
    add("ffn_down.weight", {s.d_ff, s.d_model});
  }
  tensors.push_back({"output_norm.weight", {s.d_model}});
  if (!s.tied) tensors.push_back({"output.weight", {s.d_model, s.n_logits()}});
  return tensors;
}

Result<void> check_tensors(const ModelShape& shape, const std::string& source,
                           std::span<const TensorInfo> tensors) {
  std::map<std::string_view, const TensorInfo*> found;
  for (const TensorInfo& tensor : tensors) found.emplace(tensor.name, &tensor);
  for (const TensorSpec& expected : expected_tensors(shape)) {
    const auto entry = found.find(expected.name);
    if (entry == found.end()) {
      const bool is_bias = expected.name.ends_with(".bias");
      return fail(is_bias ? "model.bias_missing" : "model.tensor_missing",
                  "{}: tensor {}: expected [{}], not found", source, expected.name,
                  fmt::join(expected.dims, ", "));
    }
    const TensorInfo& tensor = *entry->second;
    if (tensor.dims != expected.dims) {
      return fail("model.tensor_shape", "{}: tensor {}: expected [{}], found [{}]", source, expected.name,
                  fmt::join(expected.dims, ", "), fmt::join(tensor.dims, ", "));
    }
    if (!expected.is_matrix() && tensor.type != TensorType::kF32) {
      return fail("model.tensor_type", "{}: tensor {}: expected F32, found {}", source, expected.name,
                  format_of(tensor.type).name);
    }
    found.erase(entry);
  }
  if (!found.empty()) {
    return fail("model.tensor_extra",
                "{}: tensor {}: expected no tensor of this name in a model of {} layers", source,
                quoted(found.begin()->first), shape.n_layers);
  }
  return {};
}

}  // namespace ruvltra
