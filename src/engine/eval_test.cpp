#include "engine/eval.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/threads.h"
#include "gguf/reader.h"
#include "kernels/dispatch.h"
#include "ops/logits.h"

namespace ruvltra {
namespace {

class Evaluation : public ::testing::Test {
 protected:
  static std::string path(const std::string& name) { return std::string(RUVLTRA_SOURCE_DIR) + "/" + name; }

  Weights load(const std::string& name) {
    auto weights = Weights::load(ctx_, GgufFile::open(path(name)).value());
    EXPECT_TRUE(weights);
    return std::move(*weights);
  }
  LogitsRun make_run(const Weights& weights, size_t max_positions) {
    LogitsRun::Options options;
    options.max_positions = max_positions;
    return std::move(*LogitsRun::make(ctx_, weights, options));
  }
  // -log p of every token but the first, by one plain run.
  std::vector<double> plain_nll(const Weights& weights, std::span<const TokenId> tokens) {
    LogitsRun run = make_run(weights, tokens.size());
    const size_t n_vocab = weights.shape.n_vocab;
    std::vector<double> nll;
    for (size_t t = 0; t + 1 < tokens.size(); ++t) {
      const auto row = run.append(tokens.subspan(t, 1));
      EXPECT_EQ(row.size(), n_vocab);
      nll.push_back(log_sum_exp(row) - static_cast<double>(row[static_cast<size_t>(tokens[t + 1])]));
    }
    return nll;
  }
  static double mean(std::span<const double> values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  }

