// Answers on their way from the engine to the store: a bounded queue that the engine never waits for, and a
// thread that works it off.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "ruvltra/error.h"
#include "ruvltra/hooks.h"

namespace ruvltra {

// Thread safety: all functions from any thread.
// Invariants: 1. answered() moves one object under a lock that is never held for longer; 2. a full queue
// loses its oldest answer, and counts it.
class Recorder final : public RequestObserver {
 public:
  // handle() is called from the recorder's own thread, one answer at a time.
  using Handle = std::function<Result<void>(AnsweredRequest&)>;
  Recorder(size_t capacity, size_t max_bytes, Handle handle);
  ~Recorder() override;  // stop()

  bool wants(const Treatment& treatment) const override;
  void answered(AnsweredRequest answer) noexcept override;

  // Waits until everything that was answered before the call has been handled.
  void drain();
  // Handles what waits for kDrain at most, counts the rest as lost, and handles nothing afterwards: for an
  // owner whose handler is about to go.
  static constexpr std::chrono::seconds kDrain{5};
  void stop();

  struct Stats {
    uint64_t n_recorded = 0;
    uint64_t n_overwritten = 0;  // lost: by newer ones, or at the end
    uint64_t n_failed = 0;
    std::string last_error;
  };
  Stats stats() const;

 private:
  void run();
  Result<void> handle(AnsweredRequest& answer);
  static size_t bytes_of(const AnsweredRequest& answer);

  const size_t max_bytes_;
  const Handle handle_;
  mutable std::mutex mutex_;
  std::condition_variable news_, handled_;
  std::vector<AnsweredRequest> ring_;  // (capacity)
  size_t first_ = 0, n_waiting_ = 0, n_bytes_ = 0;
  uint64_t n_put_ = 0, n_done_ = 0;  // lost ones are done
  bool stop_ = false;
  std::chrono::steady_clock::time_point deadline_;
  Stats stats_;
  std::thread thread_;
};

}  // namespace ruvltra
