#include "store/store_thread.h"

#include <pthread.h>

#include <algorithm>
#include <future>
#include <new>

#include "base/fail.h"

namespace ruvltra {
namespace {

Result<void> guarded(const StoreCore::Change& body, StoreCore& core) {
  try {
    return body(core);
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kMemory, "store.memory", "no memory for this request");
  }
}

}  // namespace

StoreThread::StoreThread(const StoreFiles& files, const Store::Options& options, const StoreParts& parts,
                         std::unique_ptr<StoreCore> core, std::optional<DamagedRow> found_before)
    : files_(files), options_(options), parts_(parts), core_(std::move(core)) {
  if (found_before) damaged_.push_back(*std::move(found_before));
  publish_state();
  thread_ = std::thread([this] { run(); });
}

StoreThread::~StoreThread() {
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

Result<void> StoreThread::enqueue(Operation operation) {
  if (std::this_thread::get_id() == thread_.get_id()) {
    return fail(ErrorKind::kUsage, "store.reentered", "the store was called from a callback of its own");
  }
  {
    const std::lock_guard guard(mutex_);
    if (queue_.size() >= options_.queue) {
      return fail(ErrorKind::kBusy, "store.busy", "the queue of {} operations is full", options_.queue);
    }
    queue_.push_back(std::move(operation));
  }
  wake_.notify_one();
  return {};
}

Result<void> StoreThread::wait_for(Operation operation) {
  std::promise<Result<void>> promise;
  operation.done = [&promise](Result<void> result) { promise.set_value(std::move(result)); };
  RETURN_IF_ERROR(enqueue(std::move(operation)));
  return promise.get_future().get();
}

Result<void> StoreThread::change(StoreCore::Change body) { return wait_for({std::move(body), {}, {}}); }
Result<void> StoreThread::change_async(StoreCore::Change body, Done done) {
  return enqueue({std::move(body), {}, std::move(done)});
}
Result<void> StoreThread::inside(StoreCore::Change body) { return wait_for({{}, std::move(body), {}}); }

Result<void> StoreThread::unavailable() const {
  const std::lock_guard guard(state_mutex_);
  return fail(ErrorKind::kIo, "store.unavailable", "the store is closed after an error: {}", stats_.why_not);
}

void StoreThread::run() {
  pthread_setname_np(pthread_self(), "sona-store");
  std::unique_lock guard(mutex_);
  for (;;) {
    if (queue_.empty() && stop_) break;
    if (queue_.empty()) {
      wait_idle(guard);
      continue;
    }
    Operation first = take();
    if (first.inside) {
      guard.unlock();
      run_one(first);
      guard.lock();
      continue;
    }
    std::vector<Operation> group;
    group.push_back(std::move(first));
    gather(guard, group);
    guard.unlock();
    commit(group);
    guard.lock();
  }
  guard.unlock();
  // An unclean end is recovered from at the next opening; there is nobody left to tell.
  if (core_ != nullptr && !core_->must_reopen()) static_cast<void>(core_->close().has_value());
  core_.reset();
}

StoreThread::Operation StoreThread::take() {
  Operation operation = std::move(queue_.front());
  queue_.pop_front();
  return operation;
}

void StoreThread::wait_idle(std::unique_lock<std::mutex>& guard) {
  const auto ready = [this] { return !queue_.empty() || stop_; };
  if (core_ == nullptr || core_->must_reopen() || core_->wal_pages() == 0) {
    wake_.wait(guard, ready);
  } else if (!wake_.wait_for(guard, parts_.idle_checkpoint, ready)) {
    guard.unlock();
    checkpoint_quietly();
    guard.lock();
  }
}

// More changes join the first until the group is full, `group_ms` have passed, or nobody has come for an
// eighth of that time: whoever waits for an acknowledgement will not send another. Reads meanwhile are
// answered at once; no change of the group has begun.
void StoreThread::gather(std::unique_lock<std::mutex>& guard, std::vector<Operation>& group) {
  const auto window = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double, std::milli>(options_.group_ms));
  const auto deadline = Clock::now() + window;
  while (group.size() < options_.group_operations) {
    if (queue_.empty()) {
      const auto until = std::min(deadline, Clock::now() + window / 8);
      wake_.wait_until(guard, until, [this] { return !queue_.empty() || stop_; });
      if (queue_.empty()) return;
    }
    Operation next = take();
    if (next.inside) {
      guard.unlock();
      run_one(next);
      guard.lock();
    } else {
      group.push_back(std::move(next));
    }
  }
}

void StoreThread::run_one(Operation& operation) {
  reopen_if_needed();
  Result<void> result = core_ != nullptr ? guarded(operation.inside, *core_) : unavailable();
  if (core_ != nullptr) core_->settle_damage();
  publish_state();  // before the answer: the caller may look at damaged() and stats() next
  operation.done(std::move(result));
}

void StoreThread::commit(std::vector<Operation>& group) {
  reopen_if_needed();
  std::vector<Result<void>> results;
  if (core_ == nullptr) {
    results.assign(group.size(), unavailable());
  } else {
    std::vector<StoreCore::Change> changes;
    for (Operation& operation : group) changes.push_back(std::move(operation.change));
    results = core_->commit(changes);
    core_->settle_damage();
  }
  publish_state();
  for (size_t i = 0; i < group.size(); ++i) group[i].done(std::move(results[i]));
  if (core_ != nullptr && core_->wal_pages() >= parts_.checkpoint_pages) checkpoint_quietly();
}

// What it could not do is done by a later one, and an I/O error is met by a new connection.
void StoreThread::checkpoint_quietly() {
  if (core_->must_reopen()) return;
  static_cast<void>(core_->checkpoint(false).has_value());
  publish_state();
}

// After an I/O error: a new connection, which recovers what the old one had committed.
void StoreThread::reopen_if_needed() {
  if (options_.read_only) return;
  if (core_ != nullptr && !core_->must_reopen()) return;
  if (core_ != nullptr) {
    publish_state();
    earlier_ = stats();
    core_.reset();  // without a last checkpoint: the WAL stays
    next_attempt_ = Clock::now();
  }
  if (Clock::now() < next_attempt_) return;
  next_attempt_ = Clock::now() + parts_.reopen_pause;
  auto core = StoreCore::open(files_, options_, parts_.vfs);
  if (core) {
    core_ = *std::move(core);
    publish_state();
    return;
  }
  const std::lock_guard guard(state_mutex_);
  stats_.writable = false;
  stats_.why_not = core.error().message;
}

void StoreThread::publish_state() {
  if (core_ == nullptr) return;
  StoreStats stats;
  stats.n_commits = earlier_.n_commits;
  stats.n_operations = earlier_.n_operations;
  stats.n_checkpoints = earlier_.n_checkpoints;
  core_->fill(stats);
  std::vector<DamagedRow> found = core_->take_damage();
  const std::lock_guard guard(state_mutex_);
  stats_ = stats;
  constexpr size_t kMaxReported = 10'000;
  for (DamagedRow& row : found) {
    if (damaged_.size() < kMaxReported) damaged_.push_back(std::move(row));
  }
}

StoreStats StoreThread::stats() const {
  StoreStats copy;
  {
    const std::lock_guard guard(state_mutex_);
    copy = stats_;
  }
  std::error_code error;
  for (const auto& file : {files_.database(), files_.wal()}) {
    const auto size = std::filesystem::file_size(file, error);
    if (!error) copy.file_bytes += static_cast<size_t>(size);
  }
  return copy;
}

std::vector<DamagedRow> StoreThread::damaged() const {
  const std::lock_guard guard(state_mutex_);
  return damaged_;
}

}  // namespace ruvltra
