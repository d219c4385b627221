// Threads for work that waits: a bounded queue, so that a flood is refused instead of piling up.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

// Thread safety: all functions from any thread.
class Workers {
 public:
  Workers(size_t n_threads, size_t max_waiting);
  ~Workers() { stop(); }
  // Error: server.busy (busy).
  Result<void> post(std::function<void()> work);
  void stop();  // waits for the work at hand, drops the rest

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  const size_t max_waiting_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace ruvltra
