// Row-wise operations over the thread pool.
#pragma once

#include <cstddef>

#include "ops/context.h"

namespace ruvltra {

// y (n_tokens, d) = RMSNorm of each row of x (Zhang & Sennrich, 2019): x / sqrt(mean(x^2) + eps) * w.
void rms_norm(const Ctx& ctx, const float* x, const float* w, float eps, float* y, size_t n_tokens, size_t d);

// gate = silu(gate) * up over (n_tokens, d).
void silu_mul(const Ctx& ctx, float* gate, const float* up, size_t n_tokens, size_t d);

}  // namespace ruvltra
