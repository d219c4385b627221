#include "model/config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace ruvltra {
namespace {

Metadata tiny_metadata() {
  Metadata m("tiny.gguf");
  m.set("general.architecture", std::string("qwen2"));
  m.set("qwen2.block_count", uint32_t{2});
  m.set("qwen2.context_length", uint32_t{128});
  m.set("qwen2.embedding_length", uint32_t{64});
  m.set("qwen2.feed_forward_length", uint32_t{96});
  m.set("qwen2.attention.head_count", uint32_t{4});
  m.set("qwen2.attention.head_count_kv", uint32_t{2});
  m.set("qwen2.attention.layer_norm_rms_epsilon", 1e-6f);
  m.set("qwen2.rope.freq_base", 1e6f);
  return m;
}

constexpr uint64_t kVocab = 10;

ModelShape tiny_shape(bool tied = true) {
  MediumConfig config;
  config.n_layers = 2;
  config.d_model = 64;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.d_head = 16;
  config.d_ff = 96;
  config.vocab_size = kVocab;
  return ModelShape::from_config(config, tied);
}

std::vector<TensorInfo> tensors_of(const ModelShape& shape) {
  std::vector<TensorInfo> tensors;
  for (const TensorSpec& spec : expected_tensors(shape)) {
    TensorInfo tensor;
    tensor.name = spec.name;
    tensor.dims = spec.dims;
    tensor.type = spec.is_matrix() ? TensorType::kF16 : TensorType::kF32;
    tensors.push_back(tensor);
  }
  return tensors;
}

TEST(ModelShape, ReadsEveryKey) {
  Metadata m = tiny_metadata();
  m.set("qwen2.attention.key_length", uint32_t{32});
  m.set("qwen2.attention.value_length", uint32_t{32});
  m.set("qwen2.rope.dimension_count", uint32_t{32});
  m.set("qwen2.rope.scaling.type", std::string("none"));
  const auto shape = ModelShape::from_metadata(m, tensors_of(tiny_shape(false)));
  ASSERT_TRUE(shape) << shape.error().message;
  EXPECT_EQ(shape->n_layers, 2u);
  EXPECT_EQ(shape->d_model, 64u);
  EXPECT_EQ(shape->n_heads, 4u);
  EXPECT_EQ(shape->n_kv_heads, 2u);
  EXPECT_EQ(shape->d_head, 32u);
  EXPECT_EQ(shape->d_ff, 96u);
  EXPECT_EQ(shape->n_vocab, kVocab);
  EXPECT_EQ(shape->context_length, 128u);
  EXPECT_EQ(shape->rms_eps, 1e-6f);
  EXPECT_EQ(shape->rope_theta, 1e6);
  EXPECT_FALSE(shape->tied);
  EXPECT_EQ(shape->d_q(), 128u);
  EXPECT_EQ(shape->d_kv(), 64u);
  EXPECT_EQ(shape->group_size(), 2u);
}

TEST(ModelShape, DefaultsOfOptionalKeys) {
  Metadata m = tiny_metadata();
  m.erase("qwen2.attention.head_count_kv");
  m.erase("qwen2.rope.freq_base");
  const auto shape = ModelShape::from_metadata(m, tensors_of(tiny_shape()));
  ASSERT_TRUE(shape) << shape.error().message;
  EXPECT_EQ(shape->n_kv_heads, 4u);
  EXPECT_EQ(shape->d_head, 16u);
  EXPECT_EQ(shape->rope_theta, 10000);
  EXPECT_TRUE(shape->tied);
}

TEST(ModelShape, ParameterCountsOfThePresets) {
  EXPECT_EQ(ModelShape::from_config(MediumConfig::base(), false).n_parameters(), 3'088'795'648u);
  MediumConfig published;
  published.n_layers = 36;
  EXPECT_EQ(ModelShape::from_config(published, true).n_parameters(), 3'085'938'688u);
  MediumConfig small;
  small.n_layers = 24;
  small.d_model = 896;
  small.n_heads = 14;
  small.d_head = 64;
  small.d_ff = 4864;
  EXPECT_EQ(ModelShape::from_config(small, true).n_parameters(), 494'032'768u);
  EXPECT_EQ(expected_tensors(ModelShape::from_config(MediumConfig::base(), false)).size(), 387u);
}

struct BadKey {
  const char* id;
  const char* key;
  MetaValue value;
};

class ModelShapeRange : public testing::TestWithParam<BadKey> {};

TEST_P(ModelShapeRange, RefusesAndNamesTheKey) {
  Metadata m = tiny_metadata();
  m.set(GetParam().key, GetParam().value);
  const auto shape = ModelShape::from_metadata(m, tensors_of(tiny_shape()));
  ASSERT_FALSE(shape);
  EXPECT_EQ(shape.error().id, GetParam().id) << shape.error().message;
  EXPECT_NE(shape.error().message.find("tiny.gguf"), std::string::npos) << shape.error().message;
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

const BadKey kBadKeys[] = {
    {"model.architecture", "general.architecture", std::string("llama")},
    {"model.architecture", "general.architecture", std::string(1 << 20, 'x')},
    {"model.architecture", "general.architecture", uint32_t{1}},
    {"model.block_count", "qwen2.block_count", uint32_t{0}},
    {"model.block_count", "qwen2.block_count", uint32_t{513}},
    {"model.block_count", "qwen2.block_count", uint32_t{1} << 31},
    {"model.block_count", "qwen2.block_count", std::string("2")},
    {"model.block_count", "qwen2.block_count", 2.0f},
    {"model.block_count", "qwen2.block_count", int64_t{-2}},
    {"model.block_count", "qwen2.block_count", std::vector<uint32_t>{2}},
    {"model.head_count", "qwen2.attention.head_count", uint32_t{0}},
    {"model.head_count", "qwen2.attention.head_count", uint32_t{1} << 31},
    {"model.head_count_kv", "qwen2.attention.head_count_kv", uint32_t{0}},
    {"model.head_count_kv", "qwen2.attention.head_count_kv", uint32_t{3}},
    {"model.head_count_kv", "qwen2.attention.head_count_kv", uint32_t{8}},
    {"model.embedding_length", "qwen2.embedding_length", uint32_t{0}},
    {"model.embedding_length", "qwen2.embedding_length", uint32_t{66}},
    {"model.embedding_length", "qwen2.embedding_length", uint32_t{32769}},
    {"model.feed_forward_length", "qwen2.feed_forward_length", uint32_t{0}},
    {"model.feed_forward_length", "qwen2.feed_forward_length", uint32_t{262145}},
    {"model.key_length", "qwen2.attention.key_length", uint32_t{0}},
    {"model.key_length", "qwen2.attention.key_length", uint32_t{15}},
    {"model.key_length", "qwen2.attention.key_length", uint32_t{514}},
    {"model.value_length", "qwen2.attention.value_length", uint32_t{32}},
    {"model.context_length", "qwen2.context_length", uint32_t{0}},
    {"model.context_length", "qwen2.context_length", uint64_t{1} << 63},
    {"model.sliding_window", "qwen2.attention.sliding_window", uint32_t{64}},
    {"model.rope_freq_base", "qwen2.rope.freq_base", 0.0f},
    {"model.rope_freq_base", "qwen2.rope.freq_base", -1.0f},
    {"model.rope_freq_base", "qwen2.rope.freq_base", kNan},
    {"model.rope_freq_base", "qwen2.rope.freq_base", kInf},
    {"model.rope_freq_base", "qwen2.rope.freq_base", 2e12f},
    {"model.rope_dimension_count", "qwen2.rope.dimension_count", uint32_t{32}},
    {"model.rope_dimension_count", "qwen2.rope.dimension_count", uint32_t{8}},
    {"model.rope_scaling", "qwen2.rope.scaling.type", std::string("yarn")},
    {"model.rope_scaling", "qwen2.rope.scaling.type", uint32_t{0}},
    {"model.rope_scaling_factor", "qwen2.rope.scaling.factor", 0.0f},
    {"model.rope_scaling_factor", "qwen2.rope.scaling.factor", 4.0f},
    {"model.rms_epsilon", "qwen2.attention.layer_norm_rms_epsilon", 0.0f},
    {"model.rms_epsilon", "qwen2.attention.layer_norm_rms_epsilon", kNan},
    {"model.rms_epsilon", "qwen2.attention.layer_norm_rms_epsilon", -1e-6f},
    {"model.rms_epsilon", "qwen2.attention.layer_norm_rms_epsilon", 1e30f},
    {"model.vocab_size", "tokenizer.ggml.tokens", std::vector<std::string>(9, "x")},
    {"model.vocab_size", "qwen2.vocab_size", uint32_t{11}},
};
INSTANTIATE_TEST_SUITE_P(All, ModelShapeRange, testing::ValuesIn(kBadKeys));

TEST(ModelShape, MissingKeys) {
  const std::pair<const char*, const char*> required[] = {
      {"general.architecture", "model.architecture"},
      {"qwen2.block_count", "model.block_count"},
      {"qwen2.context_length", "model.context_length"},
      {"qwen2.embedding_length", "model.embedding_length"},
      {"qwen2.feed_forward_length", "model.feed_forward_length"},
      {"qwen2.attention.head_count", "model.head_count"},
      {"qwen2.attention.layer_norm_rms_epsilon", "model.rms_epsilon"}};
  for (const auto& [key, id] : required) {
    Metadata m = tiny_metadata();
    m.erase(key);
    const auto shape = ModelShape::from_metadata(m, tensors_of(tiny_shape()));
    ASSERT_FALSE(shape) << key;
    EXPECT_EQ(shape.error().id, id);
  }
  EXPECT_EQ(ModelShape::from_metadata(tiny_metadata(), {}).error().id, "model.tensor_missing");
}

struct BadSet {
  const char* id;
  const char* named;
  void (*spoil)(std::vector<TensorInfo>&);
};

TensorInfo& named(std::vector<TensorInfo>& tensors, const std::string& name) {
  return *std::find_if(tensors.begin(), tensors.end(), [&](const TensorInfo& t) { return t.name == name; });
}
void remove_tensor(std::vector<TensorInfo>& tensors, const std::string& name) {
  std::erase_if(tensors, [&](const TensorInfo& t) { return t.name == name; });
}
void add_tensor(std::vector<TensorInfo>& tensors, const std::string& name) {
  TensorInfo tensor = named(tensors, "blk.0.attn_q.weight");
  tensor.name = name;
  tensors.push_back(tensor);
}

class TensorSet : public testing::TestWithParam<BadSet> {};

TEST_P(TensorSet, RefusesAndNamesTheTensor) {
  const ModelShape shape = tiny_shape(false);
  auto tensors = tensors_of(shape);
  ASSERT_TRUE(check_tensors(shape, "tiny.gguf", tensors));
  GetParam().spoil(tensors);
  const auto result = check_tensors(shape, "tiny.gguf", tensors);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().id, GetParam().id);
  EXPECT_NE(result.error().message.find(GetParam().named), std::string::npos) << result.error().message;
}

const BadSet kBadSets[] = {
    {"model.tensor_missing", "blk.1.ffn_down.weight",
     [](auto& t) { remove_tensor(t, "blk.1.ffn_down.weight"); }},
    {"model.bias_missing", "blk.1.attn_k.bias", [](auto& t) { remove_tensor(t, "blk.1.attn_k.bias"); }},
    {"model.tensor_extra", "blk.2.attn_q.weight", [](auto& t) { add_tensor(t, "blk.2.attn_q.weight"); }},
    {"model.tensor_extra", "blk.99.attn_q.weight", [](auto& t) { add_tensor(t, "blk.99.attn_q.weight"); }},
    {"model.tensor_extra", "blk.-1.", [](auto& t) { add_tensor(t, "blk.-1.attn_q.weight"); }},
    {"model.tensor_extra", "blk.00.", [](auto& t) { add_tensor(t, "blk.00.attn_q.weight"); }},
    {"model.tensor_extra", "18446744073709551616",
     [](auto& t) { add_tensor(t, "blk.18446744073709551616.attn_q.weight"); }},
    {"model.tensor_missing", "blk.0.attn_q.weight",
     [](auto& t) { named(t, "blk.0.attn_q.weight").name = "x.attn_q.weight"; }},
    {"model.tensor_shape", "[64, 96]",
     [](auto& t) {
       named(t, "blk.0.ffn_gate.weight").dims = {96, 64};
     }},
    {"model.tensor_shape", "blk.0.attn_q.bias", [](auto& t) { named(t, "blk.0.attn_q.bias").dims = {63}; }},
    {"model.tensor_type", "blk.0.ffn_norm.weight",
     [](auto& t) { named(t, "blk.0.ffn_norm.weight").type = TensorType::kQ4_K; }},
    {"model.tensor_shape", "output.weight",
     [](auto& t) {
       named(t, "output.weight").dims = {64, 11};
     }},
};
INSTANTIATE_TEST_SUITE_P(All, TensorSet, testing::ValuesIn(kBadSets));

}  // namespace
}  // namespace ruvltra
