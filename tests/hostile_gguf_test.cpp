// Tiny models with one thing wrong. Each must be refused with its own error; those marked with no error must
// load and run a step. The numbers are those of the classes in docs/gguf.md.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

#include "gguf/bytes_for_test.h"
#include "gguf/cost_for_test.h"
#include "gguf/reader.h"
#include "kernels/dispatch.h"
#include "model/qwen2.h"
#include "model/weights.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "tiny_model.h"

namespace ruvltra {
namespace {

using testing::allocation_bound;
using testing::Cost;
using testing::measure;
using testing::TemporaryFolder;
using testing::tiny_model;
using testing::TinyModel;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Case {
  int number;
  std::string name;
  std::function<void(TinyModel&)> change;
  std::string expected;  // error id; empty: must load
};

// Two tokens through the whole model; all logits must be finite.
Result<void> run_a_step(const Ctx& ctx, const Weights& weights) {
  Workspace::Options options;
  options.max_tokens = 2;
  options.max_positions = 64;
  ASSIGN_OR_RETURN(auto workspace, Workspace::make(weights.shape, options, ctx.pool->n_threads()));
  ASSIGN_OR_RETURN(auto kv, KvPool::make(weights.shape, KvType::kF16, 1));
  SingleSequence sequence(0, 1);
  const TokenId tokens[] = {1, static_cast<TokenId>(weights.shape.n_vocab - 1)};
  const StepInput in = sequence.append(tokens, SingleSequence::Rows::kAll);
  std::vector<float> logits(2 * weights.shape.n_logits(), kNan);
  StepOutput out;
  out.logits = logits;
  forward(ctx, weights, kv, workspace, in, out);
  for (const float logit : logits) EXPECT_TRUE(std::isfinite(logit));
  return {};
}

// Everything a program does with a model file before its first answer.
Result<void> load_and_run(const std::filesystem::path& path, bool map, ModelRole role) {
  ThreadPool pool(1);
  ASSIGN_OR_RETURN(const KernelTable* kernels, kernel_table());
  const Ctx ctx{&pool, kernels};
  ASSIGN_OR_RETURN(const auto file, GgufFile::open(path, {.map = map}));
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::load(file.metadata()));
  if (file.metadata().contains("tokenizer.chat_template")) {
    ASSIGN_OR_RETURN(const auto text, file.metadata().get_string("tokenizer.chat_template"));
    RETURN_IF_ERROR(ChatTemplate::parse(text));
  }
  ASSIGN_OR_RETURN(const auto weights, Weights::load(ctx, file, {}, role));
  return run_a_step(ctx, weights);
}

void expect_outcome(const TinyModel& model, const std::filesystem::path& path, const std::string& expected,
                    ModelRole role = ModelRole::kMain) {
  const auto written = model.write(path);
  ASSERT_TRUE(written) << written.error().message;
  for (const bool map : {false, true}) {
    Result<void> result;
    const Cost cost = measure([&] { result = load_and_run(path, map, role); });
    EXPECT_EQ(result ? "" : result.error().id, expected) << (result ? "" : result.error().message);
    if (!result) {
      // A template does not know the file it came from.
      EXPECT_TRUE(result.error().message.find(path.string()) != std::string::npos ||
                  result.error().id.starts_with("template."))
          << result.error().message;
      EXPECT_LT(result.error().message.size(), 1000u);
    }
    EXPECT_LE(cost.n_bytes, allocation_bound(std::filesystem::file_size(path)));
    EXPECT_LE(cost.seconds, 5.0) << "hangs";
  }
}

void run(const std::vector<Case>& cases, TensorType type = TensorType::kF32, bool tied = true,
         ModelRole role = ModelRole::kMain) {
  const TemporaryFolder folder;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name + " (class " + std::to_string(c.number) + ")");
    TinyModel model = tiny_model(type, tied);
    c.change(model);
    expect_outcome(model, folder / (c.name + ".gguf"), c.expected, role);
  }
}

auto set(std::string key, MetaValue value) {
  return [key = std::move(key), value = std::move(value)](TinyModel& m) { m.metadata.set(key, value); };
}
auto drop(std::string key) {
  return [key = std::move(key)](TinyModel& m) { m.metadata.erase(key); };
}