  ThreadPool pool_{2};
  Ctx ctx_{&pool_, *kernel_table()};
  const std::vector<TokenId> text_ = {377, 1907, 11,  269, 425, 367, 340,  3693, 259, 292, 82, 359,
                                      76,  269,  769, 387, 11,  367, 3629, 271,  269, 355, 11, 376};
};

TEST_F(Evaluation, LogSumExpAndArgmax) {
  const std::vector<float> x = {1.0f, 3.0f, 3.0f, -1000.0f};
  EXPECT_NEAR(log_sum_exp(x), std::log(std::exp(1.0) + 2 * std::exp(3.0)), 1e-12);
  EXPECT_EQ(argmax(x), 1u);
  const std::vector<float> large = {1e4f, 1e4f};
  EXPECT_NEAR(log_sum_exp(large), 1e4 + std::log(2.0), 1e-9);
  EXPECT_TRUE(std::isnan(log_sum_exp(std::vector<float>{1.0f, NAN})));
}

TEST_F(Evaluation, PerplexityScoresTheRightTokens) {
  const Weights weights = load("models/nano-f16.gguf");
  LogitsRun run = make_run(weights, 16);

  // Windows of 16: tokens 8..15 of the first, none of the second, which has 8 tokens.
  const auto half = perplexity(run, text_, {.n_window = 16}).value();
  const auto first = plain_nll(weights, std::span(text_).first(16));
  EXPECT_EQ(half.n_tokens, 8u);
  EXPECT_NEAR(half.nll, mean(std::span(first).subspan(7)), 1e-12);
  EXPECT_NEAR(half.ppl, std::exp(half.nll), 1e-9);

  const auto full = perplexity(run, text_, {.n_window = 16, .full = true}).value();
  auto all = first;
  const auto second = plain_nll(weights, std::span(text_).subspan(16));
  all.insert(all.end(), second.begin(), second.end());
  EXPECT_EQ(full.n_tokens, 22u);
  EXPECT_NEAR(full.nll, mean(all), 1e-12);
  double squares = 0;
  for (const double value : all) squares += (value - full.nll) * (value - full.nll);
  EXPECT_NEAR(full.ppl_se, full.ppl * std::sqrt(squares / 21 / 22), 1e-9);
}

TEST_F(Evaluation, PerplexityRefusals) {
  const Weights weights = load("models/nano-f16.gguf");
  LogitsRun run = make_run(weights, 64);
  EXPECT_EQ(perplexity(run, std::span(text_).first(8), {.n_window = 16}).error().id, "eval.too_short");
  EXPECT_EQ(perplexity(run, text_, {.n_window = 1}).error().id, "eval.context");
  EXPECT_EQ(perplexity(run, text_, {.n_window = 100'000}).error().id, "eval.context");
  const std::vector<TokenId> outside = {1, 2, 4096};
  EXPECT_EQ(perplexity(run, outside, {.n_window = 16, .full = true}).error().id, "eval.token_range");
  const auto stopped = perplexity(run, text_, {.n_window = 8}, [](uint64_t, uint64_t) { return false; });
  EXPECT_EQ(stopped.error().kind, ErrorKind::kCancelled);
}

TEST_F(Evaluation, DivergenceOfAModelFromItselfIsZero) {
  const Weights weights = load("models/nano-f16.gguf");
  LogitsRun base = make_run(weights, 16);
  LogitsRun same = make_run(weights, 16);
  const auto none = divergence(base, same, text_, {.n_window = 16, .full = true}).value();
  EXPECT_EQ(none.n_tokens, 22u);
  EXPECT_EQ(none.kld_max, 0);
  EXPECT_EQ(none.rms_dp, 0);
  EXPECT_EQ(none.delta_ppl, 0);
  EXPECT_EQ(none.same_top1, 1);
}

TEST_F(Evaluation, DivergenceFromAQuantisedModel) {
  const Weights weights = load("models/nano-f16.gguf");
  const Weights quantised = load("tests/golden/nano-Q4_K_M.gguf");
  LogitsRun base = make_run(weights, 24);
  LogitsRun model = make_run(quantised, 24);
  const auto found = divergence(base, model, text_, {.n_window = 24, .full = true}).value();

  // The same, written out.
  base.truncate(0);
  model.truncate(0);
  std::vector<double> kl, p_nll, q_nll, squared_dp;
  size_t n_same = 0;
  for (size_t t = 0; t + 1 < text_.size(); ++t) {
    const auto p = base.append(std::span(text_).subspan(t, 1));
    const auto q = model.append(std::span(text_).subspan(t, 1));
    const double p_norm = log_sum_exp(p);
    const double q_norm = log_sum_exp(q);
    double sum = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      const double log_p = static_cast<double>(p[i]) - p_norm;
      sum += std::exp(log_p) * (log_p - static_cast<double>(q[i]) + q_norm);
    }
    kl.push_back(sum);
    const auto next = static_cast<size_t>(text_[t + 1]);
    p_nll.push_back(p_norm - static_cast<double>(p[next]));
    q_nll.push_back(q_norm - static_cast<double>(q[next]));
    squared_dp.push_back(std::pow(std::exp(-p_nll.back()) - std::exp(-q_nll.back()), 2));
    n_same += argmax(p) == argmax(q);
  }
  EXPECT_GT(found.kld_mean, 1e-4);
  EXPECT_NEAR(found.kld_mean, mean(kl), 1e-9);
  EXPECT_NEAR(found.kld_max, *std::max_element(kl.begin(), kl.end()), 1e-9);
  EXPECT_NEAR(found.rms_dp, std::sqrt(mean(squared_dp)), 1e-9);
  EXPECT_NEAR(found.delta_ppl, std::exp(mean(q_nll)) - std::exp(mean(p_nll)), 1e-6);
  EXPECT_NEAR(found.same_top1, static_cast<double>(n_same) / 23, 1e-12);
  std::sort(kl.begin(), kl.end());
  EXPECT_NEAR(found.kld_median, kl[11], 1e-9);
}

TEST_F(Evaluation, Questions) {
  const auto questions = parse_questions(
      "{\"context\": \"A\", \"choices\": [\"x\", \"y\"], \"answer\": 1}\n\n{\"context\": \"B\", \"choices\": "
      "[\"z\"], "
      "\"answer\": 0}",
      "q.jsonl");
  ASSERT_TRUE(questions) << questions.error().message;
  ASSERT_EQ(questions->size(), 2u);
  EXPECT_EQ((*questions)[0].context, "A");
  EXPECT_EQ((*questions)[0].choices, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ((*questions)[0].answer, 1u);
  EXPECT_EQ((*questions)[1].answer, 0u);
  for (const char* bad : {"", "[]", "{\"choices\": [\"x\"], \"answer\": 0}",
                          "{\"context\": \"\", \"choices\": [\"x\"], \"answer\": 0}",
                          "{\"context\": \"A\", \"choices\": [], \"answer\": 0}",
                          "{\"context\": \"A\", \"choices\": [1], \"answer\": 0}",
                          "{\"context\": \"A\", \"choices\": [\"x\"], \"answer\": 1}",
                          "{\"context\": \"A\", \"choices\": [\"x\"], \"answer\": -1}"}) {
    const auto refused = parse_questions(bad, "q.jsonl");
    ASSERT_FALSE(refused) << bad;
    EXPECT_EQ(refused.error().id, "eval.question") << bad;
  }
  EXPECT_NE(parse_questions("\n{", "q.jsonl").error().message.find("line 2"), std::string::npos);
}

TEST_F(Evaluation, MultipleChoicePicksTheLikelierContinuation) {
  const auto file = GgufFile::open(path("models/nano-f16.gguf"));
  const Tokenizer tokenizer = std::move(*Tokenizer::load(file->metadata()));
  const Weights weights = load("models/nano-f16.gguf");
  LogitsRun run = make_run(weights, 64);

  const std::vector<Question> questions = {{"Once upon a", {" zebra", " time"}, 1},
                                           {"The king and the", {" queen", " the the"}, 0},
                                           {"He opened the", {" door", " of"}, 1}};
  const auto found = multiple_choice(run, tokenizer, questions).value();
  EXPECT_EQ(found.n, 3u);

  // The same sums, each choice as a sequence of its own.
  size_t n_best = 0;
  size_t n_best_per_byte = 0;
  for (const Question& question : questions) {
    const size_t n_context = tokenizer.encode(question.context, Recognise::kUserDefined)->size();
    std::vector<double> sums, per_byte;
    for (const std::string& choice : question.choices) {
      const auto tokens = tokenizer.encode(question.context + choice, Recognise::kUserDefined).value();
      const auto nll = plain_nll(weights, tokens);
      double sum = 0;
      for (size_t t = n_context - 1; t < nll.size(); ++t) sum -= nll[t];
      sums.push_back(sum);
      per_byte.push_back(sum / static_cast<double>(choice.size()));
    }
    const auto logprobs = choice_logprobs(run, tokenizer, question).value();
    ASSERT_EQ(logprobs.size(), sums.size());
    for (size_t i = 0; i < sums.size(); ++i) EXPECT_NEAR(logprobs[i], sums[i], 1e-9) << question.choices[i];
    n_best += sums[question.answer] > sums[1 - question.answer];
    n_best_per_byte += per_byte[question.answer] > per_byte[1 - question.answer];
  }
  EXPECT_EQ(found.acc, static_cast<double>(n_best) / 3);
  EXPECT_EQ(found.acc_norm, static_cast<double>(n_best_per_byte) / 3);
  EXPECT_EQ(n_best, 2u);  // the last question has the unlikely choice as its answer
  EXPECT_NEAR(found.acc_se, std::sqrt(found.acc * (1 - found.acc) / 3), 1e-12);
  EXPECT_EQ(multiple_choice(run, tokenizer, questions, [](uint64_t, uint64_t) { return false; }).error().kind,
            ErrorKind::kCancelled);
}

}  // namespace
}  // namespace ruvltra
