// What adapters learn from, and the bounded queue it waits in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "base/sha256.h"
#include "ruvltra/error.h"
#include "ruvltra/learning.h"
#include "ruvltra/types.h"
#include "store/records.h"

namespace ruvltra {

enum class LearningSignalKind : uint8_t {
  kCorrection,  // the text that should have been the answer
  kAccepted,    // an answer that was taken as it is, or a document that was given to learn from
  kQuality,     // an answer and how good it was; nothing says that its text is right
};

struct LearningSignal {
  Scope scope = {};
  std::vector<TokenId> tokens = {};  // context, then target; only the target is learned
  size_t n_context = 0;              // 1 .. tokens.size() - 1
  LearningSignalKind kind = LearningSignalKind::kAccepted;
  float weight = 1;                    // of each target token: above 0, at most 1
  std::optional<double> quality = {};  // 0..1; of kQuality
  TrajectoryId trajectory = {};        // the request it is about
  std::optional<Split> split = {};     // where the trajectory went; absent: by a hash of the tokens
};

// Limits of one signal.
struct SignalLimits {
  size_t max_tokens = 8192;
  size_t n_vocab = 0;
};
// Errors (usage): learning.bad_signal names the field; learning.bad_quality; learning.not_finite.
Result<void> validate_signal(const LearningSignal& signal, const SignalLimits& limits);

// Of tokens and context length: equal texts have equal digests, whoever sends them.
Sha256Digest signal_content(const LearningSignal& signal);

// *Thread safety*: all functions from any thread. Invariants: 1. put() moves one object under a mutex that is
// held for nothing else but moves; 2. a full ring loses its oldest signals, and counts them; 3. memory freed
// by a loss is returned by take(), never by put().
class SignalRing {
 public:
  SignalRing(size_t capacity, size_t max_bytes);

  void put(LearningSignal signal);
  // The oldest, if there is one. One thread takes.
  std::optional<LearningSignal> take();
  // Those of a tenant, or of one of its sessions, go unseen; how many.
  size_t forget(const std::string& tenant, const std::optional<std::string>& session);

  struct Stats {
    size_t n_waiting = 0;
    uint64_t n_put = 0, n_overwritten = 0;
  };
  Stats stats() const;

 private:
  static size_t bytes_of(const LearningSignal& signal);
  void drop_oldest();

  const size_t max_bytes_;
  mutable std::mutex mutex_;
  std::vector<LearningSignal> slots_;  // (capacity)
  std::vector<LearningSignal> lost_;   // wait to be freed
  std::vector<LearningSignal> freed_;  // of the thread that takes; its memory and that of lost_ take turns
  size_t first_ = 0, n_waiting_ = 0, n_bytes_ = 0;
  uint64_t n_put_ = 0, n_overwritten_ = 0;
};

}  // namespace ruvltra
