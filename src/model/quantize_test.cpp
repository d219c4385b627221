#include "model/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <regex>

#include "base/fail.h"
#include "base/num.h"
#include "gguf/reader.h"
#include "gguf/writer.h"
#include "model/synth.h"

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = RUVLTRA_SOURCE_DIR;
const fs::path kNano = kSource / "models/nano-f16.gguf";

class QuantizeTest : public testing::Test {
 protected:
  QuantizeTest() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / fmt::format("ruvltra_{}_{}", test->name(), getpid());
    fs::create_directories(folder_);
  }
  ~QuantizeTest() override { fs::remove_all(folder_); }

  fs::path path(const std::string& name) const { return folder_ / name; }
  static std::string bytes_of(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  struct Outcome {
    QuantizePlan plan;
    uint64_t n_bytes = 0;
  };
  static Result<Outcome> convert(const fs::path& in, const fs::path& out, QuantizeOptions options,
                                 int n_threads, const QuantizeRun& run = {}) {
    ASSIGN_OR_RETURN(const auto source, WeightSource::open(in));
    Outcome outcome;
    ASSIGN_OR_RETURN(outcome.plan, plan_quantization(*source, options));
    ThreadPool pool(n_threads);
    ASSIGN_OR_RETURN(outcome.n_bytes, quantize(*source, outcome.plan, out, run, pool));
    return outcome;
  }
  static QuantizeOptions scheme(std::string_view name) {
    QuantizeOptions options;
    options.scheme = *find_quant_scheme(name);
    return options;
  }

  fs::path folder_;
};

std::vector<float> read_weights(const GgufFile& file, const TensorInfo& tensor) {
  std::vector<uint8_t> bytes(tensor.n_bytes);
  EXPECT_TRUE(file.read(tensor, 0, bytes));
  std::vector<float> out(tensor.n_elements);
  format_of(tensor.type).decode(bytes.data(), out.data(), out.size());
  return out;
}

// --- against llama.cpp's quantizer (tests/golden/README.md)
// ---------------------------------------------------------

struct Errors {
  double plain = 0;     // sum of squared errors
  double weighted = 0;  // the same, each times the square of the weight
};
Errors errors_of(const std::vector<float>& exact, const std::vector<float>& restored) {
  Errors out;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = static_cast<double>(exact[i]) - restored[i];
    out.plain += error * error;
    out.weighted += error * error * exact[i] * exact[i];
  }
  return out;
}

class PeerTest : public QuantizeTest, public testing::WithParamInterface<const char*> {};

TEST_P(PeerTest, SameTypesAndNoLargerErrors) {
  const std::string type = GetParam();
  const auto peer = GgufFile::open(kSource / ("tests/golden/nano-" + type + ".gguf"));
  if (!peer) GTEST_SKIP() << peer.error().message;
  ASSERT_TRUE(convert(kNano, path("ours.gguf"), scheme(type), 2));
  const auto exact = GgufFile::open(kNano), ours = GgufFile::open(path("ours.gguf"));
  ASSERT_TRUE(exact && ours);
  EXPECT_EQ(*ours->metadata().get_uint("general.file_type", 0, 100),
            *peer->metadata().get_uint("general.file_type", 0, 100));

  double worst_plain = 0, worst_weighted = 0;
  for (const TensorInfo& tensor : exact->tensors()) {
    const TensorInfo *a = ours->find(tensor.name), *b = peer->find(tensor.name);
    ASSERT_TRUE(a != nullptr && b != nullptr) << tensor.name;
    EXPECT_EQ(format_of(a->type).name, format_of(b->type).name) << tensor.name;
    if (tensor.dims.size() < 2) continue;
    const auto weights = read_weights(*exact, tensor);
    const Errors mine = errors_of(weights, read_weights(*ours, *a)),
                 theirs = errors_of(weights, read_weights(*peer, *b));
    EXPECT_LE(mine.plain, theirs.plain) << tensor.name;
    EXPECT_LE(mine.weighted, theirs.weighted) << tensor.name;
    worst_plain = std::max(worst_plain, std::sqrt(mine.plain / theirs.plain));
    worst_weighted = std::max(worst_weighted, std::sqrt(mine.weighted / theirs.weighted));
  }
  std::printf("%s: largest RMSE ratio ours / llama.cpp %.4f, weighted by the squared weight %.4f\n",
              type.c_str(), worst_plain, worst_weighted);
}
INSTANTIATE_TEST_SUITE_P(Types, PeerTest, testing::Values("Q8_0", "Q5_K_M", "Q4_K_M"));

