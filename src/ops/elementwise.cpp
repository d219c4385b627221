#include "ops/elementwise.h"

#include <algorithm>

namespace ruvltra {
namespace {

// Large enough to be worth a task, small enough that one token's row feeds several threads.
constexpr size_t kSiluChunk = 2048;

}  // namespace

void rms_norm(const Ctx& ctx, const float* x, const float* w, float eps, float* y, size_t n_tokens,
              size_t d) {
  ctx.pool->parallel_for(n_tokens,
                         [&](size_t t, int) { ctx.kernels->rows.rms_norm(x + t * d, w, eps, y + t * d, d); });
}

void silu_mul(const Ctx& ctx, float* gate, const float* up, size_t n_tokens, size_t d) {
  const size_t n_chunks = (d + kSiluChunk - 1) / kSiluChunk;
  ctx.pool->parallel_for(n_tokens * n_chunks, [&](size_t task, int) {
    const size_t begin = task % n_chunks * kSiluChunk;
    const size_t offset = task / n_chunks * d + begin;
    ctx.kernels->rows.silu_mul(gate + offset, up + offset, gate + offset, std::min(kSiluChunk, d - begin));
  });
}

}  // namespace ruvltra
