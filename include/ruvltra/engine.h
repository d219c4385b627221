// Serving many requests at once. An engine belongs to a MediumModel (model.h), which makes it when it loads.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ruvltra/error.h"
#include "ruvltra/types.h"

namespace ruvltra {

struct ModelParts;

// The events of one request, taken by one reader at its own pace. A reader that falls behind pauses its own
// request, and loses it after EngineConfig::slow_reader_seconds; nobody else notices. A stream that is
// destroyed early cancels its request.
//
// Thread safety: one reader; cancel() and prompt_progress() from any thread. A stream must not outlive its
// model.
class Stream {
 public:
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  RequestId id() const;
  uint64_t seed() const;  // the request's, or the one drawn for it

  // The next event; waits for it. Empty once every choice has had its final event. Memory failing here, not
  // in the engine, is the only thing that throws.
  std::optional<Event> next();
  // The same without waiting: empty also when there is nothing yet; finished() tells which.
  std::optional<Event> poll();
  bool finished() const;

  void cancel();

  // Grows with every step that computes a piece of the prompt, and is whole before the first token; begins
  // anew if the request has to give its pages back. From any thread.
  PromptProgress prompt_progress() const;

  // Reads to the end. One answer per choice.
  std::vector<Generation> wait();
  // The answers so far, (n): complete where their final event was taken.
  std::span<const Generation> generations() const;

 private:
  friend class Engine;
  struct Impl;
  explicit Stream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Receives every event of a request, in order; false cancels the request, and only final events still come.
using Sink = std::function<bool(const Event&)>;

// Same model, prompt, parameters and seed: the same tokens, text and log-probabilities, bit for bit, whatever
// else the engine does at the time (docs/engine.md).
//
// Thread safety: all functions from any thread.
class Engine {
 public:
  // Errors (usage, unless said): request.empty_prompt, request.too_long, request.n, request.max_tokens,
  // request.timeout, config.*, sampler.range; what the tokenizer or the chat template find wrong;
  // engine.queue_full and engine.stopped (busy). With a constraint also constraint.vocabulary (unsupported):
  // of a model whose vocabulary cannot be constrained.
  //
  // on_ready is called when an event arrives at a stream that had none, from the engine's own thread: it must
  // return at once, and may only wake the reader. The last call may come when the reader has already taken
  // everything: what it uses must be its own.
  Result<Stream> stream(Request request, std::function<void()> on_ready = {});

  // Events go to `sink`, called from a thread of this request alone: a sink that blocks holds up nobody else.
  Result<RequestId> submit(Request request, Sink sink);

  // Ends a request with FinishReason::kCancelled after the step that is running. Unknown ids are ignored.
  void cancel(RequestId id);

  EngineStats stats() const;

  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

 private:
  friend class MediumModel;
  struct Impl;
  explicit Engine(ModelParts& parts);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ruvltra
