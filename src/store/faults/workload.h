// A stream of changes that is the same every time, and what a store must hold after any number of them.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>

#include "store/store.h"

namespace ruvltra {

// Every record as its line of JSON, by kind and id.
using Content = std::map<std::string, std::string>;

// Changes of one writer, who is one tenant. Each is one transaction; together they use every table: new and
// replaced rows, pairs of rows that belong together, overflow pages.
class CrashWorkload {
 public:
  CrashWorkload(uint64_t seed, int writer);
  const std::string& tenant() const { return tenant_; }

  // Change number k on a store, or on a model of it.
  Result<void> apply(Store& store, uint64_t k) const;
  void apply(Content& content, uint64_t k) const;

  // What the store holds of this writer. Error: store.duplicate if a record is there twice.
  Result<Content> read(Store& store) const;

 private:
  enum class Kind {
    kTrajectory,
    kLongTrajectory,
    kPatternPair,
    kPatternMove,
    kFeedback,
    kDecision,
    kOutcome,
    kPublish,
    kValue
  };
  static Kind kind_of(uint64_t k);
  uint64_t id_number(uint64_t k) const;
  TrajectoryRecord make_trajectory(uint64_t k) const;
  PatternRecord make_pattern(uint64_t slot, uint64_t version) const;
  DecisionRecord make_decision(uint64_t k, bool with_outcome) const;
  FeedbackRecord make_feedback(uint64_t k) const;
  GenerationRecord make_generation(uint64_t k) const;
  std::vector<uint8_t> make_value(uint64_t k) const;

  uint64_t seed_;
  uint64_t writer_;
  std::string tenant_;
};

// Numbers for faults: the same for a seed on every machine.
class FaultRandom {
 public:
  explicit FaultRandom(uint64_t seed) : bits_(seed) {}
  uint64_t below(uint64_t n) { return n == 0 ? 0 : bits_() % n; }
  bool chance(uint64_t one_in) { return below(one_in) == 0; }

 private:
  std::mt19937_64 bits_;
};

}  // namespace ruvltra
