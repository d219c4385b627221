#include "model/synth.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/fail.h"
#include "base/sha256.h"
#include "gguf/reader.h"
#include "model/synth_blocks.h"
#include "model/synth_vocab.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

TEST(SynthBlocks, ZeroMeanAndTrueDeviation) {
  for (const Format& format : all_formats()) {
    for (const float deviation : {1 / std::sqrt(2048.0f), 1 / std::sqrt(11008.0f)}) {
      const size_t n = size_t{1} << 18;
      std::vector<uint8_t> blocks(format.row_bytes(n));
      random_blocks({7, 3, deviation}, format, 0, blocks);
      ASSERT_TRUE(format.is_finite(blocks.data(), n));
      std::vector<float> weights(n);
      format.decode(blocks.data(), weights.data(), n);
      double sum = 0, squares = 0;
      for (const float w : weights) {
        sum += w;
        squares += static_cast<double>(w) * w;
      }
      const double mean = sum / static_cast<double>(n), actual = std::sqrt(squares / static_cast<double>(n));
      EXPECT_NEAR(actual / deviation, 1, 0.05) << format.name;
      EXPECT_LT(std::abs(mean) / deviation, 0.02) << format.name;
    }
  }
}

TEST(SynthBlocks, PiecesEqualTheWhole) {
  for (const Format& format : all_formats()) {
    const size_t piece = 16 * format.block_bytes;
    std::vector<uint8_t> whole(5 * piece + format.block_bytes), parts(whole.size());
    random_blocks({1, 2, 0.02f}, format, 0, whole);
    for (size_t at = 0; at < whole.size(); at += 2 * piece) {
      random_blocks({1, 2, 0.02f}, format, at,
                    std::span(parts).subspan(at, std::min(2 * piece, whole.size() - at)));
    }
    EXPECT_EQ(whole, parts) << format.name;
    random_blocks({1, 3, 0.02f}, format, 0, parts);
    EXPECT_NE(whole, parts) << format.name;
    random_blocks({2, 2, 0.02f}, format, 0, parts);
    EXPECT_NE(whole, parts) << format.name;
  }
}

TEST(SynthVocab, SatisfiesTheTokenizer) {
  const struct { size_t n_vocab, first_added; } sizes[] = {{1024, 992}, {151936, 151643}};
  for (const auto& [n_vocab, first_added] : sizes) {
    Metadata metadata;
    set_synthetic_vocabulary(n_vocab, first_added, metadata);
    const auto tokens = *metadata.get_strings("tokenizer.ggml.tokens");
    EXPECT_EQ(tokens.size(), n_vocab);
    EXPECT_EQ(metadata.get_strings("tokenizer.ggml.merges")->size(), first_added - 256);
    EXPECT_EQ(std::set<std::string>(tokens.begin(), tokens.end()).size(), n_vocab);
    const auto tokenizer = Tokenizer::load(metadata);
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    EXPECT_EQ(tokenizer->n_vocab(), n_vocab);
    EXPECT_EQ(tokenizer->added_token("<|im_end|>"), static_cast<TokenId>(first_added) + 2);
    EXPECT_EQ(tokenizer->eos(), static_cast<TokenId>(first_added) + 2);
    EXPECT_EQ(tokenizer->kind(static_cast<TokenId>(first_added) + 14), TokenKind::kUserDefined);
    EXPECT_EQ(tokenizer->kind(static_cast<TokenId>(n_vocab) - 1), TokenKind::kUnused);
    const std::string text = "The quick brown fox, 42 times:\n\n  caf\u00e9 \U0001F999 \t end";
    const auto ids = tokenizer->encode(text, Recognise::kNone);
    ASSERT_TRUE(ids);
    EXPECT_LT(ids->size(), text.size());
    EXPECT_EQ(tokenizer->decode(*ids, true), text);
  }
}

