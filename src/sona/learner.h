// The learner: signals in, published adapter generations out (docs/learning.md). One thread of the lowest
// priority turns text into token records, fits candidates, holds them against the gates, and publishes by
// compare-and-set. It never delays or fails a request.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/record_id.h"
#include "sona/generation_book.h"
#include "sona/latency.h"
#include "sona/learning_loops.h"
#include "sona/learning_signal.h"
#include "sona/learning_space.h"
#include "sona/teacher_forced.h"
#include "store/store.h"

namespace ruvltra {

struct LearnerStatus {
  SignalRing::Stats ring;
  double enqueue_p50_us = 0, enqueue_p99_us = 0;  // whole calls of enqueue()
  std::map<std::string, uint64_t> counters;  // by effect or reason of a refusal; docs/learning.md lists them
  std::vector<LearnReport> reports;          // the latest, newest first
  std::vector<std::string> notes;            // damaged files, rebuilt spaces
  std::string last_error;
  size_t n_scopes_loaded = 0;
  std::vector<Scope>
      frozen;  // publish nothing by themselves at present; LearningLoops::frozen() says of whom
};

// *Thread safety*: all functions from any thread. Store, model and space must outlive the object.
class Learner {
 public:
  static Result<std::unique_ptr<Learner>> open(std::shared_ptr<const LearningSpace> space, Store& store,
                                               const std::filesystem::path& folder, TeacherForced forward,
                                               LearnerOptions options);
  ~Learner();  // stop()

  // Checks the signal and puts it in the ring; never waits for the learner. Errors: those of
  // validate_signal().
  Result<void> enqueue(LearningSignal signal);

  // Works off what waits, then tries to publish: a session by its instant loop, a tenant by its background
  // loop. A refusal is a report, not an error. Errors: store.*, file.*, those of the model; learning.stopped.
  Result<LearnReport> learn(const Scope& scope);
  // The tenant's background loop, whatever its triggers say.
  Result<LearnReport> run_background(const std::string& tenant);
  // The adapters of the tenant's conversations, merged by their Fisher information, as a candidate of the
  // tenant; through the gates like any other.
  Result<LearnReport> run_deep(const std::string& tenant);
  // A new task begins: what was learned before is anchored.
  Result<void> begin_task(const Scope& scope, std::string name);
  // Waits until everything enqueued before the call is worked off.
  Result<void> drain();
  // Writes the training state of every scope.
  Result<void> checkpoint();
  // The work at hand is finished, states are written, and nothing happens afterwards but live().
  void stop();

  LiveAdapter live(const Scope& scope) const { return book_->live(scope); }
  std::vector<GenerationRecord> history(const Scope& scope) const { return book_->history(scope); }
  std::vector<Scope> scopes() const { return book_->scopes(); }  // with a generation of their own
  // Of a kept generation. Errors: learning.not_found, and those of Adapter::load().
  Result<std::shared_ptr<const Adapter>> adapter(const Scope& scope, uint64_t number) const {
    return book_->adapter(scope, number);
  }
  // Operators' commands. publish and import pass G2 to G4 first (learning.gate_rejected); all are
  // compare-and-set where `expected` is given (store.conflict).
  Result<GenerationRecord> publish(const Scope& scope, std::optional<uint64_t> expected,
                                   std::shared_ptr<const Adapter> adapter, std::string reason);
  // Rolls back at once, whatever the learner is at. What was live is never published by itself again.
  Result<GenerationRecord> rollback(const Scope& scope, std::optional<uint64_t> to = {},
                                    std::optional<uint64_t> expected = {});
  Result<GenerationRecord> reset(const Scope& scope);
  // No automatic publish for so long; 0 ends it.
  Result<void> freeze(const Scope& scope, double seconds);

  // The live adapter, or that of a kept generation, as one RVC1 file; its content hash.
  Result<Sha256Digest> export_adapter(const Scope& scope, std::optional<uint64_t> number,
                                      const std::filesystem::path& file) const;
  // Errors: those of Adapter::load() and publish().
  Result<GenerationRecord> import_adapter(const Scope& scope, const std::filesystem::path& file);
  // The same of a file's bytes; `name` is what errors call them.
  Result<GenerationRecord> import_adapter(const Scope& scope, std::span<const uint8_t> bytes,
                                          std::string_view name);
  // What several machines learned, as one (sona/adapter_merge.h). Errors: those of Adapter::load(),
  // merge_adapters() and publish().
  Result<GenerationRecord> merge_adapters(std::span<const std::filesystem::path> files, const Scope& scope);

  // Signals, records, training states and adapter files of a tenant, or of one session and its text in the
  // tenant's state. Comes before Store::delete_data(), which deletes the rows. A session's text that was
  // learned by the tenant's adapter stays in its weights, until reset() or the tenant is deleted.
  Result<void> delete_data(const std::string& tenant, const std::optional<std::string>& session = {});

  LearnerStatus status() const;
  size_t n_waiting() const { return ring_->stats().n_waiting; }  // signals
  size_t n_canary_tokens() const { return space_->canary().size(); }

 private:
  class Work;  // what the thread owns
  using Task = std::function<void(Work&)>;
  Learner() = default;
  void run();
  bool post(Task task);
  Result<void> on_thread(const std::function<Result<void>(Work&)>& f);

  std::shared_ptr<const LearningSpace> space_;
  LearnerOptions options_;
  std::unique_ptr<GenerationBook> book_;
  std::unique_ptr<SignalRing> ring_;
  LatencyHistogram enqueued_;
  std::unique_ptr<Work> work_;
  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::deque<Task> tasks_;
  bool stop_ = false, signalled_ = false;
  std::thread thread_;
};

}  // namespace ruvltra