TEST(HostileModel, Unchanged) {
  for (const Format& format : all_formats()) {
    for (const bool tied : {true, false}) {  // class 98
      run({{98, std::string(format.name), [](TinyModel&) {}, ""}}, format.type, tied);
    }
  }
}

TEST(HostileModel, Hyperparameters) {
  const std::string blocks = "qwen2.block_count";
  const std::string heads = "qwen2.attention.head_count";
  const std::string theta = "qwen2.rope.freq_base";
  const std::string eps = "qwen2.attention.layer_norm_rms_epsilon";
  run({
      {69, "no_architecture", drop("general.architecture"), "model.architecture"},
      {69, "architecture_as_u32", set("general.architecture", uint32_t{1}), "model.architecture"},
      {70, "unknown_architecture", set("general.architecture", std::string("llama")), "model.architecture"},
      {71, "architecture_of_1_mib", set("general.architecture", std::string(1 << 20, 'q')),
       "model.architecture"},
      {72, "no_block_count", drop(blocks), "model.block_count"},
      {72, "block_count_0", set(blocks, uint32_t{0}), "model.block_count"},
      {73, "block_count_513", set(blocks, uint32_t{513}), "model.block_count"},
      {73, "block_count_2_31", set(blocks, uint32_t{1} << 31), "model.block_count"},
      {74, "block_count_as_string", set(blocks, std::string("2")), "model.block_count"},
      {74, "block_count_as_f32", set(blocks, 2.0f), "model.block_count"},
      {74, "block_count_negative", set(blocks, int64_t{-2}), "model.block_count"},
      {74, "block_count_as_array", set(blocks, std::vector<uint32_t>{2}), "model.block_count"},
      {74, "block_count_as_i64", set(blocks, int64_t{2}), ""},
      {75, "head_count_0", set(heads, uint32_t{0}), "model.head_count"},
      {76, "head_count_kv_0", set(heads + "_kv", uint32_t{0}), "model.head_count_kv"},
      {77, "kv_heads_no_divisor", set(heads + "_kv", uint32_t{3}), "model.head_count_kv"},
      {77, "more_kv_heads_than_heads", set(heads + "_kv", uint32_t{8}), "model.head_count_kv"},
      {78, "head_count_2_31", set(heads, uint32_t{1} << 31), "model.head_count"},
      {79, "embedding_length_0", set("qwen2.embedding_length", uint32_t{0}), "model.embedding_length"},
      {79, "embedding_length_indivisible", set("qwen2.embedding_length", uint32_t{66}),
       "model.embedding_length"},
      {79, "embedding_length_other", set("qwen2.embedding_length", uint32_t{128}), "model.tensor_shape"},
      {80, "key_length_0", set("qwen2.attention.key_length", uint32_t{0}), "model.key_length"},
      {80, "key_length_odd", set("qwen2.attention.key_length", uint32_t{15}), "model.key_length"},
      {80, "key_length_other", set("qwen2.attention.key_length", uint32_t{32}), "model.tensor_shape"},
      {80, "value_length_other", set("qwen2.attention.value_length", uint32_t{32}), "model.value_length"},
      {81, "context_0", set("qwen2.context_length", uint32_t{0}), "model.context_length"},
      {81, "context_2_63", set("qwen2.context_length", uint64_t{1} << 63), "model.context_length"},
      {82, "freq_base_0", set(theta, 0.0f), "model.rope_freq_base"},
      {82, "freq_base_negative", set(theta, -1.0f), "model.rope_freq_base"},
      {82, "freq_base_nan", set(theta, kNan), "model.rope_freq_base"},
      {82, "freq_base_infinite", set(theta, kInfinity), "model.rope_freq_base"},
      {82, "freq_base_as_u32", set(theta, uint32_t{10000}), "model.rope_freq_base"},
      {83, "rope_dimensions", set("qwen2.rope.dimension_count", uint32_t{32}), "model.rope_dimension_count"},
      {84, "rope_scaling_yarn", set("qwen2.rope.scaling.type", std::string("yarn")), "model.rope_scaling"},
      {84, "rope_scaling_unknown", set("qwen2.rope.scaling.type", std::string("x")), "model.rope_scaling"},
      {84, "rope_scaling_none", set("qwen2.rope.scaling.type", std::string("none")), ""},
      {84, "rope_factor_0", set("qwen2.rope.scaling.factor", 0.0f), "model.rope_scaling_factor"},
      {85, "eps_0", set(eps, 0.0f), "model.rms_epsilon"},
      {85, "eps_nan", set(eps, kNan), "model.rms_epsilon"},
      {85, "eps_negative", set(eps, -1e-6f), "model.rms_epsilon"},
      {85, "eps_huge", set(eps, 1e30f), "model.rms_epsilon"},
      {86, "d_ff_0", set("qwen2.feed_forward_length", uint32_t{0}), "model.feed_forward_length"},
      {86, "d_ff_huge", set("qwen2.feed_forward_length", uint32_t{1} << 30), "model.feed_forward_length"},
      {86, "d_ff_other", set("qwen2.feed_forward_length", uint32_t{128}), "model.tensor_shape"},
      {87, "block_count_larger", set(blocks, uint32_t{3}), "model.tensor_missing"},
      {87, "block_count_512", set(blocks, uint32_t{512}), "model.tensor_missing"},
      {87, "block_count_smaller", set(blocks, uint32_t{1}), "model.tensor_extra"},
  });
}

