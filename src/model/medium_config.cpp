#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "ruvltra/config.h"

namespace ruvltra {
namespace {

constexpr int kMaxContext = 1 << 20;
constexpr size_t kMaxHooks = 4;

Result<void> check_int(std::string_view id, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return fail(ErrorKind::kUsage, id, "{}: expected {}..{}, found {}", id.substr(id.find('.') + 1), low, high,
              value);
}

// NaN is outside every range.
Result<void> check_real(std::string_view id, double value, double low, double high) {
  if (value >= low && value <= high) return {};
  return fail(ErrorKind::kUsage, id, "{}: expected {}..{}, found {}", id.substr(id.find('.') + 1), low, high,
              value);
}

Result<void> check_positive(std::string_view id, double value, double high) {
  if (value > 0 && value <= high) return {};
  return fail(ErrorKind::kUsage, id, "{}: expected more than 0 and at most {}, found {}",
              id.substr(id.find('.') + 1), high, value);
}

Result<void> check_shape(const MediumConfig& c) {
  RETURN_IF_ERROR(check_int("config.n_layers", c.n_layers, 1, 512));
  RETURN_IF_ERROR(check_int("config.d_model", c.d_model, 32, 32768));
  RETURN_IF_ERROR(check_int("config.n_heads", c.n_heads, 1, 256));
  RETURN_IF_ERROR(check_int("config.n_kv_heads", c.n_kv_heads, 1, c.n_heads));
  if (c.n_heads % c.n_kv_heads != 0) {
    return fail(ErrorKind::kUsage, "config.n_kv_heads",
                "n_kv_heads: expected a divisor of n_heads {}, found {}", c.n_heads, c.n_kv_heads);
  }
  RETURN_IF_ERROR(check_int("config.d_head", c.d_head, 2, 512));
  if (c.d_head % 2 != 0)
    return fail(ErrorKind::kUsage, "config.d_head", "d_head: expected an even number, found {}", c.d_head);
  RETURN_IF_ERROR(check_int("config.d_ff", c.d_ff, 1, 262144));
  RETURN_IF_ERROR(check_int("config.vocab_size", c.vocab_size, 1, 1 << 20));
  RETURN_IF_ERROR(check_int("config.context_length", c.context_length, 1, kMaxContext));
  return check_positive("config.rope_theta", c.rope_theta, 1e12);
}

Result<void> check_cache(const MediumConfig& c) {
  RETURN_IF_ERROR(check_int("config.paged_config.page_size", c.paged_config.page_size, 64, 64));
  RETURN_IF_ERROR(
      check_int("config.paged_config.max_pages_per_sequence",
                static_cast<int64_t>(std::min<size_t>(c.paged_config.max_pages_per_sequence, INT32_MAX)), 1,
                kMaxContext / 64));
  if (c.draft_model_path && !c.use_speculative_decoding) {
    return fail(ErrorKind::kUsage, "config.draft_model_path",
                "draft_model_path: expected use_speculative_decoding beside it");
  }
  if (c.use_speculative_decoding && !c.draft_model_path &&
      c.speculative_config.source == DraftSource::kModel) {
    return fail(ErrorKind::kUsage, "config.draft_model_path",
                "draft_model_path: expected a draft model for speculative_config.source, found none");
  }
  if (c.draft_model_path && c.speculative_config.source == DraftSource::kLookup) {
    return fail(ErrorKind::kUsage, "config.draft_model_path",
                "draft_model_path: expected none where proposals come from earlier text alone");
  }
  RETURN_IF_ERROR(check_int("config.speculative_config.lookahead", c.speculative_config.lookahead, 1, 8));
  RETURN_IF_ERROR(check_real("config.speculative_config.acceptance_threshold",
                             c.speculative_config.acceptance_threshold, 0, 1));
  return check_real("config.speculative_config.draft_temperature", c.speculative_config.draft_temperature, 0,
                    2);
}

Result<void> check_engine(const EngineConfig& e) {
  RETURN_IF_ERROR(check_int("config.engine.parallel", e.parallel, 1, 64));
  RETURN_IF_ERROR(check_int("config.engine.queue", e.queue, 0, 65536));
  RETURN_IF_ERROR(check_int("config.engine.step_rows", e.step_rows, e.parallel + 8, 4096));
  RETURN_IF_ERROR(check_real("config.engine.max_step_ms", e.max_step_ms, 0, 60000));
  RETURN_IF_ERROR(check_int("config.engine.stream_tokens", e.stream_tokens, 1, 65536));
  return check_real("config.engine.slow_reader_seconds", e.slow_reader_seconds, 0, 86400);
}

Result<void> check_learning(const MediumConfig& c) {
  const SonaHooks& hooks = c.sona_hooks;
  RETURN_IF_ERROR(effective_hook_layers(hooks, c.n_layers));
  RETURN_IF_ERROR(check_int("config.sona_hooks.hnsw_m", hooks.hnsw_m, 4, 64));
  RETURN_IF_ERROR(
      check_int("config.sona_hooks.hnsw_ef_construction", hooks.hnsw_ef_construction, hooks.hnsw_m, 2000));
  RETURN_IF_ERROR(check_int("config.sona_hooks.hnsw_ef_search", hooks.hnsw_ef_search, 1, 1024));
  const SonaConfig& sona = c.sona_config;
  RETURN_IF_ERROR(check_int("config.sona_config.micro_lora_rank", sona.micro_lora_rank, 1, 16));
  RETURN_IF_ERROR(check_int("config.sona_config.pattern_capacity",
                            static_cast<int64_t>(std::min<size_t>(sona.pattern_capacity, INT32_MAX)), 1,
                            10'000'000));
  RETURN_IF_ERROR(check_real("config.sona_config.quality_threshold", sona.quality_threshold, 0, 1));
  RETURN_IF_ERROR(check_real("config.sona_config.ewc_lambda", sona.ewc_lambda, 0, 1e6));
  RETURN_IF_ERROR(check_int("config.sona_config.ring_capacity",
                            static_cast<int64_t>(std::min<size_t>(sona.ring_capacity, INT32_MAX)), 16,
                            1'000'000));
  RETURN_IF_ERROR(check_int("config.sona_config.record_mb",
                            static_cast<int64_t>(std::min<size_t>(sona.record_mb, INT32_MAX)), 1, 4096));
  RETURN_IF_ERROR(check_int("config.sona_config.grad_top_k", sona.grad_top_k, std::min(32, c.vocab_size),
                            std::max(c.vocab_size, 256)));
  RETURN_IF_ERROR(check_int("config.sona_config.keep_generations", sona.keep_generations, 2, 1024));
  RETURN_IF_ERROR(check_positive("config.sona_config.gates.max_canary_rise", sona.gates.max_canary_rise, 1));
  RETURN_IF_ERROR(check_positive("config.sona_config.gates.max_drift", sona.gates.max_drift, 10));
  return check_positive("config.sona_config.gates.max_delta_ratio", sona.gates.max_delta_ratio, 1);
}

}  // namespace

std::string_view variant_name(Variant variant) {
  switch (variant) {
    case Variant::kCoder:
      return "coder";
    case Variant::kAgent:
      return "agent";
    case Variant::kBase:
      break;
  }
  return "base";
}

Result<Variant> parse_variant(std::string_view name) {
  for (const Variant variant : {Variant::kBase, Variant::kCoder, Variant::kAgent}) {
    if (name == variant_name(variant)) return variant;
  }
  return fail(ErrorKind::kUsage, "config.variant", "profile: expected base, coder or agent, found {}",
              quoted(name));
}

std::string_view kv_type_name(KvType type) {
  switch (type) {
    case KvType::kQ8_0:
      return "q8_0";
    case KvType::kF32:
      return "f32";
    case KvType::kF16:
      break;
  }
  return "f16";
}

Result<KvType> parse_kv_type(std::string_view name) {
  for (const KvType type : {KvType::kF16, KvType::kQ8_0, KvType::kF32}) {
    if (name == kv_type_name(type)) return type;
  }
  return fail(ErrorKind::kUsage, "config.kv_type", "kv-type: expected f16, q8_0 or f32, found {}",
              quoted(name));
}

MediumConfig MediumConfig::base() {
  MediumConfig config;
  config.sampling.temperature = 0.7f;
  config.sampling.top_p = 0.9f;
  return config;
}

MediumConfig MediumConfig::coder() {
  MediumConfig config;
  config.variant = Variant::kCoder;
  config.sampling.temperature = 0.2f;
  config.sampling.top_p = 0.95f;
  config.sampling.seed = 0;
  config.sona_hooks.layers = {8, 16, 24, 28};
  config.sona_config.pattern_capacity = 100'000;
  config.sona_config.quality_threshold = 0.7f;
  return config;
}

MediumConfig MediumConfig::agent() {
  MediumConfig config;
  config.variant = Variant::kAgent;
  config.sampling.temperature = 0.3f;
  config.sampling.top_p = 0.85f;
  config.sona_hooks.hnsw_m = 32;
  config.sona_hooks.hnsw_ef_construction = 400;
  config.sona_hooks.hnsw_ef_search = 100;
  config.sona_config.micro_lora_rank = 2;
  config.sona_config.learn = LearnMode::kRecord;
  config.enable_agent_routing = true;
  return config;
}

MediumConfig MediumConfig::preset(Variant variant) {
  switch (variant) {
    case Variant::kCoder:
      return coder();
    case Variant::kAgent:
      return agent();
    case Variant::kBase:
      break;
  }
  return base();
}

Result<void> validate_sampling(const SamplingParams& s) {
  RETURN_IF_ERROR(check_real("config.temperature", s.temperature, 0, 2));
  RETURN_IF_ERROR(check_positive("config.top_p", s.top_p, 1));
  RETURN_IF_ERROR(check_real("config.min_p", s.min_p, 0, 1));
  RETURN_IF_ERROR(check_int("config.top_k", s.top_k, 0, INT32_MAX));
  RETURN_IF_ERROR(check_positive("config.repeat_penalty", s.repeat_penalty, 10));
  RETURN_IF_ERROR(check_real("config.presence_penalty", s.presence_penalty, -2, 2));
  RETURN_IF_ERROR(check_real("config.frequency_penalty", s.frequency_penalty, -2, 2));
  RETURN_IF_ERROR(check_int("config.n_logprobs", s.n_logprobs, 0, 20));
  if (s.stop.size() > 16) {
    return fail(ErrorKind::kUsage, "config.stop", "stop: expected at most 16 strings, found {}",
                s.stop.size());
  }
  for (const std::string& stop : s.stop) {
    if (stop.empty() || stop.size() > 256) {
      return fail(ErrorKind::kUsage, "config.stop", "stop: expected strings of 1..256 bytes, found one of {}",
                  stop.size());
    }
  }
  if (s.logit_bias.size() > 1024) {
    return fail(ErrorKind::kUsage, "config.logit_bias", "logit_bias: expected at most 1024 tokens, found {}",
                s.logit_bias.size());
  }
  for (const auto& [token, bias] : s.logit_bias) {
    if (token < 0)
      return fail(ErrorKind::kUsage, "config.logit_bias", "logit_bias: expected a token id, found {}", token);
    RETURN_IF_ERROR(check_real("config.logit_bias", bias, -100, 100));
  }
  return {};
}

Result<void> MediumConfig::validate() const {
  RETURN_IF_ERROR(check_shape(*this));
  RETURN_IF_ERROR(validate_sampling(sampling));
  RETURN_IF_ERROR(check_cache(*this));
  RETURN_IF_ERROR(check_learning(*this));
  RETURN_IF_ERROR(check_engine(engine));
  return check_int("config.n_threads", n_threads, 0, 1024);
}

Result<std::vector<int>> effective_hook_layers(const SonaHooks& hooks, int n_layers) {
  constexpr std::string_view kId = "config.sona_hooks.layers";
  if (hooks.layers.empty() || hooks.layers.size() > kMaxHooks) {
    return fail(ErrorKind::kUsage, kId, "sona_hooks.layers: expected 1..{} layers, found {}", kMaxHooks,
                hooks.layers.size());
  }
  std::vector<int> effective;
  for (const int layer : hooks.layers) {
    const bool scaled = !hooks.explicit_layers && (n_layers < 32 || n_layers > 40);
    const int moved =
        scaled ? std::min(n_layers - 1, static_cast<int>(std::floor(layer * n_layers / 32.0 + 0.5))) : layer;
    if (moved < 0 || moved >= n_layers) {
      return fail(ErrorKind::kUsage, kId, "sona_hooks.layers: expected layers of 0..{}, found {}",
                  n_layers - 1, layer);
    }
    if (std::find(effective.begin(), effective.end(), moved) == effective.end()) {
      effective.push_back(moved);
    } else if (!scaled) {
      return fail(ErrorKind::kUsage, kId, "sona_hooks.layers: expected distinct layers, found {} twice",
                  layer);
    }
  }
  std::sort(effective.begin(), effective.end());
  return effective;
}

}  // namespace ruvltra
