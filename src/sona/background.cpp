#include "sona/background.h"

#include <sys/resource.h>

#include <utility>

namespace ruvltra {
namespace {

constexpr int kNiceness = 10;

}  // namespace

Background::Background(size_t capacity, std::function<bool()> upkeep)
    : capacity_(capacity), upkeep_(std::move(upkeep)), thread_([this] { run(); }) {}

Background::~Background() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  news_.notify_all();
  thread_.join();
}

bool Background::post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    if (stop_ || tasks_.size() >= capacity_) return false;
    tasks_.push_back(std::move(task));
  }
  news_.notify_all();
  return true;
}

void Background::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  news_.notify_all();
}

void Background::run() {
  setpriority(PRIO_PROCESS, 0, kNiceness);  // of this thread, on Linux; a wish
  std::unique_lock lock(mutex_);
  while (true) {
    news_.wait(lock, [this] { return stop_ || woken_ || !tasks_.empty(); });
    if (!tasks_.empty()) {
      Task task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
      continue;
    }
    if (stop_) return;
    woken_ = false;
    lock.unlock();
    const bool more = upkeep_();
    lock.lock();
    woken_ |= more;
  }
}

}  // namespace ruvltra
