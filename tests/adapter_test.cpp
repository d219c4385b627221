// Adapters in the forward pass and in the engine: the delta is what its formula says, a zero adapter leaves
// every bit, and each request answers as if it were alone with the adapter it was admitted with.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "engine_reference.h"
#include "model/adapter.h"

namespace ruvltra {
namespace {

// An adapter with random numbers of a useful size, owned by what the pointer holds.
struct RandomAdapter {
  std::vector<int> layers;
  std::vector<float> a, mu, inverse_sigma, b;
  AdapterView view;

  static EngineLoop::PinnedAdapter make(const ModelShape& shape, std::vector<int> layers, size_t rank,
                                        uint32_t seed, float size) {
    auto out = std::make_shared<RandomAdapter>();
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& values, size_t n, float scale) {
      values.resize(n);
      for (float& value : values) value = scale * normal(random);
    };
    out->layers = std::move(layers);
    const size_t n_taps = out->layers.size(), d = shape.d_model;
    fill(out->a, n_taps * rank * d, 1 / std::sqrt(static_cast<float>(d)));
    fill(out->mu, n_taps * rank, 0.1f);
    out->inverse_sigma.assign(n_taps * rank, 1.5f);
    const size_t m = n_taps * rank + 1;
    fill(out->b, m * d, size);
    out->view = {.features = {.d_model = d,
                              .rank = rank,
                              .n_taps = n_taps,
                              .layers = out->layers.data(),
                              .a = out->a.data(),
                              .mu = out->mu.data(),
                              .inverse_sigma = out->inverse_sigma.data(),
                              .eps = shape.rms_eps},
                 .b = out->b.data(),
                 .scale = 1 / std::sqrt(static_cast<float>(m))};
    return {out, &out->view};
  }
};

class AdapterTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { model = new ReferenceModel(); }
  static void TearDownTestSuite() { delete model; }
  static ReferenceModel* model;

  // Rows of a fresh sequence in one form.
  static std::vector<float> rows(const std::vector<TokenId>& tokens, RowOutput form, size_t width,
                                 const AdapterView* adapter, bool exact,
                                 std::vector<float>* layers = nullptr) {
    const ModelShape& shape = model->weights.shape;
    Workspace workspace = std::move(*Workspace::make(
        shape, {.max_tokens = tokens.size(), .max_positions = tokens.size(), .exact = exact}, 2));
    KvPool kv = std::move(
        *KvPool::make(shape, exact ? KvType::kF32 : KvType::kF16, KvPool::pages_for(tokens.size())));
    SingleSequence sequence(0, kv.n_pages());
    sequence.set_adapter(adapter);
    StepInput in = sequence.append(tokens, SingleSequence::Rows::kAll, form);
    std::vector<int> taps;
    for (size_t l = 0; layers != nullptr && l < shape.n_layers; ++l) taps.push_back(static_cast<int>(l));
    if (layers != nullptr) layers->resize(taps.size() * tokens.size() * shape.d_model);
    in.tap_layers = taps;
    std::vector<float> out(tokens.size() * width);
    StepOutput to;
    if (form == RowOutput::kHidden) to.hidden = out;
    if (form == RowOutput::kLogits) to.logits = out;
    if (layers != nullptr) to.taps = *layers;
    forward(model->ctx(2), model->weights, kv, workspace, in, to);
    return out;
  }
};
ReferenceModel* AdapterTest::model = nullptr;

// h' against the formula in double, from the plain pass's residual streams; and the logits are W h'.
TEST_F(AdapterTest, DeltaFollowsItsFormula) {
  const ModelShape& shape = model->weights.shape;
  const size_t d = shape.d_model, n_layers = shape.n_layers;
  const auto tokens = *model->tokenizer->encode("Once upon a time there was an old king", Recognise::kNone);
  const size_t n = tokens.size();
  std::vector<float> layers;
  const std::vector<float> plain = rows(tokens, RowOutput::kHidden, d, nullptr, false, &layers);
  size_t n_clamped = 0;
  for (const float size : {0.02f, 30.0f}) {
    const auto last = static_cast<int>(n_layers) - 1;
    const auto adapter = RandomAdapter::make(shape, {1, 2, last, last}, 4, 7, size);
    const FeatureView& view = adapter->features;
    const std::vector<float> adapted = rows(tokens, RowOutput::kHidden, d, adapter.get(), false);
    for (size_t t = 0; t < n; ++t) {
      std::vector<double> phi;
      for (size_t tap = 0; tap < view.n_taps; ++tap) {
        const float* x = layers.data() + (static_cast<size_t>(view.layers[tap]) * n + t) * d;
        double squares = 0;
        for (size_t i = 0; i < d; ++i) squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
        const double rms = std::sqrt(squares / static_cast<double>(d) + static_cast<double>(view.eps));
        for (size_t k = 0; k < view.rank; ++k) {
          double p = 0;
          for (size_t i = 0; i < d; ++i)
            p += static_cast<double>(view.a[(tap * view.rank + k) * d + i]) * static_cast<double>(x[i]) / rms;
          const size_t at = tap * view.rank + k;
          p = (p - static_cast<double>(view.mu[at])) * static_cast<double>(view.inverse_sigma[at]);
          phi.push_back(std::clamp(p, -4.0, 4.0));
        }
      }
      phi.push_back(1);
      std::vector<double> delta(d);
      double delta_norm = 0, hidden_norm = 0;
      for (size_t i = 0; i < d; ++i) {
        for (size_t j = 0; j < phi.size(); ++j)
          delta[i] += phi[j] * static_cast<double>(adapter->b[j * d + i]) /
                      std::sqrt(static_cast<double>(phi.size()));
        delta_norm += delta[i] * delta[i];
        hidden_norm += static_cast<double>(plain[t * d + i]) * static_cast<double>(plain[t * d + i]);
      }
      const double factor = std::min(1.0, 0.05 * std::sqrt(hidden_norm / delta_norm));
      n_clamped += factor < 1;
      for (size_t i = 0; i < d; ++i)
        ASSERT_NEAR(adapted[t * d + i] - plain[t * d + i], factor * delta[i], 2e-5 * std::sqrt(hidden_norm));
    }
    const std::vector<float> exact_hidden = rows(tokens, RowOutput::kHidden, d, adapter.get(), true);
    const std::vector<float> logits = rows(tokens, RowOutput::kLogits, shape.n_vocab, adapter.get(), true);
    std::vector<float> row(d), expected(logits.size());
    for (size_t v = 0; v < shape.n_vocab; ++v) {
      model->weights.head().decode_row(v, row.data());
      for (size_t t = 0; t < n; ++t) {
        double z = 0;
        for (size_t i = 0; i < d; ++i)
          z += static_cast<double>(row[i]) * static_cast<double>(exact_hidden[t * d + i]);
        expected[t * shape.n_vocab + v] = static_cast<float>(z);
      }
    }
    EXPECT_LT(nmse(logits, expected), 1e-10);
    EXPECT_GT(nmse(logits, rows(tokens, RowOutput::kLogits, shape.n_vocab, nullptr, true)), 1e-7);
  }
  EXPECT_EQ(n_clamped, n);  // the large one at every position, the small one nowhere
}