TEST(HostileModel, TensorSet) {
  const auto rename = [](std::string from, std::string to) {
    return [from, to](TinyModel& m) { m.tensor(from).plan.name = to; };
  };
  const auto reshape = [](std::string name, std::vector<uint64_t> dims) {
    return [name, dims](TinyModel& m) { m.reshape(name, dims); };
  };
  const auto add = [](std::string name) {
    return [name](TinyModel& m) { m.add(name, TensorType::kF32, {96, 64}); };
  };
  std::vector<Case> cases = {
      {88, "missing", [](TinyModel& m) { m.erase("blk.1.ffn_down.weight"); }, "model.tensor_missing"},
      {88, "missing_norm", [](TinyModel& m) { m.erase("output_norm.weight"); }, "model.tensor_missing"},
      {88, "no_tensors", [](TinyModel& m) { m.tensors.clear(); }, "model.tensor_missing"},
      {89, "extra_layer", add("blk.99.ffn_down.weight"), "model.tensor_extra"},
      {90, "layer_minus_1", add("blk.-1.ffn_down.weight"), "model.tensor_extra"},
      {90, "layer_with_zeros", rename("blk.1.ffn_down.weight", "blk.001.ffn_down.weight"),
       "model.tensor_missing"},
      {90, "layer_007", add("blk.007.ffn_down.weight"), "model.tensor_extra"},
      {90, "layer_2_64", add("blk.18446744073709551616.ffn_down.weight"), "model.tensor_extra"},
      {91, "transposed", reshape("blk.0.ffn_up.weight", {96, 64}), "model.tensor_shape"},
      {91, "three_dimensions", reshape("blk.0.ffn_up.weight", {64, 96, 1}), "model.tensor_shape"},
      {92, "bias_too_long", reshape("blk.0.attn_k.bias", {33}), "model.tensor_shape"},
      {92, "bias_too_short", reshape("blk.0.attn_k.bias", {31}), "model.tensor_shape"},
      {93, "bias_in_f16",
       [](TinyModel& m) {
         m.erase("blk.0.attn_k.bias");
         m.add("blk.0.attn_k.bias", TensorType::kF16, {32});
       },
       "model.tensor_type"},
      {94, "head_with_more_rows", reshape("output.weight", {64, 300}), "model.tensor_shape"},
      {95, "embedding_with_more_rows", reshape("token_embd.weight", {64, 300}), "model.vocab_size"},
      {95, "embedding_of_one_dimension", reshape("token_embd.weight", {64}), "model.tensor_shape"},
      {96, "name_that_only_ends_alike", add("x.weight"), "model.tensor_extra"},
      {96, "embedding_of_another_name", rename("token_embd.weight", "x.token_embd.weight"),
       "model.tensor_missing"},
      {97, "bias_in_some_layers", [](TinyModel& m) { m.erase("blk.1.attn_v.bias"); }, "model.bias_missing"},
  };
  cases.push_back({97, "no_biases",
                   [](TinyModel& m) {
                     std::erase_if(m.tensors, [](const auto& t) { return t.plan.name.ends_with(".bias"); });
                   },
                   "model.bias_missing"});
  run(cases, TensorType::kF32, false);
  const auto norm_in_q4_k = [](TinyModel& m) {
    m.erase("blk.0.attn_norm.weight");
    m.add("blk.0.attn_norm.weight", TensorType::kQ4_K, {256});
  };
  run({{93, "norm_in_q4_k", norm_in_q4_k, "model.tensor_type"}}, TensorType::kQ4_K);
}

