// The way from the loop to the reader of one request: a queue of drawn tokens with a bound, which the loop
// never waits for.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "ruvltra/types.h"

namespace ruvltra {

// How an answer ended, and what it took.
struct Outcome {
  FinishReason reason = FinishReason::kLength;
  size_t n_cached = 0;
  size_t n_drafted = 0, n_accepted = 0;
  Timings timings;
  std::optional<Error> error;
};

// What the reader takes from a stream: a token, or the outcome that is the last item of its choice.
struct StreamItem {
  int choice = 0;
  Sampled token;
  std::optional<Outcome> outcome;
};

// Thread safety: one writer (the loop), one reader; the queries from any thread.
// Invariants: 1. items of a choice are taken in the order they were put, its outcome last and once; 2. memory
// for all items is taken when the stream is made.
class TokenStream {
 public:
  using Notice = std::function<void()>;

  // Holds `bound` tokens before it is full, each with room for n_top likeliest ones; a choice gets at most
  // tokens_per_step at once. `on_ready` is called by the writer when an empty stream gets an item, `on_room`
  // by the reader when a full one is half empty: both must return at once and not throw.
  TokenStream(int n_choices, size_t bound, size_t tokens_per_step, Notice on_ready, Notice on_room,
              size_t n_top = 0);

  // Writer. A full stream still takes one step's tokens and the outcome of every choice.
  void put(StreamItem item);
  // Memory for Sampled::top of the next token put.
  std::vector<TokenLogprob> spare_top();
  bool full() const { return full_.load(std::memory_order_relaxed); }
  void set_prompt_done(size_t n_tokens) { n_prompt_done_.store(n_tokens, std::memory_order_relaxed); }

  // Reader. False once every outcome was taken. `deadline` empty: waits for as long as it takes; otherwise
  // nothing to take by then also gives false.
  using Clock = std::chrono::steady_clock;
  bool take(StreamItem& item, std::optional<Clock::time_point> deadline = std::nullopt);
  bool drained() const;  // every outcome was taken
  size_t n_prompt_done() const { return n_prompt_done_.load(std::memory_order_relaxed); }

 private:
  const size_t bound_, n_top_;
  const Notice on_ready_, on_room_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<StreamItem> ring_;
  size_t first_ = 0, n_items_ = 0;
  int n_open_;  // choices whose outcome was not taken
  std::atomic<bool> full_{false};
  std::atomic<size_t> n_prompt_done_{0};  // tokens of the prompt computed or found
};

}  // namespace ruvltra