// --- the file
// ---------------------------------------------------------------------------------------------------------

TEST_F(QuantizeTest, BytesDoNotDependOnThreads) {
  const auto one = convert(kNano, path("1.gguf"), scheme("Mixed"), 1);
  const auto three = convert(kNano, path("3.gguf"), scheme("Mixed"), 3);
  ASSERT_TRUE(one && three);
  EXPECT_EQ(one->n_bytes, fs::file_size(path("1.gguf")));
  EXPECT_EQ(bytes_of(path("1.gguf")), bytes_of(path("3.gguf")));
  for (size_t i = 0; i < one->plan.tensors.size(); ++i) {
    EXPECT_EQ(one->plan.tensors[i].rmse, three->plan.tensors[i].rmse);
  }
  EXPECT_GT(one->plan.tensors.back().rmse + one->plan.tensors[11].rmse, 0);
}

TEST_F(QuantizeTest, ReportedErrorsAreTheFilesErrors) {
  const auto done = convert(kNano, path("q.gguf"), scheme("Q4_0"), 2);
  const auto exact = GgufFile::open(kNano), ours = GgufFile::open(path("q.gguf"));
  ASSERT_TRUE(done && exact && ours);
  for (const TensorConversion& conversion : done->plan.tensors) {
    const auto weights = read_weights(*exact, *exact->find(conversion.name));
    const auto restored = read_weights(*ours, *ours->find(conversion.name));
    const double rmse = std::sqrt(errors_of(weights, restored).plain / static_cast<double>(weights.size()));
    EXPECT_NEAR(conversion.rmse, rmse, 1e-9 + 1e-6 * rmse) << conversion.name;
  }
}

TEST_F(QuantizeTest, SameTypeIsACopyAndOtherTypesNeedPermission) {
  ASSERT_TRUE(convert(kNano, path("a.gguf"), scheme("Q4_K_M"), 2));
  ASSERT_TRUE(convert(path("a.gguf"), path("b.gguf"), scheme("Q4_K_M"), 2));
  EXPECT_EQ(bytes_of(path("a.gguf")), bytes_of(path("b.gguf")));
  auto options = scheme("Q8_0");
  const auto refused = convert(path("a.gguf"), path("c.gguf"), options, 2);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().id, "quantize.requantize");
  EXPECT_FALSE(fs::exists(path("c.gguf")));
  options.allow_requantize = true;
  EXPECT_TRUE(convert(path("a.gguf"), path("c.gguf"), options, 2));
}

TEST_F(QuantizeTest, ExistingFilesAreKept) {
  ASSERT_TRUE(convert(kNano, path("a.gguf"), scheme("Q8_0"), 1));
  const auto again = convert(kNano, path("a.gguf"), scheme("Q4_0"), 1);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().id, "file.exists");
  QuantizeRun run;
  run.overwrite = true;
  EXPECT_TRUE(convert(kNano, path("a.gguf"), scheme("Q4_0"), 1, run));
}

TEST_F(QuantizeTest, StopLeavesNothingBehind) {
  QuantizeRun run;
  int calls = 0;
  run.progress = [&](uint64_t done, uint64_t total) { return done <= total && ++calls < 3; };
  const auto stopped = convert(kNano, path("a.gguf"), scheme("Q8_0"), 2, run);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kCancelled);
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(QuantizeTest, WeightsThatAreNotFiniteAreNamed) {
  std::string bytes = bytes_of(kNano);
  const auto file = GgufFile::open(kNano);
  const TensorInfo* tensor = file->find("blk.2.ffn_up.weight");
  const uint16_t infinity = 0x7c00;
  std::memcpy(bytes.data() + tensor->offset + 2 * (256 * 300 + 5), &infinity, 2);
  std::ofstream(path("bad.gguf"), std::ios::binary) << bytes;
  for (const char* type : {"Q4_K_M", "F16"}) {
    const auto refused = convert(path("bad.gguf"), path("out.gguf"), scheme(type), 2);
    ASSERT_FALSE(refused) << type;
    EXPECT_EQ(refused.error().id, "quantize.not_finite");
    EXPECT_NE(refused.error().message.find("blk.2.ffn_up.weight"), std::string::npos)
        << refused.error().message;
  }
}

