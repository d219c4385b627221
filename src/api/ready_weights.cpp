#include "api/ready_weights.h"

#include <utility>

#include "base/fail.h"
#include "kernels/dispatch.h"

namespace ruvltra {

Result<ReadyWeights> ReadyWeights::load(const GgufFile& file, const MemoryNeed& need,
                                        const MediumConfig& config, const LoadOptions& options,
                                        ModelRole role) {
  ASSIGN_OR_RETURN(const KernelTable* kernels, kernel_table(config.isa));
  RETURN_IF_ERROR(check_memory(need, config.memory_limit_bytes, file.path().string()));
  auto pool = std::make_unique<ThreadPool>(
      config.n_threads > 0 ? config.n_threads : default_threads(),
      options.pin_threads ? ThreadPool::Pinning::kOneCpuEach : ThreadPool::Pinning::kNone);
  const Ctx ctx{pool.get(), kernels};
  ASSIGN_OR_RETURN(Weights weights, Weights::load(ctx, file, options.on_progress, role));
  if (options.tune) RETURN_IF_ERROR(weights.tune(ctx));
  return ReadyWeights{std::move(pool), ctx, std::move(weights)};
}

}  // namespace ruvltra
