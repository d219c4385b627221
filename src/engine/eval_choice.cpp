// Multiple choice by log-likelihood.
#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "base/json.h"
#include "engine/eval.h"
#include "ops/logits.h"

namespace ruvltra {
namespace {

Result<Question> parse_question(const Json& value, const std::string& where) {
  const auto wrong = [&](std::string_view what) {
    return fail("eval.question", "{}: expected {}", where, what);
  };
  if (!value.is_object()) return wrong("an object");
  const auto context = value.find("context");
  const auto choices = value.find("choices");
  const auto answer = value.find("answer");
  if (context == value.end() || !context->is_string() || context->get_ref<const std::string&>().empty()) {
    return wrong("\"context\", a string that is not empty");
  }
  if (choices == value.end() || !choices->is_array() || choices->empty()) {
    return wrong("\"choices\", an array of strings");
  }
  Question question;
  question.context = context->get_ref<const std::string&>();
  for (const Json& choice : *choices) {
    if (!choice.is_string() || choice.get_ref<const std::string&>().empty()) {
      return wrong("\"choices\" that are strings and not empty");
    }
    question.choices.push_back(choice.get_ref<const std::string&>());
  }
  if (answer == value.end() || !answer->is_number_unsigned() ||
      answer->get<uint64_t>() >= question.choices.size()) {
    return wrong("\"answer\", the index of a choice");
  }
  question.answer = answer->get<size_t>();
  return question;
}

// Sum of the log-probabilities of tokens[first..] given those before. The run holds tokens[0..first - 1).
Result<double> continuation_logprob(LogitsRun& run, std::span<const TokenId> tokens, size_t first) {
  const size_t n_vocab = run.shape().n_vocab;
  double sum = 0;
  size_t target = first;
  while (target < tokens.size()) {
    const auto logits = run.append(tokens.subspan(target - 1, tokens.size() - target));
    for (size_t i = 0; i < logits.size() / n_vocab; ++i, ++target) {
      const auto row = logits.subspan(i * n_vocab, n_vocab);
      sum += static_cast<double>(row[static_cast<size_t>(tokens[target])]) - log_sum_exp(row);
    }
  }
  if (!std::isfinite(sum)) {
    return fail("eval.not_finite", "logits: expected finite values, found NaN or infinity");
  }
  return sum;
}

size_t argmax(const std::vector<double>& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

}  // namespace

Result<std::vector<Question>> parse_questions(std::string_view text, const std::string& source) {
  std::vector<Question> questions;
  size_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}: line {}", source, number);
    ASSIGN_OR_RETURN(const Json value, parse_json(line, where));
    ASSIGN_OR_RETURN(Question question, parse_question(value, where));
    questions.push_back(std::move(question));
  }
  if (questions.empty())
    return fail("eval.question", "{}: expected at least one question, found none", source);
  return questions;
}

Result<std::vector<double>> choice_logprobs(LogitsRun& run, const Tokenizer& tokenizer,
                                            const Question& question) {
  ASSIGN_OR_RETURN(const auto context, tokenizer.encode(question.context, Recognise::kUserDefined));
  std::vector<std::vector<TokenId>> tokens;
  size_t shared = context.size();
  for (const std::string& choice : question.choices) {
    ASSIGN_OR_RETURN(auto whole, tokenizer.encode(question.context + choice, Recognise::kUserDefined));
    if (whole.size() < 2)
      return fail("eval.question", "question: expected at least 2 tokens, found {}", whole.size());
    if (whole.size() > run.max_positions()) {
      return fail("eval.context", "question: expected at most {} tokens, found {}", run.max_positions(),
                  whole.size());
    }
    // Joining may merge tokens across the boundary: the choice starts where the two differ.
    const auto differ = std::mismatch(context.begin(), context.end(), whole.begin(), whole.end()).first;
    shared = std::min({shared, static_cast<size_t>(differ - context.begin()), whole.size() - 1});
    tokens.push_back(std::move(whole));
  }
  shared = std::max<size_t>(shared, 1);
  run.truncate(0);
  run.skip(std::span(tokens[0]).first(shared - 1));
  std::vector<double> logprobs;
  for (const std::vector<TokenId>& whole : tokens) {
    ASSIGN_OR_RETURN(const double sum, continuation_logprob(run, whole, shared));
    run.truncate(shared - 1);
    logprobs.push_back(sum);
  }
  return logprobs;
}

Result<Accuracy> multiple_choice(LogitsRun& run, const Tokenizer& tokenizer,
                                 std::span<const Question> questions, const Progress& progress) {
  Accuracy result;
  size_t n_best = 0;
  size_t n_best_per_byte = 0;
  for (const Question& question : questions) {
    ASSIGN_OR_RETURN(std::vector<double> scores, choice_logprobs(run, tokenizer, question));
    n_best += argmax(scores) == question.answer;
    for (size_t i = 0; i < scores.size(); ++i) scores[i] /= static_cast<double>(question.choices[i].size());
    n_best_per_byte += argmax(scores) == question.answer;
    ++result.n;
    if (progress && !progress(result.n, questions.size())) {
      return fail(ErrorKind::kCancelled, "eval.cancelled", "evaluation: stopped on request");
    }
  }
  const auto n = static_cast<double>(result.n);
  result.acc = static_cast<double>(n_best) / n;
  result.acc_norm = static_cast<double>(n_best_per_byte) / n;
  result.acc_se = std::sqrt(result.acc * (1 - result.acc) / n);
  return result;
}

}  // namespace ruvltra
