#include "model/weights.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/num.h"
#include "base/threads.h"
#include "gguf/writer.h"
#include "kernels/dispatch.h"
#include "model/memory.h"
#include "model/qwen2.h"
#include "model/step.h"

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

// A model of one layer whose tensors can be spoiled before the file is written.
class TinyFile {
 public:
  struct Tensor {
    TensorPlan plan;
    std::vector<uint8_t> bytes;
  };

  explicit TinyFile(TensorType matrix_type, bool tied = true)
      : path_(fs::temp_directory_path() / fmt::format("ruvltra-weights-test-{}.gguf", getpid())) {
    MediumConfig config;
    config.n_layers = 1;
    config.d_model = 256;
    config.n_heads = 2;
    config.n_kv_heads = 1;
    config.d_head = 128;
    config.d_ff = 256;
    config.vocab_size = 20;
    config.context_length = 128;
    shape_ = ModelShape::from_config(config, tied);
    const Format& format = format_of(matrix_type);
    for (const TensorSpec& spec : expected_tensors(shape_)) {
      Tensor tensor;
      tensor.plan = {spec.name, spec.is_matrix() ? matrix_type : TensorType::kF32, spec.dims};
      size_t n = spec.dims[0];
      if (spec.is_matrix()) n *= spec.dims[1];
      std::vector<float> values(n);
      for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(i * 37 % 101) / 500.0f - 0.1f;
      if (spec.is_matrix()) {
        tensor.bytes.resize(format.row_bytes(n));
        format.encode(values.data(), tensor.bytes.data(), n, nullptr);
      } else {
        tensor.bytes.resize(n * sizeof(float));
        std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
      }
      tensors_.push_back(std::move(tensor));
    }
  }
  ~TinyFile() { fs::remove(path_); }

  std::vector<uint8_t>& bytes(std::string_view name) {
    for (Tensor& tensor : tensors_) {
      if (tensor.plan.name == name) return tensor.bytes;
    }
    ADD_FAILURE() << name;
    return tensors_[0].bytes;
  }
  void put_float(std::string_view name, size_t index, float value) {
    std::memcpy(bytes(name).data() + index * sizeof value, &value, sizeof value);
  }

  GgufFile write(bool map = false) {
    Metadata m;
    m.set("general.architecture", std::string("qwen2"));
    m.set("qwen2.block_count", uint32_t{1});
    m.set("qwen2.context_length", uint32_t{128});
    m.set("qwen2.embedding_length", uint32_t{256});
    m.set("qwen2.feed_forward_length", uint32_t{256});
    m.set("qwen2.attention.head_count", uint32_t{2});
    m.set("qwen2.attention.head_count_kv", uint32_t{1});
    m.set("qwen2.attention.layer_norm_rms_epsilon", 1e-6f);
    std::vector<TensorPlan> plans;
    for (const Tensor& tensor : tensors_) plans.push_back(tensor.plan);
    auto writer = GgufWriter::create(path_, m, plans, true);
    EXPECT_TRUE(writer) << writer.error().message;
    for (size_t i = 0; i < tensors_.size(); ++i) EXPECT_TRUE(writer->write(i, 0, tensors_[i].bytes));
    EXPECT_TRUE(writer->finish());
    auto file = GgufFile::open(path_, {.map = map});
    EXPECT_TRUE(file) << file.error().message;
    return std::move(*file);
  }
  const ModelShape& shape() const { return shape_; }

 private:
  fs::path path_;
  ModelShape shape_;
  std::vector<Tensor> tensors_;
};

class WeightsTest : public testing::Test {
 protected:
  ThreadPool pool_{2};
  Ctx ctx_{&pool_, *kernel_table()};

  // Logits after each of four tokens.
  std::vector<float> logits(const Weights& weights) {
    const std::vector<TokenId> tokens = {1, 5, 19, 0};
    Workspace workspace = std::move(*Workspace::make(weights.shape, {}, 2));
    KvPool kv = std::move(*KvPool::make(weights.shape, KvType::kF16, 1));
    SingleSequence sequence(0, 1);
    std::vector<float> out(tokens.size() * weights.shape.n_vocab);
    forward(ctx_, weights, kv, workspace, sequence.append(tokens, SingleSequence::Rows::kAll), {out, {}, {}});
    return out;
  }
};

TEST_F(WeightsTest, LoadsEveryTypeMappedAndTied) {
  for (const Format& format : all_formats()) {
    for (const bool tied : {true, false}) {
      TinyFile tiny(format.type, tied);
      const auto weights = Weights::load(ctx_, tiny.write());
      ASSERT_TRUE(weights) << format.name << ": " << weights.error().message;
      EXPECT_EQ(weights->shape.tied, tied);
      EXPECT_EQ(weights->layers[0].ffn_down.type(), format.type);
      const auto mapped = Weights::load(ctx_, tiny.write(true));
      ASSERT_TRUE(mapped);
      EXPECT_EQ(logits(*mapped), logits(*weights)) << format.name;
    }
  }
}

