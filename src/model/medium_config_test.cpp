#include <gtest/gtest.h>

#include <cmath>

#include "ruvltra/config.h"

namespace ruvltra {
namespace {

TEST(MediumConfig, ShapeOfEveryVariant) {
  for (const MediumConfig& c : {MediumConfig::base(), MediumConfig::coder(), MediumConfig::agent()}) {
    EXPECT_EQ(c.n_layers, 32);
    EXPECT_EQ(c.d_model, 2048);
    EXPECT_EQ(c.n_heads, 16);
    EXPECT_EQ(c.n_kv_heads, 2);
    EXPECT_EQ(c.d_head, 128);
    EXPECT_EQ(c.d_ff, 11008);
    EXPECT_EQ(c.vocab_size, 151936);
    EXPECT_EQ(c.context_length, 32768);
    EXPECT_EQ(c.rope_theta, 1e6f);
    EXPECT_TRUE(c.validate());
  }
}

TEST(MediumConfig, CommonDefaults) {
  for (const MediumConfig& c : {MediumConfig::base(), MediumConfig::coder(), MediumConfig::agent()}) {
    EXPECT_TRUE(c.use_paged_attention);
    EXPECT_EQ(c.paged_config.page_size, 64);
    EXPECT_EQ(c.paged_config.max_pages_per_sequence, 512u);
    EXPECT_EQ(c.paged_config.kv_type, KvType::kF16);
    EXPECT_TRUE(c.use_flash_attention);
    EXPECT_FALSE(c.use_speculative_decoding);
    EXPECT_EQ(c.speculative_config.lookahead, 4);
    EXPECT_EQ(c.speculative_config.acceptance_threshold, 0.7f);
    EXPECT_EQ(c.speculative_config.draft_temperature, 0.0f);
    EXPECT_TRUE(c.speculative_config.adaptive);
    EXPECT_FALSE(c.draft_model_path);
    EXPECT_FALSE(c.enable_reasoning_bank);
    EXPECT_EQ(c.sona_config.ewc_lambda, 1000.0f);
    EXPECT_EQ(c.sona_config.ring_capacity, 10'000u);
    EXPECT_EQ(c.sona_config.record_mb, 64u);
    EXPECT_EQ(c.sona_config.grad_top_k, 256);
    EXPECT_EQ(c.sona_config.keep_generations, 16);
    EXPECT_FALSE(c.sona_hooks.explicit_layers);
    EXPECT_EQ(c.n_threads, 0);
    EXPECT_EQ(c.memory_limit_bytes, 0u);
    EXPECT_EQ(c.isa, "");
  }
}

TEST(MediumConfig, Base) {
  const MediumConfig c = MediumConfig::base();
  EXPECT_EQ(c.variant, Variant::kBase);
  EXPECT_EQ(c.sampling.temperature, 0.7f);
  EXPECT_EQ(c.sampling.top_p, 0.9f);
  EXPECT_FALSE(c.sampling.seed);
  EXPECT_EQ(c.sona_hooks.layers, (std::vector<int>{8, 16, 24}));
  EXPECT_EQ(c.sona_hooks.hnsw_m, 16);
  EXPECT_EQ(c.sona_hooks.hnsw_ef_construction, 200);
  EXPECT_EQ(c.sona_hooks.hnsw_ef_search, 64);
  EXPECT_EQ(c.sona_config.micro_lora_rank, 4);
  EXPECT_EQ(c.sona_config.pattern_capacity, 50'000u);
  EXPECT_EQ(c.sona_config.quality_threshold, 0.6f);
  EXPECT_EQ(c.sona_config.learn, LearnMode::kOff);
  EXPECT_FALSE(c.enable_agent_routing);
}

TEST(MediumConfig, Coder) {
  const MediumConfig c = MediumConfig::coder();
  EXPECT_EQ(c.variant, Variant::kCoder);
  EXPECT_EQ(c.sampling.temperature, 0.2f);
  EXPECT_EQ(c.sampling.top_p, 0.95f);
  EXPECT_EQ(c.sampling.seed, uint64_t{0});
  EXPECT_EQ(c.sona_hooks.layers, (std::vector<int>{8, 16, 24, 28}));
  EXPECT_EQ(c.sona_hooks.hnsw_m, 16);
  EXPECT_EQ(c.sona_hooks.hnsw_ef_construction, 200);
  EXPECT_EQ(c.sona_hooks.hnsw_ef_search, 64);
  EXPECT_EQ(c.sona_config.micro_lora_rank, 4);
  EXPECT_EQ(c.sona_config.pattern_capacity, 100'000u);
  EXPECT_EQ(c.sona_config.quality_threshold, 0.7f);
  EXPECT_EQ(c.sona_config.learn, LearnMode::kOff);
  EXPECT_FALSE(c.enable_agent_routing);
}

TEST(MediumConfig, Agent) {
  const MediumConfig c = MediumConfig::agent();
  EXPECT_EQ(c.variant, Variant::kAgent);
  EXPECT_EQ(c.sampling.temperature, 0.3f);
  EXPECT_EQ(c.sampling.top_p, 0.85f);
  EXPECT_FALSE(c.sampling.seed);
  EXPECT_EQ(c.sona_hooks.layers, (std::vector<int>{8, 16, 24}));
  EXPECT_EQ(c.sona_hooks.hnsw_m, 32);
  EXPECT_EQ(c.sona_hooks.hnsw_ef_construction, 400);
  EXPECT_EQ(c.sona_hooks.hnsw_ef_search, 100);
  EXPECT_EQ(c.sona_config.micro_lora_rank, 2);
  EXPECT_EQ(c.sona_config.pattern_capacity, 50'000u);
  EXPECT_EQ(c.sona_config.quality_threshold, 0.6f);
  EXPECT_EQ(c.sona_config.learn, LearnMode::kRecord);
  EXPECT_TRUE(c.enable_agent_routing);
}

TEST(MediumConfig, SourcesOfProposals) {
  MediumConfig config = MediumConfig::base();
  config.use_speculative_decoding = true;
  EXPECT_TRUE(config.validate()) << "from earlier text, where there is no draft model";
  config.speculative_config.source = DraftSource::kLookup;
  EXPECT_TRUE(config.validate());
  config.draft_model_path = "draft.gguf";
  config.speculative_config.source = DraftSource::kModel;
  EXPECT_TRUE(config.validate());
  config.speculative_config.source = DraftSource::kAuto;
  EXPECT_TRUE(config.validate());
}

TEST(MediumConfig, VariantNames) {
  for (const Variant variant : {Variant::kBase, Variant::kCoder, Variant::kAgent}) {
    EXPECT_EQ(parse_variant(variant_name(variant)).value(), variant);
    EXPECT_EQ(MediumConfig::preset(variant).variant, variant);
  }
  EXPECT_EQ(parse_variant("Base").error().id, "config.variant");
  EXPECT_EQ(parse_kv_type("f16").value(), KvType::kF16);
  EXPECT_EQ(parse_kv_type("f32").value(), KvType::kF32);
  EXPECT_EQ(parse_kv_type("q8_0").value(), KvType::kQ8_0);
  EXPECT_EQ(parse_kv_type("q4_0").error().id, "config.kv_type");
}

struct BadValue {
  const char* id;
  void (*spoil)(MediumConfig&);
};

class MediumConfigRange : public testing::TestWithParam<BadValue> {};

TEST_P(MediumConfigRange, NamesTheField) {
  MediumConfig config = MediumConfig::coder();
  GetParam().spoil(config);
  const auto result = config.validate();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().id, GetParam().id);
  EXPECT_EQ(result.error().kind, ErrorKind::kUsage);
  const std::string field = std::string(GetParam().id).substr(std::string("config.").size());
  EXPECT_NE(result.error().message.find(field), std::string::npos) << result.error().message;
}

const BadValue kBadValues[] = {
    {"config.n_layers", [](auto& c) { c.n_layers = 0; }},
    {"config.n_layers", [](auto& c) { c.n_layers = 513; }},
    {"config.d_model", [](auto& c) { c.d_model = 31; }},
    {"config.n_heads", [](auto& c) { c.n_heads = 257; }},
    {"config.n_kv_heads", [](auto& c) { c.n_kv_heads = 3; }},
    {"config.n_kv_heads", [](auto& c) { c.n_kv_heads = 0; }},
    {"config.d_head", [](auto& c) { c.d_head = 127; }},
    {"config.d_head", [](auto& c) { c.d_head = 514; }},
    {"config.d_ff", [](auto& c) { c.d_ff = -1; }},
    {"config.vocab_size", [](auto& c) { c.vocab_size = (1 << 20) + 1; }},
    {"config.context_length", [](auto& c) { c.context_length = 0; }},
    {"config.rope_theta", [](auto& c) { c.rope_theta = 0; }},
    {"config.rope_theta", [](auto& c) { c.rope_theta = NAN; }},
    {"config.temperature", [](auto& c) { c.sampling.temperature = 2.5f; }},
    {"config.temperature", [](auto& c) { c.sampling.temperature = NAN; }},
    {"config.top_p", [](auto& c) { c.sampling.top_p = 0; }},
    {"config.min_p", [](auto& c) { c.sampling.min_p = 1.5f; }},
    {"config.top_k", [](auto& c) { c.sampling.top_k = -1; }},
    {"config.repeat_penalty", [](auto& c) { c.sampling.repeat_penalty = 0; }},
    {"config.presence_penalty", [](auto& c) { c.sampling.presence_penalty = 3; }},
    {"config.frequency_penalty", [](auto& c) { c.sampling.frequency_penalty = -3; }},
    {"config.n_logprobs", [](auto& c) { c.sampling.n_logprobs = 21; }},
    {"config.stop", [](auto& c) { c.sampling.stop = {""}; }},
    {"config.stop", [](auto& c) { c.sampling.stop.assign(17, "x"); }},
    {"config.logit_bias",
     [](auto& c) {
       c.sampling.logit_bias = {{-1, 1.0f}};
     }},
    {"config.paged_config.page_size", [](auto& c) { c.paged_config.page_size = 32; }},
    {"config.paged_config.max_pages_per_sequence",
     [](auto& c) { c.paged_config.max_pages_per_sequence = 0; }},
    {"config.speculative_config.lookahead", [](auto& c) { c.speculative_config.lookahead = 9; }},
    {"config.speculative_config.acceptance_threshold",
     [](auto& c) { c.speculative_config.acceptance_threshold = -0.1f; }},
    {"config.speculative_config.draft_temperature",
     [](auto& c) { c.speculative_config.draft_temperature = 3; }},
    {"config.draft_model_path", [](auto& c) { c.draft_model_path = "draft.gguf"; }},
    {"config.draft_model_path",
     [](auto& c) {
       c.use_speculative_decoding = true;
       c.speculative_config.source = DraftSource::kModel;
     }},
    {"config.draft_model_path",
     [](auto& c) {
       c.use_speculative_decoding = true;
       c.speculative_config.source = DraftSource::kLookup;
       c.draft_model_path = "draft.gguf";
     }},
    {"config.speculative_config.lookahead", [](auto& c) { c.speculative_config.lookahead = 0; }},
    {"config.speculative_config.acceptance_threshold",
     [](auto& c) { c.speculative_config.acceptance_threshold = NAN; }},
    {"config.sona_hooks.layers", [](auto& c) { c.sona_hooks.layers = {}; }},
    {"config.sona_hooks.layers",
     [](auto& c) {
       c.sona_hooks.layers = {1, 2, 3, 4, 5};
     }},
    {"config.sona_hooks.layers",
     [](auto& c) {
       c.sona_hooks.layers = {8, 8};
     }},
    {"config.sona_hooks.hnsw_m", [](auto& c) { c.sona_hooks.hnsw_m = 3; }},
    {"config.sona_hooks.hnsw_ef_construction", [](auto& c) { c.sona_hooks.hnsw_ef_construction = 15; }},
    {"config.sona_hooks.hnsw_ef_search", [](auto& c) { c.sona_hooks.hnsw_ef_search = 1025; }},
    {"config.sona_config.micro_lora_rank", [](auto& c) { c.sona_config.micro_lora_rank = 17; }},
    {"config.sona_config.pattern_capacity", [](auto& c) { c.sona_config.pattern_capacity = 10'000'001; }},
    {"config.sona_config.quality_threshold", [](auto& c) { c.sona_config.quality_threshold = 1.1f; }},
    {"config.sona_config.ewc_lambda", [](auto& c) { c.sona_config.ewc_lambda = -1; }},
    {"config.sona_config.ring_capacity", [](auto& c) { c.sona_config.ring_capacity = 15; }},
    {"config.sona_config.record_mb", [](auto& c) { c.sona_config.record_mb = 0; }},
    {"config.sona_config.grad_top_k", [](auto& c) { c.sona_config.grad_top_k = 31; }},
    {"config.sona_config.keep_generations", [](auto& c) { c.sona_config.keep_generations = 1; }},
    {"config.sona_config.gates.max_canary_rise", [](auto& c) { c.sona_config.gates.max_canary_rise = 0; }},
    {"config.sona_config.gates.max_canary_rise",
     [](auto& c) { c.sona_config.gates.max_canary_rise = 1.01f; }},
    {"config.sona_config.gates.max_canary_rise", [](auto& c) { c.sona_config.gates.max_canary_rise = NAN; }},
    {"config.sona_config.gates.max_drift", [](auto& c) { c.sona_config.gates.max_drift = -0.02f; }},
    {"config.sona_config.gates.max_drift", [](auto& c) { c.sona_config.gates.max_drift = INFINITY; }},
    {"config.sona_config.gates.max_delta_ratio", [](auto& c) { c.sona_config.gates.max_delta_ratio = 0; }},
    {"config.sona_config.gates.max_delta_ratio", [](auto& c) { c.sona_config.gates.max_delta_ratio = NAN; }},
    {"config.sona_config.gates.max_drift", [](auto& c) { c.sona_config.gates.max_drift = NAN; }},
    {"config.sona_config.gates.max_delta_ratio", [](auto& c) { c.sona_config.gates.max_delta_ratio = 2; }},
    {"config.n_threads", [](auto& c) { c.n_threads = -1; }},
};
INSTANTIATE_TEST_SUITE_P(All, MediumConfigRange, testing::ValuesIn(kBadValues));

TEST(MediumConfigGates, TheWholeRangeIsOpen) {
  MediumConfig config;
  config.sona_config.gates = {.max_canary_rise = 1, .max_drift = 10, .max_delta_ratio = 1};
  EXPECT_TRUE(config.validate());
  config.sona_config.gates = {.max_canary_rise = 1e-6f, .max_drift = 1e-6f, .max_delta_ratio = 1e-6f};
  EXPECT_TRUE(config.validate());
}

std::vector<int> hooks(std::vector<int> layers, int n_layers) {
  SonaHooks h;
  h.layers = std::move(layers);
  return effective_hook_layers(h, n_layers).value();
}

TEST(HookLayers, PresetsScaleOutside32To40) {
  const std::vector<int> preset = {8, 16, 24, 28};
  EXPECT_EQ(hooks(preset, 32), preset);
  EXPECT_EQ(hooks(preset, 36), preset);
  EXPECT_EQ(hooks(preset, 40), preset);
  EXPECT_EQ(hooks(preset, 24), (std::vector<int>{6, 12, 18, 21}));
  EXPECT_EQ(hooks(preset, 28), (std::vector<int>{7, 14, 21, 25}));
  EXPECT_EQ(hooks({8, 16, 24}, 4), (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(hooks({8, 16, 24}, 1), (std::vector<int>{0}));
  EXPECT_EQ(hooks({8, 16, 24}, 64), (std::vector<int>{16, 32, 48}));
}

TEST(HookLayers, ExplicitLayersAreNeverScaled) {
  SonaHooks h;
  h.explicit_layers = true;
  h.layers = {3, 1};
  EXPECT_EQ(effective_hook_layers(h, 4).value(), (std::vector<int>{1, 3}));
  h.layers = {4};
  EXPECT_EQ(effective_hook_layers(h, 4).error().id, "config.sona_hooks.layers");
  h.layers = {2, 2};
  EXPECT_EQ(effective_hook_layers(h, 4).error().id, "config.sona_hooks.layers");
}

}  // namespace
}  // namespace ruvltra
