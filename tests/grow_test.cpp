// Grown models (src/model/grow.h) answer what their source answers. The full shapes take too long for every
// day; RUVLTRA_TEST_GROWN=SOURCE.gguf:GROWN.gguf names two files to compare the same way (docs/quantize.md).
#include "model/grow.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/sha256.h"
#include "gguf/bytes_for_test.h"
#include "loaded_model.h"
#include "model/quantize.h"
#include "text/tokenizer.h"
#include "tiny_model.h"

namespace ruvltra {
namespace {

using testing::TemporaryFolder;

constexpr int kThreads = 2;

Result<uint64_t> grow_file(const std::filesystem::path& from, const std::filesystem::path& to,
                           const ModelShape& target, std::string_view type, int n_threads = kThreads) {
  ASSIGN_OR_RETURN(auto source, WeightSource::open(from));
  ASSIGN_OR_RETURN(const auto grown, grow(std::move(source), {target, "test", 1}));
  QuantizeOptions options;
  ASSIGN_OR_RETURN(options.scheme, find_quant_scheme(type));
  ASSIGN_OR_RETURN(QuantizePlan plan, plan_quantization(*grown, options));
  ThreadPool pool(n_threads);
  QuantizeRun run;
  run.overwrite = true;
  return quantize(*grown, plan, to, run, pool);
}

// Runs one sequence; steps deliver the best token of each of their rows.
class GreedyRun {
 public:
  GreedyRun(LoadedTestModel& model, size_t max_positions)
      : model_(model),
        kv_(*KvPool::make(model.weights.shape, KvType::kF32, KvPool::pages_for(max_positions))),
        sequence_(0, kv_.n_pages()) {
    Workspace::Options options;
    options.max_tokens = kChunk;
    options.max_positions = max_positions;
    options.exact = true;
    workspace_ = std::move(*Workspace::make(model.weights.shape, options, model.ctx.pool->n_threads()));
  }

  std::vector<TokenId> best_after_each(std::span<const TokenId> tokens) {
    std::vector<TokenId> result;
    for (size_t begin = 0; begin < tokens.size(); begin += kChunk) {
      const auto chunk = tokens.subspan(begin, std::min(kChunk, tokens.size() - begin));
      std::vector<BestLogit> best(chunk.size());
      StepOutput out;
      out.best = best;
      forward(model_.ctx, model_.weights, kv_, workspace_,
              sequence_.append(chunk, SingleSequence::Rows::kAll, RowOutput::kBest), out);
      for (const BestLogit& b : best) result.push_back(static_cast<TokenId>(b.row));
    }
    return result;
  }

