// What the tests of the engine's promise share: requests of many kinds, what each of them says when nothing
// but the forward pass and the sampler take part, and the comparison of answers bit by bit.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "engine/engine_loop.h"
#include "loaded_model.h"

namespace ruvltra {

// A number of the environment.
inline uint32_t setting(const char* name, uint32_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? static_cast<uint32_t>(std::strtoul(text, nullptr, 10)) : otherwise;
}

struct TestRequest {
  std::vector<TokenId> prompt;
  GenerateParams params;
  EngineLoop::PinnedAdapter adapter = {};
};

struct TestAnswer {
  std::vector<TokenId> tokens;
  std::vector<Sampled> logprobs;
  FinishReason reason = FinishReason::kLength;
  std::optional<Error> error;
  Timings timings;
  size_t n_ends = 0;
};

inline bool same_bits(const Sampled& a, const Sampled& b) {
  if (std::memcmp(&a.logprob, &b.logprob, sizeof a.logprob) != 0 || a.top.size() != b.top.size())
    return false;
  for (size_t k = 0; k < a.top.size(); ++k) {
    if (a.top[k].token != b.top[k].token ||
        std::memcmp(&a.top[k].logprob, &b.top[k].logprob, sizeof(double)) != 0)
      return false;
  }
  return true;
}

// The first tokens agree in number and bits as far as both go.
inline bool agree_so_far(const TestAnswer& a, const TestAnswer& b) {
  for (size_t i = 0; i < std::min(a.tokens.size(), b.tokens.size()); ++i) {
    if (a.tokens[i] != b.tokens[i]) return false;
  }
  for (size_t i = 0; i < std::min(a.logprobs.size(), b.logprobs.size()); ++i) {
    if (!same_bits(a.logprobs[i], b.logprobs[i])) return false;
  }
  return true;
}

inline bool same_bits(const TestAnswer& a, const TestAnswer& b) {
  return a.tokens.size() == b.tokens.size() && a.reason == b.reason &&
         a.logprobs.size() == b.logprobs.size() && agree_so_far(a, b);
}

// Everything a stream gives, to its end.
inline std::vector<TestAnswer> read_all(TokenStream& stream, const GenerateParams& params) {
  std::vector<TestAnswer> answers(static_cast<size_t>(params.n));
  StreamItem item;
  while (stream.take(item)) {
    TestAnswer& answer = answers[static_cast<size_t>(item.choice)];
    if (item.outcome) {
      answer.reason = item.outcome->reason;
      answer.error = item.outcome->error;
      answer.timings = item.outcome->timings;
      ++answer.n_ends;
    } else {
      answer.tokens.push_back(item.token.token);
      if (params.n_logprobs > 0) answer.logprobs.push_back(item.token);
    }
  }
  return answers;
}

class ReferenceModel {
 public:
  explicit ReferenceModel(const char* path = nullptr) {
    for (const int n : {1, 2, 3}) pools_.push_back(std::make_unique<ThreadPool>(n));
    kernels_ = *kernel_table();
    auto file = GgufFile::open(path != nullptr ? path : source_path("models/nano-q8_0.gguf"));
    EXPECT_TRUE(file) << (file ? "" : file.error().message);
    tokenizer = std::move(*Tokenizer::load(file->metadata()));
    weights = std::move(*Weights::load(ctx(2), *file));
  }
  Ctx ctx(int n_threads) { return {pools_[static_cast<size_t>(n_threads - 1)].get(), kernels_}; }

  std::unique_ptr<EngineLoop> start(int n_threads, const EngineLoop::Options& options) {
    return std::move(*EngineLoop::start(ctx(n_threads), weights, *tokenizer, options));
  }

  // A plain loop around the forward pass and the sampler: one sequence, one thread, no engine.
  TestAnswer alone(const TestRequest& request, int choice) {
    const size_t n_most = request.prompt.size() + static_cast<size_t>(request.params.max_tokens);
    const ModelShape& shape = weights.shape;
    Workspace workspace =
        std::move(*Workspace::make(shape, {.max_tokens = request.prompt.size(), .max_positions = 0}, 1));
    KvPool kv = std::move(*KvPool::make(shape, KvType::kF16, KvPool::pages_for(n_most)));
    SingleSequence sequence(0, kv.n_pages());
    sequence.set_adapter(request.adapter.get());
    const auto unused = unused_tokens(*tokenizer, shape.n_vocab);
    Sampler sampler = std::move(*Sampler::create(request.params, shape.n_vocab, unused));
    sampler.accept_prompt(request.prompt);
    StreamText text(request.params.stop);
    std::vector<float> logits(shape.n_vocab);
    TestAnswer out;
    std::vector<TokenId> next = request.prompt;
    while (out.tokens.size() < static_cast<size_t>(request.params.max_tokens)) {
      forward(ctx(1), weights, kv, workspace, sequence.append(next, SingleSequence::Rows::kLast), {logits});
      const size_t position = request.prompt.size() + out.tokens.size();
      const Sampled sampled =
          *sampler.sample(logits, static_cast<uint32_t>(position), static_cast<uint32_t>(choice));
      sampler.accept(sampled.token);
      out.tokens.push_back(sampled.token);
      if (request.params.n_logprobs > 0) out.logprobs.push_back(sampled);
      next.assign(1, sampled.token);
      if (tokenizer->ends_generation(sampled.token)) out.reason = FinishReason::kStop;
      text.push(tokenizer->bytes(sampled.token));
      if (text.stopped()) out.reason = FinishReason::kStop;
      if (out.reason == FinishReason::kStop) break;
    }
    return out;
  }

  // All its answers.
  std::vector<TestAnswer> alone(const TestRequest& request) {
    std::vector<TestAnswer> answers;
    for (int choice = 0; choice < request.params.n; ++choice) answers.push_back(alone(request, choice));
    return answers;
  }

  Weights weights;
  std::optional<Tokenizer> tokenizer;

 private:
  std::vector<std::unique_ptr<ThreadPool>> pools_;  // of 1, 2, 3 threads
  const KernelTable* kernels_ = nullptr;
};

}  // namespace ruvltra