TEST_F(QuantizeTest, RulesAndPureDecideTypes) {
  auto options = scheme("Q4_K_M");
  for (const char* rule : {"ffn_(gate|up)=Q8_0", "ffn_=Q5_0", "blk\\.[01]\\.attn_q=f16"}) {
    options.rules.push_back(*parse_type_rule(rule));
  }
  const auto source = WeightSource::open(kNano);
  ASSERT_TRUE(source);
  const auto type_of = [&](const QuantizeOptions& o, std::string_view name) {
    const auto plan = plan_quantization(**source, o);
    for (const TensorConversion& tensor : plan->tensors) {
      if (tensor.name == name) return format_of(tensor.to).name;
    }
    return std::string_view();
  };
  EXPECT_EQ(type_of(options, "blk.0.ffn_gate.weight"), "Q8_0");
  EXPECT_EQ(type_of(options, "blk.0.ffn_down.weight"), "Q5_0");
  EXPECT_EQ(type_of(options, "blk.0.ffn_norm.weight"), "F32");
  EXPECT_EQ(type_of(options, "blk.1.attn_q.weight"), "F16");
  EXPECT_EQ(type_of(options, "blk.2.attn_q.weight"), "Q4_K");
  EXPECT_EQ(type_of(options, "token_embd.weight"), "Q6_K");
  options = scheme("Q4_K_M");
  options.pure = true;
  EXPECT_EQ(type_of(options, "token_embd.weight"), "Q4_K");
  EXPECT_EQ(type_of(options, "blk.3.attn_v.weight"), "Q4_K");
}

// --- importance matrix
// ------------------------------------------------------------------------------------------------

Result<void> write_floats(const fs::path& path,
                          const std::vector<std::pair<std::string, std::vector<float>>>& tensors) {
  std::vector<TensorPlan> plans;
  for (const auto& [name, values] : tensors) plans.push_back({name, TensorType::kF32, {values.size()}});
  ASSIGN_OR_RETURN(GgufWriter writer, GgufWriter::create(path, Metadata(), plans, true));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& values = tensors[i].second;
    RETURN_IF_ERROR(writer.write(i, 0, {reinterpret_cast<const uint8_t*>(values.data()), 4 * values.size()}));
  }
  return writer.finish();
}

TEST_F(QuantizeTest, ImportanceLowersTheErrorOfImportantColumns) {
  const std::string name = "blk.0.attn_q.weight";
  std::vector<float> sums(256, 1.0f);
  for (size_t i = 0; i < 256; i += 8) sums[i] = 500;
  ASSERT_TRUE(write_floats(path("m.gguf"), {{name + ".in_sum2", sums}, {name + ".counts", {10}}}));
  const auto importance = ImportanceMatrix::load(path("m.gguf"));
  ASSERT_TRUE(importance) << importance.error().message;
  EXPECT_FLOAT_EQ((*importance->find(name))[8], 50);
  QuantizeRun run;
  run.importance = &*importance;
  ASSERT_TRUE(convert(kNano, path("plain.gguf"), scheme("Q4_K_M"), 2));
  ASSERT_TRUE(convert(kNano, path("guided.gguf"), scheme("Q4_K_M"), 2, run));
  const auto exact = GgufFile::open(kNano), plain = GgufFile::open(path("plain.gguf")),
             guided = GgufFile::open(path("guided.gguf"));
  ASSERT_TRUE(exact && plain && guided);
  const auto error = [&](const GgufFile& file) {
    const auto weights = read_weights(*exact, *exact->find(name)),
               restored = read_weights(file, *file.find(name));
    double sum = 0;
    for (size_t i = 0; i < weights.size(); i += 8) sum += std::pow(weights[i] - restored[i], 2);
    return sum;
  };
  EXPECT_LT(error(*guided), 0.6 * error(*plain));
  EXPECT_EQ(read_weights(*plain, *plain->find("blk.0.ffn_up.weight")),
            read_weights(*guided, *guided->find("blk.0.ffn_up.weight")));
}