// The tokens of a trimmed draft; its output matrix has 5 rows.
TEST(HostileModel, DraftVocabulary) {
  const std::string key(kDraftVocabularyKey);
  const auto draft = [&](MetaValue ids, uint64_t n_rows = 5) {
    return [=](TinyModel& m) {
      m.metadata.set(key, ids);
      m.reshape("output.weight", {64, n_rows});
    };
  };
  using Ids = std::vector<int32_t>;
  const std::string bad = "model.draft_vocab";
  Ids too_many(264);
  std::iota(too_many.begin(), too_many.end(), 0);
  const std::vector<Case> cases = {
      {125, "draft", draft(Ids{0, 7, 99, 261, 262}), ""},
      {125, "draft_of_one", draft(Ids{262}, 1), ""},
      {125, "draft_ids_as_u32", draft(std::vector<uint32_t>{0, 7, 99, 261, 262}), bad},
      {125, "draft_ids_as_number", draft(int32_t{5}), bad},
      {125, "draft_ids_as_strings", draft(std::vector<std::string>(5)), bad},
      {126, "no_draft_ids", draft(Ids{}, 5), bad},
      {126, "more_ids_than_tokens", draft(too_many, 264), bad},
      {127, "draft_ids_descend", draft(Ids{0, 7, 6, 261, 262}), bad},
      {127, "draft_id_twice", draft(Ids{0, 7, 7, 261, 262}), bad},
      {127, "draft_id_negative", draft(Ids{-1, 7, 99, 261, 262}), bad},
      {127, "draft_id_lowest", draft(Ids{std::numeric_limits<int32_t>::min(), 7, 99, 261, 262}), bad},
      {127, "draft_id_beyond", draft(Ids{0, 7, 99, 261, 263}), bad},
      {127, "draft_id_after_the_highest", draft(Ids{0, std::numeric_limits<int32_t>::max(), 0, 1, 2}), bad},
      {128, "fewer_rows_than_ids", draft(Ids{0, 7, 99, 261, 262}, 4), "model.tensor_shape"},
      {128, "more_rows_than_ids", draft(Ids{0, 7, 99, 261, 262}, 263), "model.tensor_shape"},
      {128, "draft_without_its_rows",
       [&](TinyModel& m) {
         m.metadata.set(key, Ids{0, 7});
         m.erase("output.weight");
       },
       "model.tensor_missing"},
      {128, "fewer_rows_without_ids",
       [](TinyModel& m) {
         m.reshape("output.weight", {64, 5});
       },
       "model.tensor_shape"},
  };
  run(cases, TensorType::kF32, false, ModelRole::kDraft);
  run({{129, "draft_as_main_model", draft(Ids{0, 7, 99, 261, 262}), "model.trimmed_draft"}}, TensorType::kF32,
      false);
}

constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kMerges = "tokenizer.ggml.merges";

