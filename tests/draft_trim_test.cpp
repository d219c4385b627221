// Trimmed drafts (src/model/draft_trim.h): which tokens are kept, and that their logits are those of the
// whole model.
#include "model/draft_trim.h"

#include <algorithm>

#include "base/file.h"
#include "gguf/bytes_for_test.h"
#include "loaded_model.h"
#include "model/grow.h"
#include "model/quantize.h"
#include "tiny_model.h"

namespace ruvltra {
namespace {

using testing::TemporaryFolder;
using testing::tiny_model;
using testing::TinyModel;

Tokenizer nano_tokenizer() {
  return std::move(*Tokenizer::load(GgufFile::open(source_path("models/nano-f16.gguf"))->metadata()));
}

TEST(DraftVocabulary, KeepsSpecialsThenTheMostFrequent) {
  const Tokenizer tokenizer = nano_tokenizer();
  const std::string text = " the king the king the fox";
  const TokenId the = tokenizer.encode(" the", Recognise::kNone)->at(0);
  const TokenId king = tokenizer.encode(" king", Recognise::kNone)->at(0);
  const size_t n_specials = 3;  // <|endoftext|>, <|im_start|>, <|im_end|>
  const auto kept = choose_draft_vocabulary(tokenizer, text, n_specials + 2);
  ASSERT_TRUE(kept) << kept.error().message;
  std::vector<TokenId> expected = {the, king, 4093, 4094, 4095};
  std::ranges::sort(expected);
  EXPECT_EQ(kept->ids, expected);
  EXPECT_EQ(kept->n_corpus_tokens, tokenizer.encode(text, Recognise::kNone)->size());
  EXPECT_EQ(kept->n_corpus_covered, 5u);
}

TEST(DraftVocabulary, FillsWithLowIdsAndLastWithUnused) {
  const auto grown = grow(std::move(*WeightSource::open(source_path("models/pico-f16.gguf"))),
                          {{1, 512, 2, 1, 128, 256, 4200, 0, 0, 0, true}, "t", 1});
  ASSERT_TRUE(grown) << grown.error().message;
  const auto tokenizer = Tokenizer::load((*grown)->metadata());
  ASSERT_TRUE(tokenizer);
  const TokenId the = tokenizer->encode(" the", Recognise::kNone)->at(0);
  const auto few = choose_draft_vocabulary(*tokenizer, " the", 8);
  ASSERT_TRUE(few);
  std::vector<TokenId> expected = {0, 1, 2, 3, the, 4093, 4094, 4095};
  std::ranges::sort(expected);
  EXPECT_EQ(few->ids, expected);
  const auto many = choose_draft_vocabulary(*tokenizer, " the", 4098);
  ASSERT_TRUE(many);
  EXPECT_EQ(many->ids.back(), 4097);
}

TEST(DraftVocabulary, LeavesOutUnusedRowsFirst) {
  TinyModel model = tiny_model();
  model.metadata.set("tokenizer.ggml.merges", std::vector<std::string>{});
  const TokenId unused = 256;
  model.list<int32_t>("tokenizer.ggml.token_type")[unused] = static_cast<int32_t>(TokenKind::kUnused);
  const auto tokenizer = Tokenizer::load(model.metadata);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const auto kept = choose_draft_vocabulary(*tokenizer, "a", tokenizer->n_vocab() - 1);
  ASSERT_TRUE(kept);
  EXPECT_FALSE(std::ranges::binary_search(kept->ids, unused));
}

TEST(DraftVocabulary, CountsTextsLongerThanAPiece) {
  const Tokenizer tokenizer = nano_tokenizer();
  std::string text;
  while (text.size() < (size_t{5} << 19)) text += "1234567 times upon a time\n";
  const auto kept = choose_draft_vocabulary(tokenizer, text, 4096);
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->n_corpus_tokens, tokenizer.encode(text, Recognise::kAll)->size());
  EXPECT_EQ(kept->n_corpus_covered, kept->n_corpus_tokens);
}

TEST(DraftVocabulary, Refuses) {
  const Tokenizer tokenizer = nano_tokenizer();
  for (const size_t n : {size_t{0}, size_t{3}, size_t{4097}}) {
    EXPECT_EQ(choose_draft_vocabulary(tokenizer, "the", n).error().id, "draft.vocab") << n;
  }
  EXPECT_EQ(choose_draft_vocabulary(tokenizer, "", 100).error().id, "draft.corpus");
  EXPECT_EQ(choose_draft_vocabulary(tokenizer, "a\xff", 100).error().id, "draft.corpus");
}

Result<uint64_t> convert(const WeightSource& source, const std::filesystem::path& out, std::string_view type,
                         bool pure) {
  QuantizeOptions options;
  ASSIGN_OR_RETURN(options.scheme, find_quant_scheme(type));
  options.pure = pure;
  ASSIGN_OR_RETURN(QuantizePlan plan, plan_quantization(source, options));
  ThreadPool pool(2);
  QuantizeRun run;
  run.overwrite = true;
  return quantize(source, plan, out, run, pool);
}

std::vector<TokenId> every_third(size_t n_vocab) {
  std::vector<TokenId> ids;
  for (size_t id = 1; id < n_vocab; id += 3) ids.push_back(static_cast<TokenId>(id));
  return ids;
}

// Rows of a matrix are encoded each on its own, so the kept logits equal the whole model's bit for bit.
void expect_rows_of_the_whole(const std::filesystem::path& from, std::string_view type) {
  SCOPED_TRACE(from.string() + " " + std::string(type));
  const TemporaryFolder folder;
  auto source = std::move(*WeightSource::open(from));
  ASSERT_TRUE(convert(*source, folder / "whole.gguf", type, true));
  const std::vector<TokenId> ids = every_third(source->shape().n_vocab);
  const auto trimmed = trim_head(std::move(source), ids);
  ASSERT_TRUE(trimmed) << trimmed.error().message;
  ASSERT_TRUE(convert(**trimmed, folder / "draft.gguf", type, true));

  LoadedTestModel whole(folder / "whole.gguf", 2), draft(folder / "draft.gguf", 2, {}, ModelRole::kDraft);
  EXPECT_TRUE(whole.weights.head_ids.empty());
  ASSERT_EQ(draft.weights.head_ids, ids);
  EXPECT_EQ(draft.weights.shape.n_logits(), ids.size());
  EXPECT_EQ(draft.weights.head().n_rows(), ids.size());
  EXPECT_LT(draft.weights.bytes_per_token(), whole.weights.bytes_per_token());
  std::vector<TokenId> tokens;
  for (TokenId token = 0; token < 40; ++token) tokens.push_back(token * 5);
  const size_t n_vocab = whole.weights.shape.n_vocab;
  const auto all = whole.run(tokens, 0, false).logits, kept = draft.run(tokens, 0, false).logits;
  ASSERT_EQ(kept.size(), tokens.size() * ids.size());
  size_t n_different = 0;
  for (size_t t = 0; t < tokens.size(); ++t) {
    for (size_t i = 0; i < ids.size(); ++i)
      n_different += kept[t * ids.size() + i] != all[t * n_vocab + static_cast<size_t>(ids[i])];
  }
  EXPECT_EQ(n_different, 0u);
}

TEST(TrimmedDraft, LogitsAreThoseOfTheWholeModel) {
  const TemporaryFolder folder;
  for (const char* type : {"F16", "Q8_0", "Q4_0"})
    expect_rows_of_the_whole(source_path("models/pico-f16.gguf"), type);
  TinyModel untied = tiny_model(TensorType::kF32, false);
  ASSERT_TRUE(untied.write(folder / "untied.gguf"));
  expect_rows_of_the_whole(folder / "untied.gguf", "Q8_0");
}

TEST(TrimmedDraft, IsNoMainModelAndIsTrimmedOnce) {
  const TemporaryFolder folder;
  const auto pico = source_path("models/pico-f16.gguf");
  const auto trimmed = trim_head(std::move(*WeightSource::open(pico)), every_third(4096));
  ASSERT_TRUE(trimmed && convert(**trimmed, folder / "draft.gguf", "Q4_0", false));
  ThreadPool pool(1);
  const Ctx ctx{&pool, *kernel_table()};
  const auto file = GgufFile::open(folder / "draft.gguf");
  ASSERT_TRUE(file);
  const auto loaded = Weights::load(ctx, *file);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().id, "model.trimmed_draft");
  EXPECT_NE(loaded.error().message.find("use it with --draft"), std::string::npos);

  // Another conversion keeps the draft as it is; another trimming, or growth, is refused.
  auto again = WeightSource::open(folder / "draft.gguf");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ((*again)->shape().n_logits(), 1365u);
  const auto twice = trim_head(std::move(*again), {1});
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().id, "draft.trimmed");
  EXPECT_EQ(grow(std::move(*WeightSource::open(folder / "draft.gguf")), {ModelShape(), "t", 1}).error().id,
            "grow.trimmed");
}

}  // namespace
}  // namespace ruvltra