TEST_F(AdapterTest, AZeroAdapterLeavesEveryBit) {
  const ModelShape& shape = model->weights.shape;
  const auto tokens = *model->tokenizer->encode("Once upon a time there was an old king", Recognise::kNone);
  AdapterView zero = *RandomAdapter::make(shape, {1, 2}, 4, 7, 1);
  zero.b = nullptr;
  EXPECT_EQ(rows(tokens, RowOutput::kLogits, shape.n_vocab, &zero, false),
            rows(tokens, RowOutput::kLogits, shape.n_vocab, nullptr, false));
}

// Mixed adapters in every batch, chunk, preemption and draft: the bits of the lone run.
TEST_F(AdapterTest, EachRequestAnswersAsIfAlone) {
  const ModelShape& shape = model->weights.shape;
  const EngineLoop::PinnedAdapter adapters[] = {{},
                                                RandomAdapter::make(shape, {1, 2, 3, 3}, 4, 1, 0.5f),
                                                RandomAdapter::make(shape, {2}, 2, 2, 0.5f),
                                                RandomAdapter::make(shape, {0, 1, 2, 3, 3}, 16, 3, 0.5f)};
  const std::vector<TokenId> phrase =
      *model->tokenizer->encode(" the fox and the crow and the fox", Recognise::kNone);
  const uint32_t n_rounds = setting("RUVLTRA_ADAPTER_ROUNDS", 4);
  size_t n_answers = 0, n_changed = 0;
  uint64_t n_preempted = 0, n_accepted = 0;
  for (uint32_t round = 0; round < n_rounds; ++round) {
    std::mt19937 random(round);
    EngineLoop::Options options;
    options.steps.max_rows = 48;
    options.steps.max_parts = 4;
    options.steps.max_positions = 512;
    options.steps.n_pages = round % 2 == 0 ? 6 : 40;
    if (round % 4 < 3) {
      options.speculation = SpeculativeConfig();
      options.speculation->source = DraftSource::kLookup;
      options.speculation->adaptive = false;
    }
    auto loop = model->start(1 + static_cast<int>(round % 3), options);
    std::vector<TestRequest> requests(12);
    std::vector<EngineLoop::Ticket> tickets;
    for (TestRequest& request : requests) {
      request.prompt = *model->tokenizer->encode("Once upon a time there was", Recognise::kNone);
      for (uint32_t i = random() % 24; i > 0; --i)
        request.prompt.insert(request.prompt.end(), phrase.begin(), phrase.end());
      request.params.max_tokens = 2 + static_cast<int>(random() % 120);
      request.params.temperature = random() % 2 == 0 ? 0.0f : 1.1f;
      request.params.n = random() % 4 == 0 ? 3 : 1;
      request.params.n_logprobs = random() % 3 == 0 ? 2 : 0;
      request.params.seed = random();
      request.adapter = adapters[random() % std::size(adapters)];
      tickets.push_back(*loop->submit(request.prompt, request.params, {}, {}, request.adapter));
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      const auto answers = read_all(*tickets[i].stream, requests[i].params);
      const auto expected = model->alone(requests[i]);
      TestRequest bare = requests[i];
      bare.adapter = {};
      const auto without = model->alone(bare);
      for (size_t c = 0; c < answers.size(); ++c) {
        ASSERT_TRUE(same_bits(answers[c], expected[c])) << "round " << round << ", request " << i;
        ++n_answers;
        n_changed += requests[i].adapter && answers[c].tokens != without[c].tokens;
      }
    }
    n_preempted += loop->stats().n_preemptions;
    n_accepted += loop->stats().speculation.n_accepted;
  }
  std::printf("%zu answers, %zu changed by their adapter, %llu preemptions, %llu accepted proposals\n",
              n_answers, n_changed, static_cast<unsigned long long>(n_preempted),
              static_cast<unsigned long long>(n_accepted));
  EXPECT_GT(n_changed, n_answers / 4);
  EXPECT_GT(n_preempted, 0u);
  EXPECT_GT(n_accepted, 0u);
}

}  // namespace
}  // namespace ruvltra
