// Adapters of one basis made in several places, as one: federated averaging that no single part can carry
// off.
#pragma once

#include <memory>
#include <span>

#include "sona/micro_lora.h"

namespace ruvltra {

struct MergeOptions {
  // A part's norm counts at most so many times the median of the parts' norms: longer ones are shortened.
  double max_norm_ratio = 2;
  // Share of the values that goes at each end of a coordinate (Yin et al. 2018): with n parts, floor(trim n)
  // hostile ones move no coordinate beyond the honest ones' range. At least one goes from 3 parts on, unless
  // it is 0.
  double trim = 0.2;
};
inline constexpr size_t kMaxMergeParts = 256;

// Coordinate-wise trimmed mean of the parts after clipping; at least one value of each coordinate stays. The
// result depends on no order of the parts, and that of one part is itself. Of two parts nothing can be
// trimmed. A merge goes live like any adapter: through the gates.
// Errors (usage): learning.few_parts without parts, learning.merge_options; learning.model_mismatch for parts
// of different bases.
Result<Adapter> merge_adapters(std::span<const std::shared_ptr<const Adapter>> parts,
                               const MergeOptions& options = {});

}  // namespace ruvltra
