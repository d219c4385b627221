#include "server/workers.h"

#include <exception>
#include <utility>

#include "base/fail.h"

namespace ruvltra {

Workers::Workers(size_t n_threads, size_t max_waiting) : max_waiting_(max_waiting) {
  for (size_t i = 0; i < n_threads; ++i) threads_.emplace_back([this] { run(); });
}

Result<void> Workers::post(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  if (stop_ || waiting_.size() >= max_waiting_)
    return fail(ErrorKind::kBusy, "server.busy", "too many calls wait already");
  waiting_.push_back(std::move(work));
  changed_.notify_one();
  return {};
}

void Workers::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(stop_, true)) return;
    waiting_.clear();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    auto work = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    // What throws (no memory is left) loses its own work, which says so when it is dropped.
    try {
      work();
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
    }
    work = nullptr;  // what it held goes without the lock
    lock.lock();
  }
}

}  // namespace ruvltra
