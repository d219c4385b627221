#include "sona/learner.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <future>
#include <utility>

#include "base/fail.h"
#include "sona/adapter_merge.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kTick = std::chrono::seconds(1);
constexpr auto kCheckpointEvery = std::chrono::seconds(60);

// Best effort: a system that refuses leaves the thread as it is.
void become_low_priority() {
  sched_param parameters{};
  pthread_setschedparam(pthread_self(), SCHED_BATCH, &parameters);
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 19);
}

}  // namespace

// What the learner's thread owns; its loops are reached by tasks on that thread alone.
class Learner::Work {
 public:
  std::unique_ptr<LearningLoops> loops;

  // For status(), which does not wait for the thread.
  struct Seen {
    LearningLoops::Counters counters;
    std::vector<LearnReport> reports;
    size_t n_loaded = 0;
    std::vector<std::pair<Scope, int64_t>> frozen_until_us;
    std::string last_error;
  };
  Seen seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }
  void show(const Result<void>& result) {
    const std::lock_guard lock(mutex_);
    if (!result) {
      ++n_failed_;
      seen_.last_error = result.error().message;
    }
    seen_.counters = loops->counters();
    if (n_failed_ > 0) seen_.counters["failed"] = n_failed_;
    seen_.reports.assign(loops->reports().begin(), loops->reports().end());
    seen_.n_loaded = loops->n_loaded();
    seen_.frozen_until_us = loops->frozen();
  }

 private:
  mutable std::mutex mutex_;
  Seen seen_;
  uint64_t n_failed_ = 0;
};

Result<std::unique_ptr<Learner>> Learner::open(std::shared_ptr<const LearningSpace> space, Store& store,
                                               const std::filesystem::path& folder, TeacherForced forward,
                                               LearnerOptions options) {
  RETURN_IF_ERROR(options.validate());
  std::unique_ptr<Learner> learner(new Learner());
  learner->space_ = std::move(space);
  learner->options_ = std::move(options);
  if (!learner->options_.pace) learner->options_.pace = std::make_shared<LearningPace>(nullptr);
  const LearnerOptions& own = learner->options_;
  ASSIGN_OR_RETURN(learner->book_, GenerationBook::open(store, folder / "adapters", learner->space_->basis(),
                                                        own.keep_generations));
  learner->ring_ = std::make_unique<SignalRing>(own.ring_capacity, own.ring_bytes);
  learner->work_ = std::make_unique<Work>();
  ASSIGN_OR_RETURN(learner->work_->loops,
                   LearningLoops::make(learner->space_, *learner->book_, folder / "state", std::move(forward),
                                       own, [pace = own.pace.get()] { pace->breathe(); }));
  learner->thread_ = std::thread([raw = learner.get()] { raw->run(); });
  return learner;
}

Learner::~Learner() { stop(); }

void Learner::run() {
  pthread_setname_np(pthread_self(), "sona-learn");
  if (options_.low_priority) become_low_priority();
  Work& work = *work_;
  auto next_tick = Clock::now() + kTick, next_checkpoint = Clock::now() + kCheckpointEvery;
  std::unique_lock lock(mutex_);
  while (true) {
    news_.wait_until(lock, next_tick, [this] { return stop_ || signalled_ || !tasks_.empty(); });
    if (stop_ && tasks_.empty()) break;
    Task task;
    if (!tasks_.empty()) {
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    signalled_ = false;
    lock.unlock();
    if (task) {
      task(work);
    } else if (auto signal = ring_->take()) {
      work.show(work.loops->absorb(*signal));
      const std::lock_guard again(mutex_);
      signalled_ = true;  // there may be more; tasks and the clock come in between
    }
    const auto now = Clock::now();
    if (now >= next_tick) {
      next_tick = now + kTick;
      if (options_.automatic) work.show(work.loops->tick());
    }
    if (now >= next_checkpoint) {
      next_checkpoint = now + kCheckpointEvery;
      work.show(work.loops->checkpoint());
    }
    lock.lock();
  }
  lock.unlock();
  work.show(work.loops->checkpoint());
}

// False: the thread takes no more tasks.
bool Learner::post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return false;
    tasks_.push_back(std::move(task));
  }
  news_.notify_all();
  return true;
}

