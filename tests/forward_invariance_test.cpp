// Bit for bit: the logits of a sequence do not depend on how it is cut into steps, on threads, on the
// instruction set, on where its pages lie, or on what else is in the step.
#include <algorithm>

#include "loaded_model.h"

namespace ruvltra {
namespace {

// Long enough for several pages and, with 600 tokens, more than one split of 512 positions.
std::vector<TokenId> text(size_t begin, size_t n) {
  const auto all = read_ids(source_path("tests/golden/ids4096.txt"));
  return {all.begin() + static_cast<std::ptrdiff_t>(begin),
          all.begin() + static_cast<std::ptrdiff_t>(begin + n)};
}

size_t count_differences(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  size_t n = 0;
  for (size_t i = 0; i < a.size(); ++i) n += std::memcmp(&a[i], &b[i], sizeof(float)) != 0;
  return n;
}

class Invariance : public testing::TestWithParam<const char*> {
 protected:
  std::string path() const { return source_path(GetParam()); }
};

TEST_P(Invariance, ChunksAndThreads) {
  const auto tokens = text(0, 600);
  const auto whole = LoadedTestModel(path(), 1).run(tokens, 0, false).logits;
  for (const int n_threads : {1, 2, 3}) {
    LoadedTestModel model(path(), n_threads);
    for (const size_t chunk : {size_t{7}, size_t{64}, size_t{0}}) {
      EXPECT_EQ(count_differences(model.run(tokens, chunk, false).logits, whole), 0u)
          << n_threads << " threads, chunks of " << chunk;
    }
  }
  EXPECT_EQ(count_differences(LoadedTestModel(path(), 4).run(tokens, 1, false).logits, whole), 0u);
}

TEST_P(Invariance, InstructionSets) {
  const auto tokens = text(100, 100);
  const auto scalar = LoadedTestModel(path(), 2, "scalar").run(tokens, 64, false).logits;
  for (const std::string_view isa : supported_isas()) {
    LoadedTestModel model(path(), 2, std::string(isa));
    ASSERT_EQ(model.ctx.kernels->isa, isa);
    EXPECT_EQ(count_differences(model.run(tokens, 64, false).logits, scalar), 0u) << isa;
  }
}

TEST_P(Invariance, ExactPathChunksAndInstructionSets) {
  const auto tokens = text(300, 70);
  const auto scalar = LoadedTestModel(path(), 2, "scalar").run(tokens, 0, true).logits;
  for (const std::string_view isa : supported_isas()) {
    EXPECT_EQ(
        count_differences(LoadedTestModel(path(), 2, std::string(isa)).run(tokens, 1, true).logits, scalar),
        0u)
        << isa;
  }
}

TEST_P(Invariance, Q8CacheChunksThreadsAndInstructionSets) {
  const auto tokens = text(600, 560);
  const auto run = [&](int n_threads, std::string_view isa, size_t chunk) {
    LoadedTestModel model(path(), n_threads, std::string(isa));
    model.kv_type = KvType::kQ8_0;
    return model.run(tokens, chunk, false).logits;
  };
  const auto whole = run(1, "", 0);
  EXPECT_EQ(count_differences(run(2, "", 64), whole), 0u);
  EXPECT_EQ(count_differences(run(3, "", 1), whole), 0u);
  for (const std::string_view isa : supported_isas()) {
    if (isa == "scalar") continue;
    EXPECT_EQ(count_differences(run(2, isa, 33), whole), 0u) << isa;
  }
  const auto beginning = std::vector<TokenId>(tokens.begin(), tokens.begin() + 70);
  LoadedTestModel scalar(path(), 2, "scalar");
  scalar.kv_type = KvType::kQ8_0;
  const auto found = scalar.run(beginning, 0, false).logits;
  EXPECT_EQ(count_differences(found, std::span(whole).first(found.size())), 0u);
}

// Rounding keys and values to 8 bits changes the distributions a little, and only a little.
TEST_P(Invariance, Q8CacheIsCloseToF16) {
  const auto tokens = text(600, 560);
  LoadedTestModel model(path(), 2);
  const auto half = model.run(tokens, 0, false).logits;
  model.kv_type = KvType::kQ8_0;
  const auto quantised = model.run(tokens, 0, false).logits;
  const double kl = mean_kl(half, quantised, model.weights.shape.n_vocab);
  EXPECT_GT(kl, 0);
  EXPECT_LT(kl, 1e-3);
}

// Three sequences advance in shared steps, with interleaved pages that held other text before.
TEST_P(Invariance, NeighboursAndPages) {
  LoadedTestModel model(path(), 2);
  const ModelShape& shape = model.weights.shape;
  constexpr size_t kSequences = 3;
  constexpr size_t kTokens = 130;
  const size_t chunk_of[kSequences] = {5, 1, 33};

  KvPool kv = std::move(*KvPool::make(shape, KvType::kF16, kSequences * 3));
  Workspace::Options options;
  options.max_tokens = 64;
  Workspace workspace = std::move(*Workspace::make(shape, options, 2));
  std::vector<float> discarded(shape.n_vocab * 64);
  {
    SingleSequence dirt(0, kv.n_pages());
    for (size_t begin = 0; begin + 64 <= dirt.capacity(); begin += 64) {
      const auto tokens = text(begin + 1000, 64);
      forward(model.ctx, model.weights, kv, workspace, dirt.append(tokens, SingleSequence::Rows::kNone), {});
    }
  }

  std::vector<std::vector<TokenId>> texts;
  std::vector<std::vector<PageId>> pages(kSequences);
  std::vector<StepSequence> sequences;
  std::vector<std::vector<float>> found(kSequences);
  for (size_t s = 0; s < kSequences; ++s) {
    texts.push_back(text(500 * s, kTokens));
    for (size_t p = 0; p < 3; ++p)
      pages[s].push_back(static_cast<PageId>(p * kSequences + (s + p) % kSequences));
    sequences.push_back({pages[s]});
  }
  std::vector<size_t> done(kSequences);
  std::vector<float> logits(64 * shape.n_vocab);
  while (*std::min_element(done.begin(), done.end()) < kTokens) {
    std::vector<TokenId> tokens;
    std::vector<int32_t> positions, seq_of;
    std::vector<KvSlot> slots;
    for (size_t s = 0; s < kSequences; ++s) {
      for (size_t i = 0; i < chunk_of[s] && done[s] < kTokens; ++i, ++done[s]) {
        tokens.push_back(texts[s][done[s]]);
        positions.push_back(static_cast<int32_t>(done[s]));
        seq_of.push_back(static_cast<int32_t>(s));
        slots.push_back({pages[s][done[s] / kPageTokens], static_cast<int32_t>(done[s] % kPageTokens)});
      }
    }
    const std::vector<RowOutput> wanted(tokens.size(), RowOutput::kLogits);
    StepInput in;
    in.tokens = tokens;
    in.positions = positions;
    in.seq_of = seq_of;
    in.kv_slots = slots;
    in.rows_wanted = wanted;
    in.sequences = sequences;
    StepOutput out;
    out.logits = logits;
    forward(model.ctx, model.weights, kv, workspace, in, out);
    for (size_t t = 0; t < tokens.size(); ++t) {
      auto& rows = found[static_cast<size_t>(seq_of[t])];
      rows.insert(rows.end(), logits.begin() + static_cast<std::ptrdiff_t>(t * shape.n_vocab),
                  logits.begin() + static_cast<std::ptrdiff_t>((t + 1) * shape.n_vocab));
    }
  }
  for (size_t s = 0; s < kSequences; ++s) {
    EXPECT_EQ(count_differences(found[s], model.run(texts[s], 0, false).logits), 0u) << "sequence " << s;
  }
}

INSTANTIATE_TEST_SUITE_P(Nano, Invariance,
                         testing::Values("models/nano-f16.gguf", "tests/golden/nano-Q4_K_M.gguf",
                                         "tests/golden/nano-Q8_0.gguf"),
                         [](const auto& param) {
                           std::string name = param.param;
                           name = name.substr(name.find("nano-") + 5);
                           return name.substr(0, name.find('.'));
                         });

// What is asked of a step decides which rows come out, not their values.
TEST(StepOutputs, SelectedRowsHiddenStatesAndTaps) {
  LoadedTestModel model(source_path("models/nano-f16.gguf"), 2);
  const ModelShape& shape = model.weights.shape;
  const auto tokens = text(0, 10);
  const auto reference = model.run(tokens, 0, false, true);

  KvPool kv = std::move(*KvPool::make(shape, KvType::kF16, 1));
  Workspace workspace = std::move(*Workspace::make(shape, {}, 2));
  SingleSequence sequence(0, 1);
  StepInput in = sequence.append(tokens, SingleSequence::Rows::kNone);
  std::vector<RowOutput> wanted(tokens.size(), RowOutput::kNone);
  wanted[2] = RowOutput::kLogits;
  wanted[4] = RowOutput::kHidden;
  wanted[7] = RowOutput::kBest;
  wanted[9] = RowOutput::kLogits;
  in.rows_wanted = wanted;
  const int taps[] = {1, 3};
  in.tap_layers = taps;
  std::vector<float> logits(2 * shape.n_vocab), hidden(shape.d_model),
      tapped(2 * tokens.size() * shape.d_model);
  std::vector<BestLogit> best(1);
  forward(model.ctx, model.weights, kv, workspace, in, {logits, hidden, tapped, best});

  const auto row = [&](std::span<const float> all, size_t index, size_t width) {
    return all.subspan(index * width, width);
  };
  EXPECT_EQ(count_differences(row(logits, 0, shape.n_vocab), row(reference.logits, 2, shape.n_vocab)), 0u);
  EXPECT_EQ(count_differences(row(logits, 1, shape.n_vocab), row(reference.logits, 9, shape.n_vocab)), 0u);
  const auto full_row = row(reference.logits, 7, shape.n_vocab);
  const auto likeliest = std::max_element(full_row.begin(), full_row.end());
  EXPECT_EQ(best[0].row, likeliest - full_row.begin());
  EXPECT_EQ(best[0].logit, *likeliest);
  const size_t layer_floats = tokens.size() * shape.d_model;
  EXPECT_EQ(count_differences(row(tapped, 0, layer_floats), row(reference.layers, 1, layer_floats)), 0u);
  EXPECT_EQ(count_differences(row(tapped, 1, layer_floats), row(reference.layers, 3, layer_floats)), 0u);

  // The hidden state times the embedding (F16, so plain f32 arithmetic) gives the logits of its row.
  std::vector<float> embedding(shape.d_model);
  for (const size_t token : {size_t{0}, size_t{17}, shape.n_vocab - 1}) {
    model.weights.token_embd.decode_row(token, embedding.data());
    float sum = 0;
    for (size_t i = 0; i < shape.d_model; ++i) sum = std::fma(embedding[i], hidden[i], sum);
    EXPECT_EQ(sum, reference.logits[4 * shape.n_vocab + token]);
  }

  // A pass that stops early gives the same taps, and its keys and values are those of a full pass.
  SingleSequence again(0, 1);
  StepInput early = again.append(tokens, SingleSequence::Rows::kNone);
  early.tap_layers = std::span(taps).first(1);
  early.stop_after_layer = 1;
  std::vector<float> early_tap(layer_floats);
  forward(model.ctx, model.weights, kv, workspace, early, {{}, {}, early_tap});
  EXPECT_EQ(count_differences(early_tap, row(reference.layers, 1, layer_floats)), 0u);
}

// The last token of a prompt found whole in the cache is computed again without writing its keys and values.
TEST(StepOutputs, RecomputingARowWithoutWriting) {
  LoadedTestModel model(source_path("models/nano-f16.gguf"), 2);
  const ModelShape& shape = model.weights.shape;
  const auto tokens = text(0, 64);
  KvPool kv = std::move(*KvPool::make(shape, KvType::kF16, 1));
  Workspace workspace = std::move(*Workspace::make(shape, {}, 2));
  SingleSequence sequence(0, 1);
  std::vector<float> first(shape.n_vocab), second(shape.n_vocab);
  forward(model.ctx, model.weights, kv, workspace, sequence.append(tokens, SingleSequence::Rows::kLast),
          {first, {}, {}});
  sequence.truncate(63);
  StepInput in = sequence.append(std::span(tokens).subspan(63), SingleSequence::Rows::kLast);
  const KvSlot nowhere[] = {{kNoPage, 0}};
  in.kv_slots = nowhere;
  forward(model.ctx, model.weights, kv, workspace, in, {second, {}, {}});
  EXPECT_EQ(count_differences(first, second), 0u);
}

}  // namespace
}  // namespace ruvltra
