#include "sona/recorder.h"

#include <exception>
#include <utility>

#include "base/fail.h"

namespace ruvltra {

Recorder::Recorder(size_t capacity, size_t max_bytes, Handle handle)
    : max_bytes_(max_bytes), handle_(std::move(handle)), ring_(capacity) {
  thread_ = std::thread([this] { run(); });
}

Recorder::~Recorder() { stop(); }

void Recorder::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (!stop_) deadline_ = std::chrono::steady_clock::now() + kDrain;
    stop_ = true;
  }
  news_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Recorder::wants(const Treatment& treatment) const { return treatment.record; }

size_t Recorder::bytes_of(const AnsweredRequest& answer) {
  return sizeof answer + answer.task.size() + answer.hooks.mean.size() * sizeof(float) +
         (answer.prompt.size() + answer.output.size()) * sizeof(TokenId);
}

void Recorder::answered(AnsweredRequest answer) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return;
    const size_t n_bytes = bytes_of(answer);
    while (n_waiting_ == ring_.size() || (n_waiting_ > 0 && n_bytes_ + n_bytes > max_bytes_)) {
      n_bytes_ -= bytes_of(ring_[first_]);
      ring_[first_] = AnsweredRequest();
      first_ = (first_ + 1) % ring_.size();
      --n_waiting_;
      ++n_done_;
      ++stats_.n_overwritten;
    }
    ring_[(first_ + n_waiting_++) % ring_.size()] = std::move(answer);
    n_bytes_ += n_bytes;
    ++n_put_;
  }
  news_.notify_all();
}

void Recorder::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    news_.wait(lock, [this] { return stop_ || n_waiting_ > 0; });
    if (n_waiting_ == 0) return;
    if (stop_ && std::chrono::steady_clock::now() > deadline_) {
      stats_.n_overwritten += n_waiting_;
      n_done_ += n_waiting_;
      n_waiting_ = 0;
      handled_.notify_all();
      return;
    }
    AnsweredRequest answer = std::move(ring_[first_]);
    n_bytes_ -= bytes_of(answer);
    first_ = (first_ + 1) % ring_.size();
    --n_waiting_;
    lock.unlock();
    Result<void> handled = handle(answer);
    lock.lock();
    ++n_done_;
    if (handled) {
      ++stats_.n_recorded;
    } else {
      ++stats_.n_failed;
      stats_.last_error = std::move(handled.error().message);
    }
    handled_.notify_all();
  }
}

// A handler that lacks memory loses one answer, not the process.
Result<void> Recorder::handle(AnsweredRequest& answer) try {
  return handle_(answer);
} catch (const std::exception& error) {
  return fail(ErrorKind::kMemory, "memory.exhausted", "recording: {}", error.what());
}

void Recorder::drain() {
  std::unique_lock lock(mutex_);
  const uint64_t target = n_put_;
  handled_.wait(lock, [&] { return n_done_ >= target || (stop_ && n_waiting_ == 0); });
}

Recorder::Stats Recorder::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace ruvltra