// Runs f on the thread, after the tasks before it, and waits.
Result<void> Learner::on_thread(const std::function<Result<void>(Work&)>& f) {
  const LearningPace::Waiting waiting(*options_.pace);
  std::promise<Result<void>> promise;
  auto future = promise.get_future();
  const bool posted = post([&](Work& work) {
    Result<void> result = f(work);
    work.show(result);
    promise.set_value(std::move(result));
  });
  if (!posted) return fail(ErrorKind::kBusy, "learning.stopped", "the learner has been stopped");
  return future.get();
}

void Learner::stop() {
  const LearningPace::Waiting waiting(*options_.pace);
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  news_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<void> Learner::enqueue(LearningSignal signal) {
  const auto begun = Clock::now();
  RETURN_IF_ERROR(validate_signal(
      signal, {.max_tokens = options_.max_signal_tokens, .n_vocab = space_->head().n_rows()}));
  ring_->put(std::move(signal));
  {
    const std::lock_guard lock(mutex_);
    signalled_ = true;
  }
  news_.notify_all();
  enqueued_.add(Clock::now() - begun);
  return {};
}

Result<void> Learner::drain() {
  return on_thread([this](Work& work) -> Result<void> {
    // What comes in meanwhile is for later.
    for (size_t n = ring_->stats().n_waiting; n > 0; --n) {
      const auto signal = ring_->take();
      if (!signal) break;
      work.show(work.loops->absorb(*signal));
    }
    return {};
  });
}

Result<LearnReport> Learner::learn(const Scope& scope) {
  if (scope.tenant.empty()) {
    return fail(ErrorKind::kUsage, "learning.bad_signal",
                "learn: expected a tenant, found none: the global scope does not learn by itself");
  }
  RETURN_IF_ERROR(drain());
  LearnReport report;
  RETURN_IF_ERROR(on_thread([&](Work& work) -> Result<void> {
    auto result = scope.session.empty() ? work.loops->background(scope.tenant) : work.loops->instant(scope);
    if (!result) return tl::unexpected(result.error());
    report = std::move(*result);
    return {};
  }));
  return report;
}

Result<LearnReport> Learner::run_background(const std::string& tenant) {
  return learn({.tenant = tenant, .session = ""});
}

Result<LearnReport> Learner::run_deep(const std::string& tenant) {
  if (tenant.empty()) return fail(ErrorKind::kUsage, "learning.bad_signal", "deep: expected a tenant");
  RETURN_IF_ERROR(drain());
  LearnReport report;
  RETURN_IF_ERROR(on_thread([&](Work& work) -> Result<void> {
    ASSIGN_OR_RETURN(report, work.loops->deep(tenant));
    return {};
  }));
  return report;
}

Result<void> Learner::begin_task(const Scope& scope, std::string name) {
  if (scope.tenant.empty() || name.empty() || name.size() > kMaxTaskName) {
    return fail(ErrorKind::kUsage, "learning.bad_signal",
                "task: expected a tenant and a name of 1 to {} bytes, found tenant \"{}\" and {} bytes",
                kMaxTaskName, ruvltra::quoted(scope.tenant), name.size());
  }
  RETURN_IF_ERROR(drain());
  return on_thread([&](Work& work) { return work.loops->boundary(scope, name); });
}

Result<void> Learner::checkpoint() {
  return on_thread([](Work& work) { return work.loops->checkpoint(); });
}

Result<GenerationRecord> Learner::publish(const Scope& scope, std::optional<uint64_t> expected,
                                          std::shared_ptr<const Adapter> adapter, std::string reason) {
  if (adapter->basis().hash() != space_->basis()->hash()) {
    return fail("learning.model_mismatch", "publish: expected an adapter of basis {}, found one of another",
                to_hex(space_->basis()->hash()).substr(0, 12));
  }
  GenerationRecord published;
  RETURN_IF_ERROR(on_thread([&](Work& work) -> Result<void> {
    if (!adapter->is_zero()) {
      if (auto checked = work.loops->check_operators(*adapter); !checked) return checked;
    }
    const uint64_t own = expected.value_or(book_->number(scope));
    GenerationRecord record;
    record.reason = reason;
    record.parent = own;
    ASSIGN_OR_RETURN(published, book_->publish(scope, own, adapter, std::move(record)));
    return {};
  }));
  return published;
}

Result<GenerationRecord> Learner::rollback(const Scope& scope, std::optional<uint64_t> to,
                                           std::optional<uint64_t> expected) {
  ASSIGN_OR_RETURN(GenerationRecord record, book_->rollback(scope, to, expected));
  // Attempts under way end in a conflict; later ones find the row, and the state once this has run.
  post([scope, number = record.number](Work& work) { work.show(work.loops->taken_back(scope, number)); });
  return record;
}

Result<GenerationRecord> Learner::reset(const Scope& scope) { return book_->reset(scope); }

Result<void> Learner::freeze(const Scope& scope, double seconds) {
  if (!(seconds >= 0 && seconds <= 1e9)) {
    return fail(ErrorKind::kUsage, "learning.options", "freeze: expected 0 to 1e9 seconds, found {}",
                seconds);
  }
  return on_thread([&](Work& work) {
    return work.loops->freeze(scope, options_.clock_us() + static_cast<int64_t>(seconds * 1e6));
  });
}

Result<Sha256Digest> Learner::export_adapter(const Scope& scope, std::optional<uint64_t> number,
                                             const std::filesystem::path& file) const {
  std::shared_ptr<const Adapter> adapter = book_->live(scope).adapter;
  if (number) {
    ASSIGN_OR_RETURN(adapter, book_->adapter(scope, *number));
  }
  RETURN_IF_ERROR(adapter->save(file));
  return adapter->hash();
}

Result<GenerationRecord> Learner::import_adapter(const Scope& scope, const std::filesystem::path& file) {
  ASSIGN_OR_RETURN(Adapter adapter, Adapter::load(file, space_->basis()));
  return publish(scope, {}, std::make_shared<const Adapter>(std::move(adapter)), "import");
}

Result<GenerationRecord> Learner::import_adapter(const Scope& scope, std::span<const uint8_t> bytes,
                                                 std::string_view name) {
  ASSIGN_OR_RETURN(Adapter adapter, Adapter::parse(bytes, name, space_->basis()));
  return publish(scope, {}, std::make_shared<const Adapter>(std::move(adapter)), "import");
}

Result<GenerationRecord> Learner::merge_adapters(std::span<const std::filesystem::path> files,
                                                 const Scope& scope) {
  if (files.size() > kMaxMergeParts) {
    return fail(ErrorKind::kUsage, "learning.too_many_parts", "merge: expected at most {} adapters, found {}",
                kMaxMergeParts, files.size());
  }
  std::vector<std::shared_ptr<const Adapter>> parts;
  for (const auto& file : files) {
    ASSIGN_OR_RETURN(Adapter adapter, Adapter::load(file, space_->basis()));
    parts.push_back(std::make_shared<const Adapter>(std::move(adapter)));
  }
  ASSIGN_OR_RETURN(Adapter merged, ruvltra::merge_adapters(parts));
  return publish(scope, {}, std::make_shared<const Adapter>(std::move(merged)), "merge");
}

Result<void> Learner::delete_data(const std::string& tenant, const std::optional<std::string>& session) {
  return on_thread([&](Work& work) -> Result<void> {
    ring_->forget(tenant, session);
    RETURN_IF_ERROR(work.loops->forget(tenant, session));
    book_->forget(tenant, session);
    return {};
  });
}

LearnerStatus Learner::status() const {
  LearnerStatus status;
  status.ring = ring_->stats();
  status.enqueue_p50_us = enqueued_.quantile_us(0.5);
  status.enqueue_p99_us = enqueued_.quantile_us(0.99);
  auto seen = work_->seen();
  status.counters = std::move(seen.counters);
  status.reports = std::move(seen.reports);
  status.last_error = std::move(seen.last_error);
  status.n_scopes_loaded = seen.n_loaded;
  const int64_t now_us = options_.clock_us();
  for (auto& [scope, until_us] : seen.frozen_until_us)
    if (until_us > now_us) status.frozen.push_back(std::move(scope));
  for (const std::string& why : space_->rebuilt()) status.notes.push_back("made anew: " + why);
  for (const std::string& why : book_->damaged()) status.notes.push_back("damaged: " + why);
  return status;
}

}  // namespace ruvltra