TEST(HostileModel, Vocabulary) {
  const auto token = [](size_t index, std::string text, int32_t type = 1) {
    return [index, text, type](TinyModel& m) {
      m.list<std::string>(kTokens)[index] = text;
      m.list<int32_t>(kTypes)[index] = type;
    };
  };
  const auto merge = [](std::string text) {
    return [text](TinyModel& m) { m.list<std::string>(kMerges).push_back(text); };
  };
  const uint32_t n_vocab = 263;
  run({
      {99, "tokens_absent", drop(kTokens), "tokenizer.missing_key"},
      {99, "no_tokens", set(kTokens, std::vector<std::string>{}), "tokenizer.token_count"},
      {100, "tokens_as_u8", set(kTokens, std::vector<uint8_t>(n_vocab)), "tokenizer.key_type"},
      {101, "scores_as_u8", set("tokenizer.ggml.scores", std::vector<uint8_t>(n_vocab)),
       "tokenizer.key_type"},
      {101, "scores_shorter", set("tokenizer.ggml.scores", std::vector<float>(7)), "tokenizer.score_count"},
      {102, "types_shorter", [](TinyModel& m) { m.list<int32_t>(kTypes).pop_back(); },
       "tokenizer.type_count"},
      {102, "types_absent", drop(kTypes), "tokenizer.missing_key"},
      {103, "type_99", token(7, "x", 99), "tokenizer.type_value"},
      {103, "type_negative", token(7, "x", -1), "tokenizer.type_value"},
      {104, "merge_without_space", merge("he"), "tokenizer.merge_syntax"},
      {104, "merge_of_three", merge("h e l"), "tokenizer.merge_syntax"},
      {104, "merge_of_nothing", merge(""), "tokenizer.merge_syntax"},
      {104, "merge_of_unknown_piece", merge("hx y"), "tokenizer.merge_unknown"},
      {104, "merge_into_unknown_token", merge("x y"), "tokenizer.merge_unknown"},
      {104, "merge_of_a_control_token", merge("<|im_end|> h"), "tokenizer.merge_unknown"},
      {105, "merges_beyond_the_limit", set(kMerges, std::vector<std::string>((1 << 20) + 1)),
       "tokenizer.merge_count"},
      {106, "duplicate_token", token(257, "he"), "tokenizer.duplicate_token"},
      {107, "empty_token", token(257, ""), "tokenizer.empty_token"},
      {108, "token_of_1_mib", token(257, std::string(1 << 20, 'a')), "tokenizer.long_token"},
      {108, "token_with_bad_utf8", token(257, "\xff"), "tokenizer.token_utf8"},
      {109, "eos_beyond", set("tokenizer.ggml.eos_token_id", n_vocab), "tokenizer.special_id"},
      {109, "bos_2_32", set("tokenizer.ggml.bos_token_id", uint32_t{0xffffffff}), "tokenizer.special_id"},
      {109, "pad_beyond", set("tokenizer.ggml.padding_token_id", n_vocab), "tokenizer.special_id"},
      {109, "eos_negative", set("tokenizer.ggml.eos_token_id", int32_t{-1}), "tokenizer.special_id"},
      {109, "eos_as_string", set("tokenizer.ggml.eos_token_id", std::string("2")), "tokenizer.key_type"},
      {110, "byte_token_minus_1", token(258, "<0x-1>", 6), "tokenizer.byte_token"},
      {110, "byte_token_gg", token(258, "<0xGG>", 6), "tokenizer.byte_token"},
      {110, "byte_token_100", token(258, "<0x100>", 6), "tokenizer.byte_token"},
      {111, "outside_the_alphabet", token(257, "\u20ac"), "tokenizer.byte_alphabet"},
      {112, "unknown_model", set("tokenizer.ggml.model", std::string("llama")), "tokenizer.unknown_model"},
      {112, "unknown_pre", set("tokenizer.ggml.pre", std::string("gpt-4o")), "tokenizer.unknown_pre"},
      {113, "no_token_for_a_byte", token(7, "xyz"), "tokenizer.missing_byte"},
      {115, "template_of_10_mib", set("tokenizer.chat_template", std::string(10 << 20, 'x')),
       "template.too_large"},
      {115, "template_as_u32", set("tokenizer.chat_template", uint32_t{1}), "metadata.type"},
      {116, "template_unterminated", set("tokenizer.chat_template", std::string("{% for x in y %}{{ x")),
       "template.syntax"},
  });
}

// Class 114: the longest of the added tokens wins.
TEST(HostileModel, AddedTokenThatBeginsAnother) {
  const TemporaryFolder folder;
  TinyModel model = tiny_model();
  model.list<std::string>(kTokens)[262] = "<|im";
  model.list<int32_t>(kTypes)[262] = 3;
  expect_outcome(model, folder / "prefix.gguf", "");
  const auto tokenizer = Tokenizer::load(model.metadata);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->encode("<|im_end|><|im", Recognise::kAll).value(), (std::vector<TokenId>{261, 262}));
}

