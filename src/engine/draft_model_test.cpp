#include "engine/draft_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "engine/lookahead.h"
#include "gguf/bytes_for_test.h"
#include "gguf/reader.h"
#include "kernels/dispatch.h"
#include "model/draft_trim.h"
#include "model/quantize.h"
#include "model/qwen2.h"

namespace ruvltra {
namespace {

using testing::TemporaryFolder;

constexpr size_t kWhole = SIZE_MAX;

std::string model_path(const char* name) { return std::string(RUVLTRA_SOURCE_DIR) + "/models/" + name; }

// Any tokens of the models at hand.
std::vector<TokenId> text_of(size_t n, size_t seed = 1) {
  std::vector<TokenId> text;
  for (size_t i = 0; i < n; ++i)
    text.push_back(static_cast<TokenId>((seed * 7919 + i * i * 31 + i * 7) % 4000));
  return text;
}

class DraftModelTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    pool = new ThreadPool(2);
    weights = new Weights(load(model_path("pico-q8_0.gguf")));
  }
  static void TearDownTestSuite() {
    delete weights;
    delete pool;
  }
  static Ctx ctx() { return {pool, *kernel_table()}; }
  static Weights load(const std::filesystem::path& path) {
    const auto file = GgufFile::open(path);
    EXPECT_TRUE(file) << path;
    return std::move(*Weights::load(ctx(), *file, {}, ModelRole::kDraft));
  }

  static DraftModel::Options options(size_t max_positions = 1024, size_t n_pages = 40) {
    DraftModel::Options out;
    out.max_sequences = 3;
    out.max_positions = max_positions;
    out.n_pages = n_pages;
    out.n_target_vocab = 4096;
    return out;
  }
  static DraftModel make(const DraftModel::Options& options, std::span<const TokenId> unused = {},
                         const Weights* of = nullptr) {
    return std::move(*DraftModel::make(ctx(), of != nullptr ? *of : *weights, unused, options));
  }

  // The logits after a text, read at once by nothing but the forward pass.
  static std::vector<float> row_after(std::span<const TokenId> text, const Weights& of = *weights) {
    Workspace workspace =
        std::move(*Workspace::make(of.shape, {.max_tokens = text.size(), .max_positions = 0}, 2));
    KvPool kv = std::move(*KvPool::make(of.shape, KvType::kF16, KvPool::pages_for(text.size())));
    SingleSequence sequence(0, kv.n_pages());
    std::vector<float> row(of.shape.n_logits());
    forward(ctx(), of, kv, workspace, sequence.append(text, SingleSequence::Rows::kLast), {row});
    return row;
  }
  static TokenId best_after(std::span<const TokenId> text) {
    const auto row = row_after(text);
    return static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin());
  }
  static std::vector<TokenId> continue_plainly(std::vector<TokenId> text, size_t n) {
    std::vector<TokenId> out;
    for (; out.size() < n; text.push_back(out.back())) out.push_back(best_after(text));
    return out;
  }

  // n proposals for what follows `text`, or those there were pages for.
  static std::vector<TokenId> draft(DraftModel& model, DraftModel::Context& context,
                                    std::span<const TokenId> text, size_t n, size_t window = kWhole) {
    std::vector<TokenId> out;
    model.catch_up(context, text, window);
    bool is_read = false;
    while (!is_read) {
      const size_t n_unread = model.n_unread(context, text.size());
      EXPECT_GT(n_unread, 0u);
      model.begin();
      const size_t n_now = std::min(n_unread, model.rows_left());
      is_read = n_now == n_unread;
      if (!model.add(context, text.last(n_unread).first(n_now), is_read)) return out;
      model.run();
    }
    for (;;) {
      out.push_back(model.proposal(0, 0).token);
      if (out.size() == n) return out;
      model.begin();
      if (!model.add(context, std::span(out).last(1), true)) return out;
      context.beyond.push_back(out.back());
      model.run();
    }
  }

  static ThreadPool* pool;
  static Weights* weights;
};
ThreadPool* DraftModelTest::pool = nullptr;
Weights* DraftModelTest::weights = nullptr;

TEST_F(DraftModelTest, ProposesWhatItsOwnForwardPassSays) {
  DraftModel model = make(options());
  auto context = model.open(0);
  const auto text = text_of(DraftModel::kMaxRows * 2 + 37);  // three pieces
  EXPECT_EQ(draft(model, context, text, kMaxDraft), continue_plainly(text, kMaxDraft));
  EXPECT_EQ(context.table.n_tokens, text.size() + kMaxDraft - 1);

  const auto row = row_after(text);
  const double highest = static_cast<double>(*std::max_element(row.begin(), row.end()));
  double total = 0;
  for (const float z : row) total += std::exp(static_cast<double>(z) - highest);
  auto other = model.open(0);
  draft(model, other, text, 1);
  EXPECT_NEAR(model.proposal(0, 0).probability, 1 / total, 1e-6);
}