// The template in our own words against the built-in text of the same format.
TEST(SynthVocab, TemplateSaysChatml) {
  const auto parsed = ChatTemplate::parse(kChatmlTemplate);
  ASSERT_TRUE(parsed) << parsed.error().message;
  const ChatMessage system{"system", "Be brief.", {}}, user{"user", "Hi <b>", {}}, empty{"system", "", {}};
  const ChatMessage answer{"assistant", "Hello.", {}}, tool{"tool", "{\"c\": 3}", {}};
  const ChatMessage call{"assistant", "", {{"weather", "{\"city\": \"K\u00f6ln\"}"}, {"time", "{}"}}};
  const ChatMessage said_and_called{"assistant", "Let me see.", {{"time", "{}"}}};
  const std::vector<std::vector<ChatMessage>> talks = {
      {user},
      {system, user},
      {empty, user},
      {user, answer, user},
      {user, system, user},
      {system, user, call, tool, tool, answer, user, said_and_called, tool},
  };
  Json tools = Json::array();
  tools.push_back(
      {{"type", "function"}, {"function", {{"name", "weather"}, {"parameters", Json::object()}}}});
  for (const auto& messages : talks) {
    for (const Json& offered : {Json(nullptr), tools}) {
      for (const bool prompt : {false, true}) {
        const auto ours = parsed->render(messages, offered, prompt);
        const auto theirs = ChatTemplate::chatml().render(messages, offered, prompt);
        ASSERT_TRUE(ours && theirs) << (ours ? theirs.error().message : ours.error().message);
        const auto joined = [](const std::vector<TextRun>& runs) {
          std::string out;
          for (const TextRun& run : runs) out += run.text;
          return out;
        };
        EXPECT_EQ(joined(*ours), joined(*theirs));
      }
    }
  }
}

TEST(Synth, FileIsPinnedWhateverTheThreads) {
  const fs::path folder = fs::temp_directory_path() / fmt::format("ruvltra_synth_{}", getpid());
  fs::create_directories(folder);
  SynthOptions options;
  options.scheme = *find_quant_scheme("Q4_K_M");
  const auto plan = plan_synth(options);
  ASSERT_TRUE(plan);
  std::string digests[2];
  for (const int n_threads : {1, 3}) {
    ThreadPool pool(n_threads);
    const fs::path path = folder / "tiny.gguf";
    const auto n_bytes = synthesize(*plan, path, true, pool, {});
    ASSERT_TRUE(n_bytes) << n_bytes.error().message;
    std::ifstream in(path, std::ios::binary);
    const std::vector<uint8_t> bytes(std::istreambuf_iterator<char>(in), {});
    EXPECT_EQ(bytes.size(), *n_bytes);
    digests[n_threads / 2] = to_hex(sha256(bytes));
  }
  EXPECT_EQ(digests[0], digests[1]);
  EXPECT_EQ(digests[0], "583943afdc389c82ab5f983916df252b7f758be64c70b47c8e005d0f710d1791");
  const auto file = GgufFile::open(folder / "tiny.gguf");
  ASSERT_TRUE(file);
  const auto shape = ModelShape::from_file(*file);
  ASSERT_TRUE(shape) << shape.error().message;
  EXPECT_TRUE(check_tensors(*shape, "tiny", file->tensors()));
  EXPECT_NE(file->metadata().get_string("general.name")->find("random weights"), std::string_view::npos);
  fs::remove_all(folder);
}

TEST(Synth, OptionsChangeTheShape) {
  SynthOptions options;
  options.scheme = *find_quant_scheme("Q8_0");
  options.n_layers = 2;
  options.tied = false;
  options.vocab_from = fs::path(RUVLTRA_SOURCE_DIR) / "models/nano-f16.gguf";
  const auto plan = plan_synth(options);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->shape.n_vocab, 4096u);
  EXPECT_EQ(plan->shape.n_layers, 2u);
  EXPECT_EQ(plan->tensors.back().name, "output.weight");
  EXPECT_EQ(*plan->metadata.get_uint("tokenizer.ggml.eos_token_id", 0, 4095), 4095u);
  options.arch = "large";
  EXPECT_EQ(plan_synth(options).error().id, "synth.arch");
}

}  // namespace
}  // namespace ruvltra