 private:
  static constexpr size_t kChunk = 64;
  LoadedTestModel& model_;
  KvPool kv_;
  SingleSequence sequence_;
  Workspace workspace_;
};

// The grown model must choose the same token everywhere along the source's own greedy text.
void expect_same_greedy_text(LoadedTestModel& source, LoadedTestModel& grown, std::span<const TokenId> prompt,
                             size_t n_tokens) {
  GreedyRun run(source, prompt.size() + n_tokens);
  std::vector<TokenId> text(prompt.begin(), prompt.end());
  std::vector<TokenId> best = run.best_after_each(prompt);
  while (text.size() < prompt.size() + n_tokens) {
    text.push_back(best.back());
    best.push_back(run.best_after_each(std::span(text).last(1)).back());
  }
  EXPECT_EQ(GreedyRun(grown, text.size()).best_after_each(text), best);
}

void expect_same_logits(LoadedTestModel& source, LoadedTestModel& grown, const std::vector<TokenId>& ids) {
  const size_t n_real = source.weights.shape.n_vocab, n_all = grown.weights.shape.n_vocab;
  const auto expected = source.run(ids, 0, true).logits;
  const auto found = grown.run(ids, 0, true).logits;
  double difference = 0, size = 0, nearest_padding = 1e30;
  for (size_t t = 0; t < ids.size(); ++t) {
    const auto a = std::span(expected).subspan(t * n_real, n_real);
    const auto b = std::span(found).subspan(t * n_all, n_all);
    const float best = *std::ranges::max_element(b);
    for (size_t i = 0; i < n_real; ++i) {
      difference = std::max(difference, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
      size = std::max(size, std::abs(static_cast<double>(a[i])));
    }
    for (const float padding : b.subspan(n_real))
      nearest_padding = std::min(nearest_padding, static_cast<double>(best) - static_cast<double>(padding));
  }
  std::printf("logits up to %.2f differ by at most %.2e", size, difference);
  if (n_all > n_real) std::printf("; padding is %.0f below the best", nearest_padding);
  std::printf("\n");
  EXPECT_LE(difference, 1e-5 * size);
  EXPECT_GE(nearest_padding, 10);
}

struct Case {
  const char* name;
  const char* from;
  ModelShape target;
};

const ModelShape kWide{3, 1024, 8, 2, 128, 512, 4608, 0, 1e-6f, 1e6, false};

std::vector<Case> cases() {
  return {
      {"norms scaled by a half", "models/pico-f16.gguf", kWide},
      {"two copies of the stream", "models/pico-f16.gguf", {2, 2048, 4, 2, 128, 300, 4100, 0, 0, 0, false}},
      {"heads of 64 paired; tied", "models/pico-f16.gguf", {2, 640, 8, 4, 64, 256, 4200, 0, 0, 0, true}},
      {"larger heads, same vocabulary",
       "models/pico-f16.gguf",
       {1, 300, 6, 2, 256, 257, 4096, 0, 0, 0, false}},
      {"layers spread", "models/nano-f16.gguf", {7, 512, 2, 1, 128, 512, 4097, 0, 0, 0, true}},
      {"nothing to do", "models/pico-f16.gguf", {1, 256, 2, 1, 128, 256, 4096, 0, 0, 0, true}},
      {"quantized source", "models/pico-q8_0.gguf", {2, 512, 2, 1, 128, 256, 4096, 0, 0, 0, true}},
  };
}

TEST(Grow, AnswersAsItsSource) {
  const TemporaryFolder folder;
  const auto ids = read_ids(source_path("tests/golden/ids.txt"));
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const auto path = folder / "grown.gguf";
    const auto written = grow_file(source_path(c.from), path, c.target, "F32");
    ASSERT_TRUE(written) << written.error().message;
    LoadedTestModel source(source_path(c.from), kThreads), grown(path, kThreads);
    expect_same_logits(source, grown, ids);
    expect_same_greedy_text(source, grown, std::span(ids).first(16), 1000);
  }
}

TEST(Grow, FullShape) {
  const char* files = std::getenv("RUVLTRA_TEST_GROWN");
  if (files == nullptr) GTEST_SKIP() << "RUVLTRA_TEST_GROWN names no files";
  const std::string both = files;
  const size_t colon = both.find(':');
  ASSERT_NE(colon, std::string::npos) << "expected SOURCE:GROWN";
  LoadedTestModel source(both.substr(0, colon), kThreads), grown(both.substr(colon + 1), kThreads);
  const auto ids = read_ids(source_path("tests/golden/ids.txt"));
  expect_same_logits(source, grown, ids);
  expect_same_greedy_text(source, grown, std::span(ids).first(16), 1000);
}

std::vector<float> vector_of(const WeightSource& source, std::string_view name) {
  const auto tensor = std::ranges::find(source.tensors(), name, &SourceTensor::name);
  EXPECT_NE(tensor, source.tensors().end());
  std::vector<float> values(tensor->dims[0]);
  const auto index = static_cast<size_t>(tensor - source.tensors().begin());
  EXPECT_TRUE(source.read(index, 0, {reinterpret_cast<uint8_t*>(values.data()), 4 * values.size()}));
  return values;
}

// 2048 / 256 is no power of 4, 2048 / (2 x 256) is: with two copies of the stream norms are halved exactly.
TEST(Grow, NormsStayExact) {
  const auto source = WeightSource::open(source_path("models/nano-f16.gguf"));
  const auto grown = grow(std::move(*WeightSource::open(source_path("models/nano-f16.gguf"))),
                          {{4, 2048, 2, 1, 128, 512, 4200, 0, 0, 0, false}, "t", 1});
  ASSERT_TRUE(source && grown);
  for (const char* name : {"blk.2.ffn_norm.weight", "output_norm.weight"}) {
    const auto from = vector_of(**source, name), to = vector_of(**grown, name);
    for (size_t i = 0; i < from.size(); ++i) ASSERT_EQ(to[i], from[i] / 2) << name << " " << i;
    ASSERT_EQ(to[from.size()], 0) << name;
  }
  // The marks take 2 c^2 of the epsilon's share of the sum; nothing is rounded.
  const double eps = (*source)->shape().rms_eps, c = 0x1p-7;
  EXPECT_EQ((*grown)->shape().rms_eps, (512 * eps - 2 * c * c) / 2048);
}

std::string digest_of(const std::filesystem::path& path) {
  const auto bytes = read_file(path, 1 << 30);
  EXPECT_TRUE(bytes);
  return to_hex(sha256(*bytes));
}

TEST(Grow, FileSaysWhatItIsWhateverTheThreads) {
  const TemporaryFolder folder;
  std::string digests[2];
  for (const int n_threads : {1, 3}) {
    const auto written = grow_file(source_path("models/nano-f16.gguf"), folder / "g.gguf",
                                   {8, 512, 4, 2, 128, 768, 4400, 0, 0, 0, false}, "Q4_K_M", n_threads);
    ASSERT_TRUE(written) << written.error().message;
    digests[n_threads / 2] = digest_of(folder / "g.gguf");
  }
  EXPECT_EQ(digests[0], digests[1]);

  const auto file = GgufFile::open(folder / "g.gguf"),
             source = GgufFile::open(source_path("models/nano-f16.gguf"));
  ASSERT_TRUE(file && source);
  const Metadata& metadata = file->metadata();
  EXPECT_EQ(*metadata.get_string("general.name"), "test grown from ruvltra-nano");
  EXPECT_EQ(*metadata.get_string("tokenizer.chat_template"),
            *source->metadata().get_string("tokenizer.chat_template"));
  EXPECT_EQ(*metadata.get_uint("qwen2.context_length", 0, 1 << 20), 2048u);
  const auto shape = ModelShape::from_file(*file);
  ASSERT_TRUE(shape) << shape.error().message;
  EXPECT_TRUE(check_tensors(*shape, "grown", file->tensors()));
  const auto ours = Tokenizer::load(metadata), theirs = Tokenizer::load(source->metadata());
  ASSERT_TRUE(ours && theirs);
  EXPECT_EQ(ours->n_vocab(), 4400u);
  EXPECT_EQ(ours->kind(4096), TokenKind::kUnused);
  EXPECT_EQ(ours->eos(), theirs->eos());
  const std::string text = "Once upon a time, there were 3 bears.";
  EXPECT_EQ(*ours->encode(text, Recognise::kAll), *theirs->encode(text, Recognise::kAll));
}

// Layers between the source's cost what layers cost: their matrices before the zeros are random.
TEST(Grow, IdleLayersHaveWeights) {
  const auto source = WeightSource::open(source_path("models/pico-f16.gguf"));
  ASSERT_TRUE(source);
  const auto grown =
      grow(std::move(*WeightSource::open(source_path("models/pico-f16.gguf"))), {kWide, "t", 1});
  ASSERT_TRUE(grown) << grown.error().message;
  for (size_t i = 0; i < (*grown)->tensors().size(); ++i) {
    const SourceTensor& tensor = (*grown)->tensors()[i];
    if (!tensor.name.starts_with("blk.2.")) continue;
    std::vector<float> values(tensor.n_elements());
    ASSERT_TRUE((*grown)->read(i, 0, {reinterpret_cast<uint8_t*>(values.data()), 4 * values.size()}));
    const auto n_zeros = std::ranges::count(values, 0.0f);
    const bool closes = tensor.name.ends_with("output.weight") || tensor.name.ends_with("down.weight") ||
                        tensor.name.ends_with("bias");
    if (closes) {
      EXPECT_EQ(n_zeros, static_cast<ptrdiff_t>(values.size())) << tensor.name;
    } else if (tensor.dims.size() == 2) {
      EXPECT_LT(n_zeros, 10) << tensor.name;
      const auto row = std::span(values).first(tensor.dims[0]);
      EXPECT_FALSE(std::ranges::equal(row, std::span(values).subspan(row.size(), row.size())));
    }
  }
}

TEST(Grow, RefusesWhatDoesNotFit) {
  const struct {
    const char* error;
    ModelShape target;
  } refused[] = {
      {"grow.shape", {3, 1024, 8, 2, 128, 512, 4608, 0, 0, 0, false}},  // nano has 4 layers
      {"grow.shape", {4, 128, 8, 2, 128, 512, 4608, 0, 0, 0, false}},   // d_model
      {"grow.shape", {4, 257, 8, 2, 128, 512, 4608, 0, 0, 0, false}},   // no room for the marks
      {"grow.shape", {4, 1024, 8, 2, 128, 511, 4608, 0, 0, 0, false}},  // d_ff
      {"grow.vocabulary", {4, 1024, 8, 2, 128, 512, 4095, 0, 0, 0, false}},
      {"grow.head_size", {4, 1024, 8, 2, 96, 512, 4608, 0, 0, 0, false}},
      {"grow.head_size", {4, 1024, 9, 3, 64, 512, 4608, 0, 0, 0, false}},  // 9 heads cannot be paired
      {"grow.heads", {4, 1024, 2, 2, 128, 512, 4608, 0, 0, 0, false}},     // two queries share a key
  };
  for (const auto& [error, target] : refused) {
    const auto result =
        grow(std::move(*WeightSource::open(source_path("models/nano-f16.gguf"))), {target, "t", 1});
    ASSERT_FALSE(result) << error;
    EXPECT_EQ(result.error().id, error) << result.error().message;
    EXPECT_EQ(result.error().kind, ErrorKind::kUsage);
    EXPECT_NE(result.error().message.find("nano-f16.gguf"), std::string::npos);
  }

  const TemporaryFolder folder;
  testing::TinyModel untied = testing::tiny_model(TensorType::kF32, false);
  ASSERT_TRUE(untied.write(folder / "untied.gguf"));
  ModelShape target{2, 256, 16, 8, 16, 256, 300, 0, 0, 0, true};
  EXPECT_EQ(grow(std::move(*WeightSource::open(folder / "untied.gguf")), {target, "t", 1}).error().id,
            "grow.tied");
  target.tied = false;
  EXPECT_TRUE(grow(std::move(*WeightSource::open(folder / "untied.gguf")), {target, "t", 1}));
  untied.metadata.set("qwen2.attention.layer_norm_rms_epsilon", 2e-12f);
  ASSERT_TRUE(untied.write(folder / "untied.gguf"));
  EXPECT_EQ(grow(std::move(*WeightSource::open(folder / "untied.gguf")), {target, "t", 1}).error().id,
            "grow.rms_epsilon");
}

}  // namespace
}  // namespace ruvltra