TEST_F(DraftModelTest, CatchesUpWithWhatCameTrue) {
  DraftModel model = make(options());
  for (size_t n_true = 0; n_true <= 4; ++n_true) {
    auto context = model.open(0);
    auto text = text_of(70, n_true);
    const auto proposals = draft(model, context, text, 4);
    ASSERT_EQ(context.table.n_tokens, 73u);
    text.insert(text.end(), proposals.begin(), proposals.begin() + static_cast<std::ptrdiff_t>(n_true));
    text.push_back(proposals[std::min<size_t>(n_true, 3)] ^ 1);  // something else
    text.push_back(17);
    model.catch_up(context, text, kWhole);
    // What came true is not read again; the fourth proposal was never read.
    EXPECT_EQ(model.n_unread(context, text.size()), n_true == 4 ? 3u : 2u);
    EXPECT_EQ(draft(model, context, text, 3), continue_plainly(text, 3)) << n_true;
    model.close(context);
  }
}

// After a step without proposals the text has grown by tokens it has not read.
TEST_F(DraftModelTest, ReadsWhatOthersWrote) {
  DraftModel model = make(options());
  auto context = model.open(0);
  auto text = text_of(60);
  draft(model, context, text, 3);
  const auto more = text_of(20, 5);
  text.insert(text.end(), more.begin(), more.end());
  EXPECT_EQ(draft(model, context, text, 3), continue_plainly(text, 3));
  // A text that has not grown: its last token is read again.
  EXPECT_EQ(draft(model, context, text, 2), continue_plainly(text, 2));
}

TEST_F(DraftModelTest, BeginsAnewWithTheEndOfALongText) {
  DraftModel model = make(options());
  auto context = model.open(0);
  const auto text = text_of(300);
  const std::span end = std::span(text).last(64);
  EXPECT_EQ(draft(model, context, text, 3, 64), continue_plainly({end.begin(), end.end()}, 3));
  EXPECT_EQ(context.first, text.size() - 64);
  // With few unread tokens it goes on from there.
  auto longer = text;
  longer.push_back(7);
  const std::span longer_end = std::span(longer).last(65);
  EXPECT_EQ(draft(model, context, longer, 2, 64),
            continue_plainly({longer_end.begin(), longer_end.end()}, 2));
}

// Whatever its context holds, it never reads beyond.
TEST_F(DraftModelTest, ForgetsWhatItsContextCannotHold) {
  for (const size_t max_positions : {DraftModel::kLeastPositions, size_t{17}, size_t{63}, size_t{100}}) {
    DraftModel model = make(options(max_positions));
    auto context = model.open(0);
    auto text = text_of(3);
    for (size_t step = 0; step < 2 * max_positions; ++step) {
      const auto proposals = draft(model, context, text, kMaxDraft);
      ASSERT_EQ(proposals.size(), kMaxDraft);
      EXPECT_LE(context.table.n_tokens, max_positions);
      EXPECT_EQ(proposals[0], best_after(std::span(text).subspan(context.first))) << max_positions;
      text.push_back(static_cast<TokenId>(step));
    }
    EXPECT_GT(context.first, 0u);
  }
}

TEST_F(DraftModelTest, WithoutPagesThereIsNoProposal) {
  DraftModel model = make(options(256, 2));
  auto first = model.open(0), second = model.open(1);
  const auto text = text_of(100), other = text_of(10, 3);
  EXPECT_EQ(draft(model, first, text, 4), continue_plainly(text, 4));
  EXPECT_TRUE(draft(model, second, other, 4).empty());
  EXPECT_EQ(second.table.n_tokens, 0u);
  // The first one has no further page than the one it is in.
  auto longer = text;
  longer.insert(longer.end(), 40, 9);
  EXPECT_TRUE(draft(model, first, longer, 1).empty());
  model.close(first);
  EXPECT_EQ(draft(model, second, other, 4), continue_plainly(other, 4));
  model.close(second);
  // A page ends in the middle of the proposals.
  auto third = model.open(2);
  const auto full = text_of(126);
  EXPECT_EQ(draft(model, third, full, 6), continue_plainly(full, 3));
}

