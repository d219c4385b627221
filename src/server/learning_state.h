// What the server itself remembers of the learning system's clients, for as long as it runs.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/json.h"
#include "ruvltra/error.h"
#include "ruvltra/learning.h"

namespace ruvltra {

// A trajectory whose end has not come.
struct OpenTrajectory {
  std::string tenant, session;
  Trajectory trajectory;
  std::chrono::steady_clock::time_point begin;
};

// At most 1,024, each for an hour at most; the oldest go first.
//
// Thread safety: all functions from any thread.
class OpenTrajectories {
 public:
  RecordId open(OpenTrajectory trajectory);
  // Errors of both: request.not_found; of the first: request.field beyond 1,000 steps.
  Result<void> add(const std::string& id, const std::string& tenant, std::vector<TrajectoryStep> steps);
  Result<OpenTrajectory> close(const std::string& id, const std::string& tenant);

 private:
  void forget_old();
  std::mutex mutex_;
  std::map<std::string, OpenTrajectory> open_;  // ids sort by age
};

// Work that takes long, one piece after another in a thread of its own. Keeps the last results.
//
// Thread safety: all functions from any thread.
class Jobs {
 public:
  Jobs();
  ~Jobs() { stop(); }
  void stop();  // waits for the piece at hand, drops the rest
  // The job's id. Error: learning.queue_full (busy) beyond 64 waiting ones.
  Result<std::string> queue(std::string tenant, std::string kind, std::function<Result<Json>()> work);
  // [{id, kind, status: queued|running|done|failed, result?, error?}], newest first.
  Json list(const std::string& tenant) const;

 private:
  struct Job {
    std::string id, tenant, kind, status = "queued";
    std::function<Result<Json>()> work;
    Json result;
  };
  void run();
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;  // oldest first
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace ruvltra