TEST_F(WeightsTest, MemoryIsWhatWasForeseen) {
  for (const TensorType type : {TensorType::kF16, TensorType::kQ4_K, TensorType::kQ8_0}) {
    TinyFile tiny(type, false);
    const GgufFile file = tiny.write();
    const auto weights = Weights::load(ctx_, file);
    ASSERT_TRUE(weights);
    const MemoryNeed need = memory_need(tiny.shape(), file.tensors(), KvType::kF16, 128, 16);
    EXPECT_EQ(need.weights_bytes, weights->n_bytes());
    EXPECT_EQ(need.kv_bytes, 2 * 2 * 64 * 128 * sizeof(uint16_t));
    EXPECT_LT(weights->bytes_per_token(), weights->n_bytes() - weights->token_embd.n_bytes());
    EXPECT_TRUE(check_memory(need, need.total(), "tiny"));
    const auto refused = check_memory(need, need.total() - 1, "tiny");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().id, "memory.limit");
    EXPECT_EQ(refused.error().kind, ErrorKind::kMemory);
    EXPECT_NE(refused.error().message.find("needs"), std::string::npos);
  }
}

TEST_F(WeightsTest, AvailableMemoryIsPlausible) {
  ASSERT_TRUE(available_memory());
  EXPECT_GT(*available_memory(), uint64_t{1} << 20);
  MemoryNeed need;
  need.weights_bytes = uint64_t{1} << 60;
  EXPECT_EQ(check_memory(need, 0, "huge").error().id, "memory.limit");
}

struct BadValue {
  const char* tensor;
  TensorType type;
  size_t offset;  // of a half or a float
  bool is_half;
};

class BadWeights : public WeightsTest, public testing::WithParamInterface<BadValue> {};

TEST_P(BadWeights, NotFiniteIsRefusedByName) {
  const BadValue& bad = GetParam();
  for (const bool infinite : {true, false}) {
    TinyFile tiny(bad.type);
    if (bad.is_half) {
      const uint16_t half = infinite ? 0x7c00 : 0x7e00;
      std::memcpy(tiny.bytes(bad.tensor).data() + bad.offset, &half, sizeof half);
    } else {
      const float value =
          infinite ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
      std::memcpy(tiny.bytes(bad.tensor).data() + bad.offset, &value, sizeof value);
    }
    const auto weights = Weights::load(ctx_, tiny.write());
    ASSERT_FALSE(weights) << bad.tensor;
    EXPECT_EQ(weights.error().id, "weights.not_finite");
    EXPECT_NE(weights.error().message.find(bad.tensor), std::string::npos) << weights.error().message;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, BadWeights,
    testing::Values(BadValue{"blk.0.ffn_norm.weight", TensorType::kF16, 4 * 255, false},
                    BadValue{"output_norm.weight", TensorType::kF16, 0, false},
                    BadValue{"blk.0.attn_k.bias", TensorType::kF16, 8, false},
                    BadValue{"token_embd.weight", TensorType::kF16, 2 * (256 * 20 - 1), true},
                    BadValue{"token_embd.weight", TensorType::kF32, 4 * 300, false},
                    BadValue{"blk.0.attn_q.weight", TensorType::kQ8_0, 34 * 9, true},
                    BadValue{"blk.0.ffn_up.weight", TensorType::kQ4_K, 144 * 7, true},
                    BadValue{"blk.0.ffn_up.weight", TensorType::kQ4_K, 144 * 7 + 2, true},
                    BadValue{"blk.0.ffn_down.weight", TensorType::kQ5_K, 176 + 2, true},
                    BadValue{"blk.0.attn_v.weight", TensorType::kQ6_K, 210 + 208, true}));

TEST_F(WeightsTest, ZeroAndDenormalNormsAreAllowed) {
  TinyFile tiny(TensorType::kQ8_0);
  for (size_t i = 0; i < 256; ++i) tiny.put_float("blk.0.attn_norm.weight", i, 0.0f);
  for (size_t i = 0; i < 256; ++i) tiny.put_float("blk.0.ffn_norm.weight", i, 1e-40f);
  const auto weights = Weights::load(ctx_, tiny.write());
  ASSERT_TRUE(weights) << weights.error().message;
  for (const float logit : logits(*weights)) ASSERT_TRUE(std::isfinite(logit));
}

TEST_F(WeightsTest, ProgressCountsBytesAndCanStop) {
  TinyFile tiny(TensorType::kF16);
  const GgufFile file = tiny.write();
  uint64_t last = 0;
  uint64_t announced = 0;
  ASSERT_TRUE(Weights::load(ctx_, file, [&](uint64_t done, uint64_t total) {
    last = std::max(last, done);
    announced = total;
    return true;
  }));
  EXPECT_EQ(last, announced);
  const auto stopped = Weights::load(ctx_, file, [](uint64_t, uint64_t) { return false; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().id, "model.cancelled");
  EXPECT_EQ(stopped.error().kind, ErrorKind::kCancelled);
}

TEST_F(WeightsTest, FileDigest) {
  TinyFile tiny(TensorType::kF16);
  const GgufFile file = tiny.write();
  const auto whole = read_file(file.path(), uint64_t{1} << 30);
  ASSERT_TRUE(whole);
  EXPECT_EQ(file_sha256(file).value(), sha256(*whole));
  EXPECT_EQ(Weights::load(ctx_, file).value().file_digest, sha256(*whole));
  EXPECT_EQ(file_sha256(file, [](uint64_t, uint64_t) { return false; }).error().kind, ErrorKind::kCancelled);
}

}  // namespace
}  // namespace ruvltra