// Class 117: templates that parse, and would run for ever.
TEST(HostileModel, TemplateBombs) {
  std::string nested, endings;
  for (int i = 0; i < 8; ++i) {
    nested += "{% for i" + std::to_string(i) + " in range(1000) %}";
    endings += "{% endfor %}";
  }
  const std::string bombs[] = {
      nested + "x" + endings,
      "{% set ns = namespace(s='x') %}{% for i in range(1000) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{{ range(1000000000) | list }}",
      "{{ 'x' * 1000000000 }}",
  };
  const ChatMessage message{"user", "hello", {}};
  for (const std::string& bomb : bombs) {
    SCOPED_TRACE(bomb.substr(0, 80));
    std::string id;
    const Cost cost = measure([&] {
      const auto parsed = ChatTemplate::parse(bomb);
      if (!parsed) {
        id = parsed.error().id;
        return;
      }
      const auto rendered = parsed->render(std::span(&message, 1), nullptr, true);
      id = rendered ? "" : rendered.error().id;
    });
    EXPECT_TRUE(id.starts_with("template.")) << id;
    EXPECT_LE(cost.n_bytes, size_t{128} << 20);
    EXPECT_LE(cost.seconds, 60.0) << "hangs";
  }
}

// Where a block keeps its scales, as f16.
struct ScaleCase {
  TensorType type;
  std::vector<size_t> offsets;
};

TEST(HostileModel, ScalesThatAreNotFinite) {
  const ScaleCase scales[] = {
      {TensorType::kF16, {0}},     {TensorType::kQ4_0, {0}},   {TensorType::kQ5_0, {0}},
      {TensorType::kQ5_1, {0, 2}}, {TensorType::kQ8_0, {0}},   {TensorType::kQ4_K, {0, 2}},
      {TensorType::kQ5_K, {0, 2}}, {TensorType::kQ6_K, {208}},
  };
  for (const ScaleCase& scale : scales) {
    const Format& format = format_of(scale.type);
    for (const size_t offset : scale.offsets) {
      for (const uint8_t high : {0x7c, 0x7e}) {  // infinity, NaN
        for (const char* name : {"token_embd.weight", "blk.1.ffn_down.weight"}) {
          const auto change = [&](TinyModel& m) {
            auto& data = m.tensor(name).data;
            const size_t block = data.size() - format.block_bytes;  // the last one
            data[block + offset] = 0;
            data[block + offset + 1] = high;
          };
          run({{118, std::string(format.name) + "_" + std::to_string(offset), change, "weights.not_finite"}},
              scale.type, false);
        }
      }
    }
  }
}

void put_f32(TinyModel& model, std::string_view name, size_t index, float value) {
  auto& data = model.tensor(name).data;
  std::memcpy(data.data() + index * sizeof(float), &value, sizeof(float));
}

TEST(HostileModel, Values) {
  const auto put = [](std::string name, size_t index, float value) {
    return [=](TinyModel& m) { put_f32(m, name, index, value); };
  };
  const auto fill = [](std::string name, float value) {
    return [=](TinyModel& m) {
      const size_t n = m.tensor(name).data.size() / sizeof(float);
      for (size_t i = 0; i < n; ++i) put_f32(m, name, i, value);
    };
  };
  run({
      {119, "nan_in_norm", put("blk.0.attn_norm.weight", 63, kNan), "weights.not_finite"},
      {119, "infinity_in_norm", put("output_norm.weight", 0, kInfinity), "weights.not_finite"},
      {119, "nan_in_bias", put("blk.1.attn_v.bias", 5, kNan), "weights.not_finite"},
      {119, "nan_in_embedding", put("token_embd.weight", 100, kNan), "weights.not_finite"},
      {119, "infinity_in_matrix", put("blk.0.ffn_gate.weight", 0, -kInfinity), "weights.not_finite"},
      {120, "zero_norm", fill("blk.0.attn_norm.weight", 0), ""},
      {120, "zero_output_norm", fill("output_norm.weight", 0), ""},
      {120, "zero_embedding", fill("token_embd.weight", 0), ""},
      {121, "denormal_norm", fill("blk.0.attn_norm.weight", 1e-42f), ""},
      {121, "denormal_matrix", fill("blk.1.ffn_down.weight", -1e-42f), ""},
      {121, "denormal_embedding", fill("token_embd.weight", 1e-42f), ""},
  });
}

}  // namespace
}  // namespace ruvltra