TEST_F(DraftModelTest, SeveralTextsShareAStep) {
  DraftModel model = make(options());
  std::vector<DraftModel::Context> contexts;
  std::vector<std::vector<TokenId>> texts = {text_of(5), text_of(130, 2), text_of(64, 3), text_of(9, 4)};
  for (size_t i = 0; i < 4; ++i) contexts.push_back(model.open(i));
  model.begin();
  for (size_t i = 0; i < 3; ++i) {
    model.catch_up(contexts[i], texts[i], kWhole);
    ASSERT_TRUE(model.add(contexts[i], texts[i], i != 1));
  }
  EXPECT_EQ(model.n_rows(), 199u);
  EXPECT_FALSE(model.add(contexts[3], texts[3], true)) << "three at most";
  model.run();
  EXPECT_EQ(model.proposal(0, 0).token, best_after(texts[0]));
  EXPECT_EQ(model.proposal(1, 0).token, best_after(texts[2])) << "the second wanted none";
  model.begin();
  EXPECT_FALSE(model.add(contexts[3], std::vector<TokenId>(DraftModel::kMaxRows + 4, 1), true));
  EXPECT_EQ(contexts[3].table.n_tokens, 0u);
}

// Draws are by inversion: the first token whose cumulated share exceeds u.
TEST_F(DraftModelTest, AboveTemperatureZeroItDraws) {
  auto warm = options();
  warm.temperature = 0.8f;
  DraftModel model = make(warm);
  auto context = model.open(0);
  const auto text = text_of(50);
  draft(model, context, text, 1);
  const auto row = row_after(text);
  const double highest = static_cast<double>(*std::max_element(row.begin(), row.end()));
  double total = 0, total_at_one = 0;
  const auto share = [&](size_t i, double t) {
    return std::exp((static_cast<double>(row[i]) - highest) / t);
  };
  for (size_t i = 0; i < row.size(); ++i) {
    total += share(i, 0.8);
    total_at_one += share(i, 1);
  }
  size_t n_kinds = 0;
  TokenId last = -1;
  double sum = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const double from = sum / total;
    sum += share(i, 0.8);
    if (share(i, 0.8) < 1e-3 * total) continue;
    const auto proposal = model.proposal(0, (from + sum / total) / 2);
    EXPECT_EQ(proposal.token, static_cast<TokenId>(i));
    EXPECT_NEAR(proposal.probability, share(i, 1) / total_at_one, 1e-6);
    n_kinds += proposal.token != last;
    last = proposal.token;
  }
  EXPECT_GT(n_kinds, 10u);
  EXPECT_GE(model.proposal(0, 0).token, 0);
  EXPECT_GE(model.proposal(0, 1 - 0x1p-53).token, 0);
}

TEST_F(DraftModelTest, NeverProposesWhatTheOtherCannotSay) {
  const auto text = text_of(40);
  const auto row = row_after(text);
  std::vector<TokenId> order(row.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<TokenId>(i);
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)];
  });
  std::vector<TokenId> unused(order.begin(), order.begin() + 3);
  std::sort(unused.begin(), unused.end());
  for (const float temperature : {0.0f, 1.0f}) {
    auto asked = options();
    asked.temperature = temperature;
    DraftModel model = make(asked, unused);
    auto context = model.open(0);
    draft(model, context, text, 1);
    double total = 0;
    for (size_t i = 3; i < order.size(); ++i)
      total += std::exp(
          static_cast<double>(row[static_cast<size_t>(order[i])] - row[static_cast<size_t>(order[3])]));
    if (temperature == 0) {
      EXPECT_EQ(model.proposal(0, 0).token, order[3]);
      EXPECT_NEAR(model.proposal(0, 0).probability, 1 / total, 1e-5);
    }
    for (int i = 0; i < 200; ++i)
      ASSERT_FALSE(std::binary_search(unused.begin(), unused.end(), model.proposal(0, i / 200.0).token));
  }
  // A vocabulary that ends early, and one that ends at once.
  auto asked = options();
  asked.n_target_vocab = 100;
  DraftModel narrow = make(asked);
  auto context = narrow.open(0);
  draft(narrow, context, text, 1);
  EXPECT_EQ(narrow.proposal(0, 0).token, std::max_element(row.begin(), row.begin() + 100) - row.begin());
  asked.n_target_vocab = 0;
  DraftModel mute = make(asked);
  auto silent = mute.open(0);
  draft(mute, silent, text, 1);
  EXPECT_EQ(mute.proposal(0, 0).token, -1);
}