TEST_F(QuantizeTest, BadImportanceIsRefused) {
  const std::string name = "blk.0.attn_q.weight";
  const auto load_error = [&](const std::vector<std::pair<std::string, std::vector<float>>>& tensors) {
    EXPECT_TRUE(write_floats(path("m.gguf"), tensors));
    const auto loaded = ImportanceMatrix::load(path("m.gguf"));
    return loaded ? std::string_view("loaded") : loaded.error().id;
  };
  EXPECT_EQ(load_error({{name + ".in_sum2", {1, 2}}}), "imatrix.tensor");
  EXPECT_EQ(load_error({{name + ".counts", {1}}}), "imatrix.tensor");
  EXPECT_EQ(load_error({{name + ".in_sum2", {1, -2}}, {name + ".counts", {1}}}), "imatrix.tensor");
  EXPECT_EQ(load_error({{name + ".in_sum2", {1, NAN}}, {name + ".counts", {1}}}), "imatrix.tensor");
  EXPECT_EQ(load_error({{name + ".in_sum2", {1, 2}}, {name + ".counts", {1, 1}}}), "imatrix.tensor");
  EXPECT_EQ(load_error({{name + ".in_sum2", {1, 2}}, {name + ".counts", {1}}}), "loaded");
  const auto importance = ImportanceMatrix::load(path("m.gguf"));
  QuantizeRun run;
  run.importance = &*importance;
  const auto refused = convert(kNano, path("q.gguf"), scheme("Q4_K_M"), 1, run);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().id, "imatrix.shape");
}

// --- policy
// -------------------------------------------------------------------------------------------------------------

TEST(QuantPolicy, MoreBitsAsPublished) {
  const auto layers = [](size_t n) {
    std::vector<size_t> out;
    for (size_t i = 0; i < n; ++i) {
      if (use_more_bits(i, n)) out.push_back(i);
    }
    return out;
  };
  EXPECT_EQ(layers(32), (std::vector<size_t>{0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}));
  EXPECT_EQ(layers(36).size(), 18u);
  EXPECT_EQ(layers(24).size(), 12u);
  EXPECT_EQ(layers(4), (std::vector<size_t>{2, 3}));
  EXPECT_EQ(layers(1), (std::vector<size_t>{0}));
}

// Sizes of docs/quantize.md, in bytes of weights.
TEST(QuantPolicy, SizesOfTheMediumModel) {
  const struct {
    const char* type;
    size_t n_layers;
    bool tied;
    double gigabytes;
  } rows[] = {{"Q4_K_M", 32, false, 1.914}, {"Q5_K_M", 32, false, 2.215}, {"Q8_0", 32, false, 3.283},
              {"Mixed", 32, false, 2.868},  {"F16", 32, false, 6.178},    {"Q4_K_M", 36, true, 1.924},
              {"Q5_K_M", 36, true, 2.219},  {"Q8_0", 36, true, 3.280},    {"Mixed", 36, true, 2.777},
              {"F16", 36, true, 6.172}};
  for (const auto& row : rows) {
    SynthOptions options;
    options.arch = "medium";
    options.scheme = *find_quant_scheme(row.type);
    options.n_layers = row.n_layers;
    options.tied = row.tied;
    const auto plan = plan_synth(options);
    ASSERT_TRUE(plan);
    uint64_t n_bytes = 0;
    for (const TensorPlan& tensor : plan->tensors) {
      n_bytes +=
          format_of(tensor.type).row_bytes(tensor.dims[0]) * (tensor.dims.size() == 2 ? tensor.dims[1] : 1);
    }
    EXPECT_NEAR(static_cast<double>(n_bytes) * 1e-9, row.gigabytes, 0.0006)
        << row.type << " " << row.n_layers;
    EXPECT_EQ(plan->n_elements, row.n_layers == 32 ? 3'088'795'648u : 3'085'938'688u);
  }
}

TEST(QuantPolicy, RowsThatDoNotFitFallBack) {
  const std::vector<TypeRule> none;
  PolicyInput policy{*find_quant_scheme("Q4_K_M"), none, false, 24, true};
  const auto type = [&](std::string_view name, std::vector<uint64_t> dims) {
    const TypeChoice choice = choose_type(policy, name, dims);
    return fmt::format("{}<{}", format_of(choice.type).name, format_of(choice.wished).name);
  };
  EXPECT_EQ(type("blk.9.attn_q.weight", {896, 896}), "Q5_0<Q4_K");
  EXPECT_EQ(type("blk.0.attn_v.weight", {896, 128}), "Q8_0<Q6_K");
  EXPECT_EQ(type("blk.9.ffn_down.weight", {4864, 896}), "Q4_K<Q4_K");
  EXPECT_EQ(type("token_embd.weight", {896, 151936}), "Q8_0<Q6_K");
  EXPECT_EQ(type("blk.9.attn_q.weight", {100, 896}), "F16<Q4_K");
  EXPECT_EQ(type("blk.9.attn_norm.weight", {896}), "F32<F32");
  policy.scheme = *find_quant_scheme("q5_k_m");
  EXPECT_EQ(type("blk.9.attn_q.weight", {896, 896}), "Q5_1<Q5_K");
  policy.tied = false;
  EXPECT_EQ(type("token_embd.weight", {2048, 151936}), "Q5_K<Q5_K");
  EXPECT_EQ(type("output.weight", {2048, 151936}), "Q6_K<Q6_K");
  EXPECT_FALSE(find_quant_scheme("Q4_K_X"));
  EXPECT_EQ(parse_type_rule("attn_q").error().id, "quantize.pattern");
  EXPECT_EQ(parse_type_rule("attn_q=Q3_K").error().id, "quantize.type");
}

