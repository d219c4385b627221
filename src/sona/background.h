// One thread for work that nobody waits for: tasks first, in their order, and between them, in small
// portions, the upkeep of what learning keeps.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace ruvltra {

// Thread safety: all functions from any thread.
class Background {
 public:
  using Task = std::function<void()>;
  // upkeep() does a portion and says whether some is left. Neither may throw.
  Background(size_t capacity, std::function<bool()> upkeep);
  ~Background();  // tasks that wait are done first

  // False if `capacity` tasks are waiting.
  bool post(Task task);
  // There may be upkeep to do.
  void wake();

 private:
  void run();
  const size_t capacity_;
  const std::function<bool()> upkeep_;
  std::mutex mutex_;
  std::condition_variable news_;
  std::deque<Task> tasks_;
  bool woken_ = true, stop_ = false;
  std::thread thread_;
};

}  // namespace ruvltra
