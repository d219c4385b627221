// Weights with the threads and the kernels that run them: the part of loading a model that is the same
// whatever is done with it.
#pragma once

#include <memory>

#include "base/threads.h"
#include "gguf/reader.h"
#include "model/memory.h"
#include "model/weights.h"
#include "ops/context.h"
#include "ruvltra/config.h"
#include "ruvltra/model.h"

namespace ruvltra {

struct ReadyWeights {
  std::unique_ptr<ThreadPool> pool;
  Ctx ctx;  // of this pool
  Weights weights;

  // Takes threads, instruction set and memory limit from the configuration. `need` is checked before a weight
  // is read. Errors: isa.*, memory.limit, weights.*, model.cancelled.
  static Result<ReadyWeights> load(const GgufFile& file, const MemoryNeed& need, const MediumConfig& config,
                                   const LoadOptions& options, ModelRole role = ModelRole::kMain);
};

}  // namespace ruvltra
