// The engine's hooks: what an observer is told equals an instrumented plain forward pass bit for bit,
// whatever the batch, the preemptions and the drafts; and answers are the same bits with an observer and
// without.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <map>
#include <mutex>

#include "engine_reference.h"
#include "ruvltra/hooks.h"

namespace ruvltra {
namespace {

class Keeper final : public RequestObserver {
 public:
  bool wants(const Treatment& treatment) const override { return treatment.tenant != "private"; }
  void answered(AnsweredRequest answer) noexcept override {
    const std::lock_guard lock(mutex);
    const auto key = std::pair(answer.id, answer.choice);
    answers[key] = std::move(answer);
  }
  std::mutex mutex;
  std::map<std::pair<RequestId, int>, AnsweredRequest> answers;
};

class HooksTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { model = new ReferenceModel(); }
  static void TearDownTestSuite() { delete model; }
  static ReferenceModel* model;

  static EngineLoop::Options options(size_t n_pages, bool speculate) {
    EngineLoop::Options out;
    out.steps.max_rows = 48;
    out.steps.max_parts = 4;
    out.steps.max_positions = 512;
    out.steps.n_pages = n_pages;
    if (speculate) {
      out.speculation = SpeculativeConfig();
      out.speculation->source = DraftSource::kLookup;
      out.speculation->adaptive = false;
      out.speculation->acceptance_threshold = 0;
    }
    return out;
  }