// The model it drafts for may have more rows, and texts may hold ids of such rows.
TEST_F(DraftModelTest, ReadsTokensThatItDoesNotKnow) {
  DraftModel model = make(options());
  auto context = model.open(0);
  auto text = text_of(20);
  text[7] = 4096;
  text.back() = 1 << 20;
  const auto proposals = draft(model, context, text, 2);
  ASSERT_EQ(proposals.size(), 2u);
  EXPECT_LT(proposals[0], 4096);
}

TEST_F(DraftModelTest, RowsOfATrimmedHeadAreItsTokens) {
  const TemporaryFolder folder;
  std::vector<TokenId> ids;
  for (TokenId id = 2; id < 4096; id += 3) ids.push_back(id);
  const auto source = trim_head(std::move(*WeightSource::open(model_path("pico-f16.gguf"))), ids);
  ASSERT_TRUE(source);
  QuantizeOptions scheme;
  scheme.scheme = *find_quant_scheme("Q8_0");
  auto plan = plan_quantization(**source, scheme);
  ASSERT_TRUE(plan && quantize(**source, *plan, folder / "draft.gguf", {}, *pool));
  const Weights trimmed = load(folder / "draft.gguf");

  const auto text = text_of(30);
  const auto row = row_after(text, trimmed);
  ASSERT_EQ(row.size(), ids.size());
  const auto best = static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
  DraftModel model = make(options(), {}, &trimmed);
  auto context = model.open(0);
  draft(model, context, text, 1);
  EXPECT_EQ(model.proposal(0, 0).token, ids[best]);
  const TokenId forbidden[] = {ids[best]};
  DraftModel other = make(options(), forbidden, &trimmed);
  auto second = other.open(0);
  draft(other, second, text, 1);
  EXPECT_NE(other.proposal(0, 0).token, ids[best]);
  EXPECT_TRUE(std::binary_search(ids.begin(), ids.end(), other.proposal(0, 0).token));
}

class CheckDraft : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto file = GgufFile::open(model_path("nano-q8_0.gguf"));
    ASSERT_TRUE(file);
    metadata_ = file->metadata();
    tokens_ = std::get<std::vector<std::string>>(*metadata_.find("tokenizer.ggml.tokens"));
    types_ = std::get<std::vector<int32_t>>(*metadata_.find("tokenizer.ggml.token_type"));
    target_ = std::move(*Tokenizer::load(metadata_));
  }
  Tokenizer changed() {
    Metadata metadata = metadata_;
    metadata.set("tokenizer.ggml.tokens", tokens_);
    metadata.set("tokenizer.ggml.token_type", types_);
    auto tokenizer = Tokenizer::load(metadata);
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    return std::move(*tokenizer);
  }
  void expect_refused(const std::string& at) {
    const Tokenizer other = changed();
    for (const bool swapped : {false, true}) {
      const auto checked = check_draft(swapped ? other : *target_, swapped ? *target_ : other, "small.gguf");
      ASSERT_FALSE(checked);
      EXPECT_EQ(checked.error().id, "draft.vocabulary");
      EXPECT_EQ(checked.error().kind, ErrorKind::kUsage);
      EXPECT_NE(checked.error().message.find("small.gguf"), std::string::npos);
      EXPECT_NE(checked.error().message.find("token " + at + ":"), std::string::npos)
          << checked.error().message;
    }
  }

  Metadata metadata_;
  std::vector<std::string> tokens_;
  std::vector<int32_t> types_;
  std::optional<Tokenizer> target_;
};

TEST_F(CheckDraft, PaddingMayDiffer) {
  EXPECT_TRUE(check_draft(*target_, changed(), "d"));
  for (int i = 0; i < 5; ++i) {
    tokens_.push_back("[PAD" + std::to_string(i) + "]");
    types_.push_back(static_cast<int32_t>(TokenKind::kUnused));
  }
  const Tokenizer padded = changed();
  ASSERT_EQ(padded.n_vocab(), target_->n_vocab() + 5);
  EXPECT_TRUE(check_draft(*target_, padded, "d"));
  EXPECT_TRUE(check_draft(padded, *target_, "d"));
}

TEST_F(CheckDraft, NamesTheFirstTokenThatDiffers) {
  std::swap(tokens_[4093], tokens_[4095]);  // two control tokens
  expect_refused("4093");
}

TEST_F(CheckDraft, KindsCount) {
  types_[4094] = static_cast<int32_t>(TokenKind::kUserDefined);
  expect_refused("4094");
}

TEST_F(CheckDraft, ATokenMoreIsADifference) {
  tokens_.push_back("<|more|>");
  types_.push_back(static_cast<int32_t>(TokenKind::kControl));
  expect_refused("4096");
}

}  // namespace
}  // namespace ruvltra
