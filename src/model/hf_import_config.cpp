#include "model/hf_import_config.h"

#include "base/fail.h"
#include "base/file.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxJsonBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxJsonValues = 2'000'000;  // a Qwen2.5 vocabulary with pairs of merges has 0.6 M

// Typed access to config.json.
class ConfigReader {
 public:
  ConfigReader(const Json& config, std::string source) : config_(config), source_(std::move(source)) {}

  Result<size_t> count(const char* key, uint64_t low, uint64_t high) const {
    const Json* value = find_member(config_, key);
    if (value != nullptr && value->is_number_unsigned()) {
      const uint64_t n = value->get<uint64_t>();
      if (n >= low && n <= high) return n;
    }
    return wrong(key, fmt::format("a whole number in {}..{}", low, high), value);
  }
  Result<size_t> count_or(const char* key, uint64_t low, uint64_t high, size_t other) const {
    const Json* value = find_member(config_, key);
    if (value == nullptr || value->is_null()) return other;
    return count(key, low, high);
  }
  Result<double> real_or(const char* key, double low, double high, double other) const {
    const Json* value = find_member(config_, key);
    if (value == nullptr) return other;
    if (value->is_number()) {
      const double number = value->get<double>();
      if (number >= low && number <= high) return number;
    }
    return wrong(key, fmt::format("a number in {}..{}", low, high), value);
  }
  Result<std::optional<bool>> flag(const char* key) const {
    const Json* value = find_member(config_, key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) return wrong(key, "true or false", value);
    return value->get<bool>();
  }
  // A token id, or the first of a list of them.
  Result<std::optional<TokenId>> token(const char* key) const {
    const Json* value = find_member(config_, key);
    if (value == nullptr || value->is_null()) return std::nullopt;
    const Json* id = value->is_array() && !value->empty() ? &value->front() : value;
    if (!id->is_number_unsigned() || id->get<uint64_t>() > INT32_MAX) return wrong(key, "a token id", value);
    return static_cast<TokenId>(id->get<uint64_t>());
  }
  Result<void> must_be(const char* key, const Json& expected) const {
    const Json* value = find_member(config_, key);
    if (value == nullptr || *value == expected) return {};
    return fail(ErrorKind::kUnsupported, "hf.unsupported", "{}: {}: expected {}, found {}", source_, key,
                to_json(expected), ruvltra::quoted(to_json(*value)));
  }

 private:
  tl::unexpected<Error> wrong(const char* key, std::string_view expected, const Json* value) const {
    return fail("hf.config", "{}: {}: expected {}, found {}", source_, key, expected,
                value == nullptr ? "nothing" : ruvltra::quoted(to_json(*value)));
  }

  const Json& config_;
  const std::string source_;
};

}  // namespace

const Json* find_member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

Result<Json> read_hf_json(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxJsonBytes));
  JsonLimits limits;
  limits.max_bytes = kMaxJsonBytes;
  limits.max_values = kMaxJsonValues;
  ASSIGN_OR_RETURN(Json json, parse_json(text, path.string(), limits));
  if (!json.is_object())
    return fail("hf.config", "{}: expected an object, found {}", path.string(), json.type_name());
  return json;
}

Result<HfConfig> read_hf_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  ASSIGN_OR_RETURN(const Json json, read_hf_json(path));
  const ConfigReader config(json, path.string());
  if (find_member(json, "model_type") == nullptr) {
    return fail("hf.config", "{}: model_type: expected \"qwen2\", found nothing", path.string());
  }
  RETURN_IF_ERROR(config.must_be("model_type", "qwen2"));
  RETURN_IF_ERROR(config.must_be("hidden_act", "silu"));
  RETURN_IF_ERROR(config.must_be("use_sliding_window", false));
  RETURN_IF_ERROR(config.must_be("rope_scaling", nullptr));

  HfConfig out;
  ModelShape& s = out.shape;
  ASSIGN_OR_RETURN(s.n_layers, config.count("num_hidden_layers", 1, 1024));
  ASSIGN_OR_RETURN(s.d_model, config.count("hidden_size", 1, 65536));
  ASSIGN_OR_RETURN(s.n_heads, config.count("num_attention_heads", 1, 1024));
  ASSIGN_OR_RETURN(s.n_kv_heads, config.count_or("num_key_value_heads", 1, 1024, s.n_heads));
  ASSIGN_OR_RETURN(s.d_head, config.count_or("head_dim", 1, 1024, s.d_model / s.n_heads));
  ASSIGN_OR_RETURN(s.d_ff, config.count("intermediate_size", 1, 1 << 20));
  ASSIGN_OR_RETURN(s.n_vocab, config.count("vocab_size", 1, 1 << 20));
  ASSIGN_OR_RETURN(s.context_length, config.count_or("max_position_embeddings", 1, 1 << 24, 32768));
  ASSIGN_OR_RETURN(const double epsilon, config.real_or("rms_norm_eps", 0, 1, 1e-6));
  s.rms_eps = static_cast<float>(epsilon);
  ASSIGN_OR_RETURN(s.rope_theta, config.real_or("rope_theta", 1e-30, 1e12, 10000));
  ASSIGN_OR_RETURN(out.tied, config.flag("tie_word_embeddings"));
  ASSIGN_OR_RETURN(out.special_ids.bos, config.token("bos_token_id"));
  ASSIGN_OR_RETURN(out.special_ids.eos, config.token("eos_token_id"));
  ASSIGN_OR_RETURN(out.special_ids.pad, config.token("pad_token_id"));
  return out;
}

}  // namespace ruvltra
