// What a running engine tells the learning system: the hidden states that its hooks saw, with the answer they
// belong to (docs/learning.md). Hooks observe the residual stream after a layer; nothing is written there, so
// logits are the same bits with and without them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "ruvltra/types.h"

namespace ruvltra {

// Residual stream x after each hook layer, as n = x / sqrt(mean(x^2) + eps), without a weight vector.
struct HookStates {
  std::vector<int> layers = {};  // ascending
  size_t d_model = 0;
  std::vector<float> mean = {};  // (layers, d_model) over the answer's tokens that were computed
  size_t n_tokens = 0;           // how many: all but the last one drawn
};

// One complete answer: it stopped, or has its length.
struct AnsweredRequest {
  RequestId id = 0;
  int choice = 0;
  std::string tenant = {}, session = {};
  std::string task = {};  // Treatment::task
  std::vector<TokenId> prompt = {}, output = {};
  FinishReason reason = FinishReason::kLength;
  HookStates hooks;
};

class RequestObserver {
 public:
  virtual ~RequestObserver() = default;
  // Whether answers to such a request are to be told. From the thread that submits it.
  virtual bool wants(const Treatment& treatment) const = 0;
  // From the engine's own thread, at the end of every complete answer: must return at once.
  virtual void answered(AnsweredRequest answer) noexcept = 0;
};

}  // namespace ruvltra