  static TestRequest request(std::mt19937& random) {
    TestRequest out;
    const std::vector<TokenId> phrase =
        *model->tokenizer->encode(" the fox and the crow and the fox", Recognise::kNone);
    out.prompt = *model->tokenizer->encode("Once upon a time there was", Recognise::kNone);
    for (uint32_t i = random() % 24; i > 0; --i)
      out.prompt.insert(out.prompt.end(), phrase.begin(), phrase.end());
    out.params.max_tokens = 2 + static_cast<int>(random() % 120);
    out.params.temperature = random() % 2 == 0 ? 0.0f : 1.1f;
    out.params.n = random() % 4 == 0 ? 3 : 1;
    out.params.seed = random();
    return out;
  }
};
ReferenceModel* HooksTest::model = nullptr;

// Mean of x / sqrt(mean(x^2) + eps) over the rows of the answer's tokens but the last, after each layer.
std::vector<float> mean_by_plain_pass(LoadedTestModel& plain, const AnsweredRequest& answer) {
  std::vector<TokenId> tokens = answer.prompt;
  tokens.insert(tokens.end(), answer.output.begin(), answer.output.end());
  const ModelShape& shape = plain.weights.shape;
  const LoadedTestModel::Run run = plain.run(tokens, 0, false, true);
  std::vector<float> mean;
  for (const int layer : answer.hooks.layers) {
    std::vector<double> sum(shape.d_model);
    for (size_t t = answer.prompt.size(); t + 1 < tokens.size(); ++t) {
      const float* x = run.layers.data() + (static_cast<size_t>(layer) * tokens.size() + t) * shape.d_model;
      double squares = 0;
      for (size_t i = 0; i < shape.d_model; ++i)
        squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      const double scale =
          1 / std::sqrt(squares / static_cast<double>(shape.d_model) + static_cast<double>(shape.rms_eps));
      for (size_t i = 0; i < shape.d_model; ++i) sum[i] += static_cast<double>(x[i]) * scale;
    }
    for (const double value : sum) {
      const auto n = static_cast<double>(answer.output.size() - 1);
      mean.push_back(n == 0 ? 0.0f : static_cast<float>(value / n));
    }
  }
  return mean;
}

TEST_F(HooksTest, ToldStatesEqualAPlainPassBitForBit) {
  LoadedTestModel plain(source_path("models/nano-q8_0.gguf"), 1);
  const uint32_t n_rounds = setting("RUVLTRA_HOOK_ROUNDS", 4);
  size_t n_told = 0, n_tokens = 0;
  uint64_t n_preempted = 0, n_accepted = 0;
  for (uint32_t round = 0; round < n_rounds; ++round) {
    std::mt19937 random(round);
    auto loop =
        model->start(1 + static_cast<int>(round % 3), options(round % 2 == 0 ? 6 : 40, round % 4 < 3));
    auto keeper = std::make_shared<Keeper>();
    const std::vector<int> layers = round % 2 == 0 ? std::vector{1, 2, 3} : std::vector{0, 3};
    ASSERT_TRUE(loop->observe(keeper, layers));
    std::vector<TestRequest> requests;
    std::vector<EngineLoop::Ticket> tickets;
    for (int i = 0; i < 12; ++i) {
      requests.push_back(request(random));
      Treatment treatment;
      treatment.tenant = i == 5 ? "private" : "t";
      treatment.session = "s" + std::to_string(i);
      treatment.task = "task";
      tickets.push_back(*loop->submit(requests.back().prompt, requests.back().params, treatment));
    }
    for (size_t i = 0; i < tickets.size(); ++i) {
      const auto answers = read_all(*tickets[i].stream, requests[i].params);
      const auto expected = model->alone(requests[i]);
      for (size_t c = 0; c < answers.size(); ++c)
        ASSERT_TRUE(same_bits(answers[c], expected[c])) << "request " << i;
      const std::lock_guard lock(keeper->mutex);
      const auto told = keeper->answers.find({tickets[i].id, 0});
      ASSERT_EQ(told != keeper->answers.end(), i != 5);
      for (size_t c = 0; c < answers.size() && i != 5; ++c) {
        const AnsweredRequest& answer = keeper->answers.at({tickets[i].id, static_cast<int>(c)});
        ASSERT_EQ(answer.output, answers[c].tokens);
        ASSERT_EQ(answer.prompt, requests[i].prompt);
        ASSERT_EQ(answer.hooks.layers, layers);
        ASSERT_EQ(answer.hooks.n_tokens, answer.output.size() - 1);
        ASSERT_EQ(answer.hooks.mean, mean_by_plain_pass(plain, answer))
            << "request " << i << ", choice " << c;
        EXPECT_EQ(answer.session, "s" + std::to_string(i));
        EXPECT_EQ(answer.task, "task");
        ++n_told;
        n_tokens += answer.output.size();
      }
    }
    n_preempted += loop->stats().n_preemptions;
    n_accepted += loop->stats().speculation.n_accepted;
  }
  std::printf("%zu answers, %zu tokens, %llu preemptions, %llu accepted proposals\n", n_told, n_tokens,
              static_cast<unsigned long long>(n_preempted), static_cast<unsigned long long>(n_accepted));
  EXPECT_GT(n_preempted, 0u);
  EXPECT_GT(n_accepted, 0u);
}

TEST_F(HooksTest, AnObserverCanBeExchangedAndLeave) {
  auto loop = model->start(2, options(40, false));
  std::mt19937 random(7);
  TestRequest asked = request(random);
  asked.params.max_tokens = 200;
  asked.params.ignore_eos = true;
  auto first = std::make_shared<Keeper>();
  ASSERT_TRUE(loop->observe(first, {1}));
  auto ticket = *loop->submit(asked.prompt, asked.params, {});
  StreamItem item;
  ASSERT_TRUE(ticket.stream->take(item));
  auto second = std::make_shared<Keeper>();
  ASSERT_TRUE(loop->observe(second, {2, 3}));  // while the first one's answer is being made
  auto next = *loop->submit(asked.prompt, asked.params, {});
  read_all(*ticket.stream, asked.params);
  read_all(*next.stream, asked.params);
  ASSERT_TRUE(loop->observe(nullptr, {}));
  read_all(*loop->submit(asked.prompt, asked.params, {})->stream, asked.params);
  EXPECT_TRUE(first->answers.empty());  // its hooks were gone before the end
  EXPECT_EQ(second->answers.size(), static_cast<size_t>(asked.params.n));
}

// Work between steps gives way to a request from its first step on, not from the second.
TEST_F(HooksTest, AnswersAreBeingMadeFromTheFirstStepOn) {
  auto loop = model->start(2, options(40, false));
  std::mt19937 random(7);
  TestRequest asked = request(random);
  asked.prompt.resize(4);  // one step, and the first token comes
  EXPECT_FALSE(loop->is_answering());
  std::atomic<int> n_notices = 0, n_unseen = 0;
  const auto on_ready = [&, raw = loop.get()] {  // from the loop's thread, within a step
    ++n_notices;
    n_unseen += raw->is_answering() ? 0 : 1;
  };
  auto ticket = *loop->submit(asked.prompt, asked.params, {}, on_ready);
  read_all(*ticket.stream, asked.params);
  EXPECT_GT(n_notices, 0);
  EXPECT_EQ(n_unseen, 0);
}

}  // namespace
}  // namespace ruvltra
