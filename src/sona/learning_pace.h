// How learning gives way: while answers are made it takes little of the engine's time and a quarter of a
// core; else all it can get.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>

namespace ruvltra {

// *Thread safety*: Waiting from any thread, the functions from the learner's alone.
class LearningPace {
 public:
  // Shares of the engine's time for texts that the model reads for learning: one in a hundred steps is late
  // by one such piece, which the 99th percentile does not see. If somebody waits for the learner, a quarter.
  static constexpr double kShare = 0.01, kAwaitedShare = 0.25;

  // `answering`: are answers being made? Empty: never.
  explicit LearningPace(std::function<bool()> answering) : answering_(std::move(answering)) {}

  // After `seconds` of the engine's time: rests for so long that they were the share, or until no answers are
  // made.
  void engine_worked(double seconds) const;
  // Called often during other work: after each 5 ms of it 15 ms of rest while answers are made.
  void breathe();

  // While the object lives, the caller waits for the learner.
  class Waiting {
   public:
    explicit Waiting(LearningPace& pace) : pace_(pace) { ++pace_.n_waiting_; }
    ~Waiting() { --pace_.n_waiting_; }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    LearningPace& pace_;
  };

 private:
  using Clock = std::chrono::steady_clock;
  bool answering() const { return answering_ && answering_(); }

  const std::function<bool()> answering_;
  std::atomic<int> n_waiting_ = 0;
  Clock::time_point begun_ = Clock::now();  // of the quantum
};

}  // namespace ruvltra
