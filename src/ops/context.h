// What every operation runs with. No operation keeps state of its own.
#pragma once

#include "base/threads.h"
#include "kernels/table.h"

namespace ruvltra {

struct Ctx {
  ThreadPool* pool = nullptr;
  const KernelTable* kernels = nullptr;
};

}  // namespace ruvltra
