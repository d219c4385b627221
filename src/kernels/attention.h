// Attention over 64-token KV pages (docs/kernels.md section 8).
#pragma once

#include <cstddef>
#include <cstdint>

namespace ruvltra {

inline constexpr size_t kPageTokens = 64;

struct AttentionKernels {};

}  // namespace ruvltra
