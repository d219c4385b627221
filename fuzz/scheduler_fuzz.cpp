// The bytes are a history: pool and limits of a scheduler, then submit, cancel, pause, finish, fork, propose,
// abandon and what else the simulation can do, checked against all invariants after every step.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "engine/scheduler_simulation_for_test.h"

using namespace ruvltra::testing;

namespace {

// One byte per decision. Past the end, where everybody still running is led to an end, decisions are random.
class ByteDecisions : public Decisions {
 public:
  ByteDecisions(const uint8_t* data, size_t size) : next_(data), end_(data + size), rest_(size) {}
  bool more() const { return next_ != end_; }
  size_t below(size_t n) override { return more() ? *next_++ % n : rest_.below(n); }

 private:
  const uint8_t *next_, *end_;
  RandomDecisions rest_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMaxBytes = 2000;  // a longer history takes seconds
  ByteDecisions decisions(data, std::min(size, kMaxBytes));
  Totals totals;
  const std::string fault = Simulation(decisions, totals).run([&] { return decisions.more(); });
  if (fault.empty()) return 0;
  std::fprintf(stderr, "%s\n", fault.c_str());
  std::abort();
}
