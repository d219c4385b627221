// Settings of a RuvLTRA-Medium model: declared data and the presets of its variants (docs/model.md). A loaded
// file's metadata rules over the shape given here; the shape counts when a model is made without a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"
#include "ruvltra/types.h"

namespace ruvltra {

// What a KV cache stores: f16 clamped to +-65504, int8 with a f16 scale per 32 dimensions of a token, or f32
// (exact mode).
enum class KvType { kF16, kQ8_0, kF32 };
std::string_view kv_type_name(KvType type);  // "f16", "q8_0", "f32"
// Errors: config.kv_type (usage).
Result<KvType> parse_kv_type(std::string_view name);

struct PagedConfig {
  int page_size = 64;                   // tokens; attention folds pages of 64 and no other size
  size_t max_pages_per_sequence = 512;  // 512 pages = 32768 tokens
  KvType kv_type = KvType::kF16;
};

// Where proposals come from: earlier text that ends like the present one, the model of draft_model_path, or
// whichever of them promises more at the time.
enum class DraftSource { kAuto, kLookup, kModel };

// A draft proposes, the target's own samples decide: nothing here can change the output.
struct SpeculativeConfig {
  DraftSource source = DraftSource::kAuto;
  int lookahead = 4;                  // 1..8 drafted tokens; without `adaptive`
  float acceptance_threshold = 0.7f;  // 0..1: drafting stops below this draft probability; kAuto with
                                      // `adaptive` measures where to stop instead
  float draft_temperature = 0;        // 0..2, 0 = greedy draft
  bool adaptive = true;               // 0..8 tokens, as the measured gain says; 0 = off
};

// Layers whose residual stream the learning system observes, and the index its patterns live in.
struct SonaHooks {
  std::vector<int> layers = {8, 16, 24};  // 1..4 distinct, each < n_layers, 0-based
  bool explicit_layers = false;           // chosen by the user: never scaled to another depth
  int hnsw_m = 16;                        // 4..64
  int hnsw_ef_construction = 200;         // hnsw_m..2000
  int hnsw_ef_search = 64;                // 1..1024
};

// off: feedback is stored, nothing else. record: own answers are stored too. on: adapters learn.
enum class LearnMode { kOff, kRecord, kOn };
constexpr std::string_view learn_mode_name(LearnMode mode) {
  return mode == LearnMode::kOn ? "on" : mode == LearnMode::kRecord ? "record" : "off";
}

// What learned weights must hold before they answer anybody (docs/learning.md): on canary texts, against the
// model as it is, and of the size of the change. An operator's setting; no request can widen it.
struct SonaGates {
  float max_canary_rise = 0.005f;  // (0, 1], of the canary's NLL, relative
  float max_drift = 0.02f;         // (0, 10] nat per token, KL(model as it is || learned)
  float max_delta_ratio = 0.05f;   // (0, 1], 99.9th percentile of |delta| / |h|
};

struct SonaConfig {
  LearnMode learn = LearnMode::kOff;
  int micro_lora_rank = 4;           // 1..16
  size_t pattern_capacity = 50'000;  // 1..10,000,000
  float quality_threshold = 0.6f;    // 0..1
  float ewc_lambda = 1000;           // 0..1e6
  size_t ring_capacity = 10'000;     // 16..1,000,000 signals
  size_t record_mb = 64;             // 1..4096 MiB
  int grad_top_k = 256;              // 32..vocab_size
  int keep_generations = 16;         // 2..1024
  SonaGates gates;
  bool learn_at_low_priority = true;  // off: where nothing is served, and somebody waits for the learner
};

// How many requests share the machine, and how.
struct EngineConfig {
  int parallel = 8;                // 1..64 sequences computed together
  int queue = 256;                 // 0..65536 requests that may wait
  size_t kv_bytes = 0;             // of the KV cache, at least a page for each of `parallel`; 0 = context x
                                   // parallel, at most a quarter of the memory
  int step_rows = 512;             // parallel + 8..4096 rows computed in one step
  float max_step_ms = 0;           // 0..60000: a prompt's share of a step, while others generate, ends here;
                                   // 0 = 2.5 times a step without prompts
  bool prefix_cache = true;        // prompts find the pages that others with the same beginning have filled
  int stream_tokens = 256;         // 1..65536 tokens a reader may fall behind before its request is paused
  float slow_reader_seconds = 30;  // 0..86400: a request paused for so long is cancelled
};

// Variants differ in presets only, never in weights.
enum class Variant { kBase, kCoder, kAgent };
std::string_view variant_name(Variant variant);
// Errors: config.variant (usage).
Result<Variant> parse_variant(std::string_view name);

// Ranges of docs/model.md. Usage errors "config.<field>".
Result<void> validate_sampling(const SamplingParams& sampling);

struct MediumConfig {
  static MediumConfig base();
  static MediumConfig coder();
  static MediumConfig agent();
  static MediumConfig preset(Variant variant);

  Variant variant = Variant::kBase;

  int n_layers = 32;
  int d_model = 2048;
  int n_heads = 16;
  int n_kv_heads = 2;  // divides n_heads
  int d_head = 128;    // even
  int d_ff = 11008;
  int vocab_size = 151936;
  int context_length = 32768;
  float rope_theta = 1e6f;

  SamplingParams sampling;

  bool use_paged_attention = true;
  PagedConfig paged_config;
  bool use_flash_attention = true;

  bool use_speculative_decoding = false;
  SpeculativeConfig speculative_config;
  std::optional<std::filesystem::path> draft_model_path;

  SonaHooks sona_hooks;
  SonaConfig sona_config;
  bool enable_reasoning_bank = false;  // recorded trajectories become bank items
  bool enable_agent_routing = false;   // decisions and their outcomes are recorded as trajectories
  // What enable_sona() keeps; empty: a folder of its own that goes with the model.
  std::filesystem::path data_dir;

  EngineConfig engine;

  int n_threads = 0;              // 0 = physical cores
  size_t memory_limit_bytes = 0;  // 0 = what the system has available
  std::string isa;                // empty = best supported

  // Usage errors "config.<field>" with field, expected and found.
  Result<void> validate() const;
};

// Hook layers that fit a model of n_layers: unchanged for 32..40 layers, otherwise layer l moves to
// min(n_layers - 1, floor(l * n_layers / 32 + 0.5)), duplicates dropped. Explicit layers are kept as given.
// Errors: config.sona_hooks.layers for explicit layers that do not fit.
Result<std::vector<int>> effective_hook_layers(const SonaHooks& hooks, int n_layers);

}  // namespace ruvltra
