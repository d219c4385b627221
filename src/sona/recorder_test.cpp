#include "sona/recorder.h"

#include <gtest/gtest.h>

#include <semaphore>

#include "base/fail.h"

namespace ruvltra {
namespace {

AnsweredRequest answer(RequestId id, size_t n_bytes = 0) {
  AnsweredRequest out;
  out.id = id;
  out.task.assign(n_bytes, 'a');
  return out;
}

// A handler that waits to be let on, one answer at a time.
struct Gate {
  std::counting_semaphore<1000> go{0};
  std::binary_semaphore begun{0};
  std::vector<RequestId> handled;
  Recorder::Handle handle() {
    return [this](AnsweredRequest& told) -> Result<void> {
      begun.release();
      go.acquire();
      handled.push_back(told.id);
      if (told.id == 13) return fail(ErrorKind::kIo, "store.disk_full", "disk full");
      return {};
    };
  }
};

TEST(Recorder, AFullQueueLosesItsOldest) {
  Gate gate;
  {
    Recorder recorder(3, 1 << 20, gate.handle());
    recorder.answered(answer(1));
    gate.begun.acquire();  // 1 is being handled, the queue is empty
    for (RequestId id = 2; id <= 6; ++id) recorder.answered(answer(id));
    EXPECT_EQ(recorder.stats().n_overwritten, 2u);
    gate.go.release(100);
    recorder.drain();
    EXPECT_EQ(recorder.stats().n_recorded, 4u);
  }
  EXPECT_EQ(gate.handled, (std::vector<RequestId>{1, 4, 5, 6}));
}

TEST(Recorder, BytesAreBoundedToo) {
  Gate gate;
  Recorder recorder(100, 10'000, gate.handle());
  recorder.answered(answer(1));
  gate.begun.acquire();
  for (RequestId id = 2; id <= 5; ++id) recorder.answered(answer(id, 4000));
  EXPECT_EQ(recorder.stats().n_overwritten, 2u);
  recorder.answered(answer(6, 20'000));  // larger than the bound: taken alone
  EXPECT_EQ(recorder.stats().n_overwritten, 4u);
  gate.go.release(100);
  recorder.stop();
  EXPECT_EQ(gate.handled, (std::vector<RequestId>{1, 6}));
}

TEST(Recorder, FailuresAreCountedAndNothingComesAfterStop) {
  Gate gate;
  gate.go.release(100);
  Recorder recorder(10, 1 << 20, gate.handle());
  recorder.answered(answer(13));
  recorder.drain();
  EXPECT_EQ(recorder.stats().n_failed, 1u);
  EXPECT_EQ(recorder.stats().last_error, "disk full");
  recorder.answered(answer(2));
  recorder.stop();  // what waits is handled first
  recorder.answered(answer(3));
  recorder.drain();
  EXPECT_EQ(gate.handled, (std::vector<RequestId>{13, 2}));
}

}  // namespace
}  // namespace ruvltra
