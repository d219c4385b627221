#include "server/learning_state.h"

#include <algorithm>
#include <iterator>

#include "base/fail.h"
#include "base/record_id.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxOpen = 1024, kMaxSteps = 1000, kMaxJobs = 64, kKeptJobs = 32;
constexpr std::chrono::hours kMaxAge{1};

}  // namespace

void OpenTrajectories::forget_old() {
  const auto now = std::chrono::steady_clock::now();
  while (!open_.empty() && (open_.size() > kMaxOpen || now - open_.begin()->second.begin > kMaxAge))
    open_.erase(open_.begin());
}

RecordId OpenTrajectories::open(OpenTrajectory trajectory) {
  const RecordId id = new_record_id();
  const std::lock_guard lock(mutex_);
  open_.emplace(id.text(), std::move(trajectory));
  forget_old();
  return id;
}

Result<void> OpenTrajectories::add(const std::string& id, const std::string& tenant,
                                   std::vector<TrajectoryStep> steps) {
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(id);
  if (found == open_.end() || found->second.tenant != tenant)
    return fail(ErrorKind::kUsage, "request.not_found", "id: no open trajectory");
  auto& kept = found->second.trajectory.steps;
  if (kept.size() + steps.size() > kMaxSteps)
    return fail(ErrorKind::kUsage, "request.field", "steps: expected at most {} in a trajectory", kMaxSteps);
  kept.insert(kept.end(), std::make_move_iterator(steps.begin()), std::make_move_iterator(steps.end()));
  return {};
}

Result<OpenTrajectory> OpenTrajectories::close(const std::string& id, const std::string& tenant) {
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(id);
  if (found == open_.end() || found->second.tenant != tenant)
    return fail(ErrorKind::kUsage, "request.not_found", "id: no open trajectory");
  OpenTrajectory out = std::move(found->second);
  open_.erase(found);
  return out;
}

Jobs::Jobs() : thread_([this] { run(); }) {}

void Jobs::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<std::string> Jobs::queue(std::string tenant, std::string kind, std::function<Result<Json>()> work) {
  const std::lock_guard lock(mutex_);
  const auto waits = [](const Job& job) { return job.status == "queued"; };
  if (static_cast<size_t>(std::count_if(jobs_.begin(), jobs_.end(), waits)) >= kMaxJobs)
    return fail(ErrorKind::kBusy, "learning.queue_full", "jobs: expected at most {} waiting", kMaxJobs);
  Job job;
  job.id = new_record_id().text();
  job.tenant = std::move(tenant);
  job.kind = std::move(kind);
  job.work = std::move(work);
  jobs_.push_back(std::move(job));
  const std::string id = jobs_.back().id;
  changed_.notify_all();
  return id;
}

Json Jobs::list(const std::string& tenant) const {
  const std::lock_guard lock(mutex_);
  Json list = Json::array();
  for (auto job = jobs_.rbegin(); job != jobs_.rend(); ++job) {
    if (job->tenant != tenant) continue;
    list.push_back({{"id", job->id}, {"kind", job->kind}, {"status", job->status}, {"result", job->result}});
  }
  return list;
}

void Jobs::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    auto next = jobs_.end();
    changed_.wait(lock, [&] {
      next = std::find_if(jobs_.begin(), jobs_.end(), [](const Job& job) { return job.status == "queued"; });
      return stop_ || next != jobs_.end();
    });
    if (stop_) return;
    next->status = "running";
    const std::string id = next->id;
    const auto work = std::move(next->work);
    lock.unlock();
    const Result<Json> result = [&]() -> Result<Json> {
      try {
        return work();
      } catch (const std::exception&) {
        return fail(ErrorKind::kMemory, "learning.failed", "the job could not be done");
      }
    }();
    lock.lock();
    const auto done = std::find_if(jobs_.begin(), jobs_.end(), [&](const Job& job) { return job.id == id; });
    done->status = result ? "done" : "failed";
    done->result = result ? *result : Json{{"error", result.error().message}};
    while (jobs_.size() > kKeptJobs && (jobs_.front().status == "done" || jobs_.front().status == "failed"))
      jobs_.pop_front();
  }
}

}  // namespace ruvltra