// --- patterns
// -----------------------------------------------------------------------------------------------------------

bool found(std::string_view pattern, std::string_view name) {
  const auto parsed = NamePattern::parse(pattern);
  EXPECT_TRUE(parsed) << pattern;
  return parsed && parsed->found_in(name);
}

TEST(NamePattern, Examples) {
  EXPECT_TRUE(found("attn_v", "blk.0.attn_v.weight"));
  EXPECT_FALSE(found("attn_v\\.bias", "blk.0.attn_v.weight"));
  EXPECT_TRUE(found("blk\\.(1|2)[0-9]\\.", "blk.17.attn_v.weight"));
  EXPECT_FALSE(found("blk\\.(1|2)[0-9]\\.", "blk.7.attn_v.weight"));
  EXPECT_TRUE(found("[^a-z]attn", "blk.0.attn_q"));
  EXPECT_TRUE(found("[]x]", "a]b"));
}

TEST(NamePattern, BadPatternsAreRefused) {
  for (const char* pattern :
       {"", "*a", "a|", "|a", "(", ")", "a)", "(a", "()", "[", "[]", "[a", "a\\", "[b-a]", "(|a)", "+"}) {
    const auto parsed = NamePattern::parse(pattern);
    ASSERT_FALSE(parsed) << pattern;
    EXPECT_EQ(parsed.error().id, "quantize.pattern");
    EXPECT_EQ(parsed.error().kind, ErrorKind::kUsage);
  }
  EXPECT_FALSE(NamePattern::parse(std::string(257, 'a')));
}

// Backtracking would need 2^n steps; this takes n.
TEST(NamePattern, TimeIsLinear) {
  EXPECT_FALSE(found("((a*)*(a|a)*)*b", std::string(20'000, 'a')));
  EXPECT_FALSE(found(std::string(80, '(') + "a" + std::string(80, ')') + "+b", std::string(20'000, 'a')));
}

// Random patterns built to be valid, against the standard library's engine.
class RandomPattern {
 public:
  explicit RandomPattern(uint64_t seed) : random_(seed) {}
  std::string make(int depth) {
    std::string out;
    for (int n = 1 + pick(3); n > 0; --n) out += piece(depth);
    return pick(4) == 0 ? out + "|" + piece(depth) : out;
  }
  std::string name() {
    std::string out;
    for (int n = pick(8); n > 0; --n) out += "abc"[pick(3)];
    return out;
  }

 private:
  int pick(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  std::string piece(int depth) {
    std::string out;
    switch (pick(depth > 0 ? 6 : 5)) {
      case 0:
        out = "a";
        break;
      case 1:
        out = "b";
        break;
      case 2:
        out = ".";
        break;
      case 3:
        out = "[ac]";
        break;
      case 4:
        out = "[^b]";
        break;
      default:
        out = "(" + make(depth - 1) + ")";
        break;
    }
    const int repeat = pick(6);
    return repeat < 3 ? out + "*+?"[repeat] : out;
  }
  std::mt19937_64 random_;
};

TEST(NamePattern, AgreesWithTheStandardLibrary) {
  RandomPattern random(5);
  for (int i = 0; i < 1500; ++i) {
    const std::string pattern = random.make(2);
    const std::regex oracle(pattern);
    for (int n = 0; n < 6; ++n) {
      const std::string name = random.name();
      ASSERT_EQ(found(pattern, name), std::regex_search(name, oracle)) << pattern << " on \"" << name << '"';
    }
  }
}

}  // namespace
}  // namespace ruvltra
