// The one thread that owns the connection, and the bounded queue before it. Changes are committed in groups.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "store/core.h"
#include "store/files.h"
#include "store/store.h"
#include "store/store_parts.h"

namespace ruvltra {

// Thread safety: public functions from any thread but its own (store.reentered).
class StoreThread {
 public:
  using Done = std::function<void(Result<void>)>;

  StoreThread(const StoreFiles& files, const Store::Options& options, const StoreParts& parts,
              std::unique_ptr<StoreCore> core, std::optional<DamagedRow> found_before);
  // Finishes what is in the queue, then closes.
  ~StoreThread();

  // Waits for the commit.
  Result<void> change(StoreCore::Change body);
  // `done` is called from the thread, after the commit. An error here: it was not taken, and `done` is not
  // called.
  Result<void> change_async(StoreCore::Change body, Done done);
  // Reads and the like, outside of transactions; waits.
  Result<void> inside(StoreCore::Change body);

  StoreStats stats() const;
  std::vector<DamagedRow> damaged() const;

 private:
  using Clock = std::chrono::steady_clock;

  // A change goes into a group; anything else runs alone.
  struct Operation {
    StoreCore::Change change;
    StoreCore::Change inside;
    Done done;
  };

  Result<void> enqueue(Operation operation);
  Result<void> wait_for(Operation operation);
  Result<void> unavailable() const;

  void run();
  Operation take();
  void wait_idle(std::unique_lock<std::mutex>& guard);
  void gather(std::unique_lock<std::mutex>& guard, std::vector<Operation>& group);
  void run_one(Operation& operation);
  void commit(std::vector<Operation>& group);
  void checkpoint_quietly();
  void reopen_if_needed();
  void publish_state();

  const StoreFiles files_;
  const Store::Options options_;
  const StoreParts parts_;
  std::unique_ptr<StoreCore> core_;  // of the thread, once it runs; null after an I/O error
  StoreStats earlier_;               // counts of earlier connections
  Clock::time_point next_attempt_ = {};

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Operation> queue_;
  bool stop_ = false;

  mutable std::mutex state_mutex_;
  StoreStats stats_;
  std::vector<DamagedRow> damaged_;

  std::thread thread_;
};

}  // namespace ruvltra
