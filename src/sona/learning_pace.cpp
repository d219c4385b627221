#include "sona/learning_pace.h"

#include <algorithm>
#include <thread>

namespace ruvltra {
namespace {

constexpr auto kQuantum = std::chrono::milliseconds(5);
constexpr int kRestsPerQuantum = 3;

}  // namespace

void LearningPace::engine_worked(double seconds) const {
  const auto begun = Clock::now();
  // Looked at anew all the time: the answers may end, somebody may begin to wait.
  while (answering()) {
    const double share = n_waiting_ > 0 ? kAwaitedShare : kShare;
    const std::chrono::duration<double> rest(seconds * (1 / share - 1));
    const auto rested = Clock::now() - begun;
    if (rested >= rest) return;
    std::this_thread::sleep_for(std::min<std::chrono::duration<double>>(rest - rested, kQuantum));
  }
}

void LearningPace::breathe() {
  if (Clock::now() - begun_ < kQuantum) return;
  if (answering()) std::this_thread::sleep_for(kRestsPerQuantum * kQuantum);
  begun_ = Clock::now();
}

}  // namespace ruvltra
