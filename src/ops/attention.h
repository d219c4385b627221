// Causal grouped-query attention over paged keys and values (docs/kernels.md section 8).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "kernels/attention.h"
#include "ops/context.h"
#include "ops/kv_layer.h"
#include "ruvltra/config.h"

namespace ruvltra {

// The rows of one sequence in a step; pages[p] holds positions 64 p .. 64 p + 63.
struct AttentionSequence {
  size_t first_row = 0;
  size_t n_rows = 0;
  std::span<const PageId> pages;
};

// Scratch of all threads, taken once.
class AttentionScratch {
 public:
  struct Options {
    int n_threads = 1;
    size_t n_heads = 0;
    size_t n_kv_heads = 0;
    size_t d_head = 0;
    size_t max_tokens = 0;     // rows per step
    size_t max_positions = 0;  // longest sequence
  };
  static Result<AttentionScratch> make(const Options& options);
  static uint64_t bytes_needed(const Options& options);

 private:
  friend class AttentionRun;
  // Rows of one sequence handled together; with all query heads of a KV head they form the rows of a tile.
  struct Tile {
    size_t first_row = 0;
    size_t n_rows = 0;
    const PageId* pages = nullptr;
  };
  Options options_;
  AlignedBuffer<float> threads_;  // (n_threads, floats per thread)
  AlignedBuffer<float> partial_;  // states of splits walked in parallel
  std::vector<Tile> tiles_;
};

// out (n_tokens, n_heads * d_head) = softmax(q k^T / sqrt(d_head)) v, row t seeing the positions of its own
// sequence up to positions[t]. The bits of a row depend on its position and the cached values only.
void attention(const Ctx& ctx, const KvLayerView& kv, std::span<const AttentionSequence> sequences,
               std::span<const int32_t> positions, const float* q, size_t n_heads, float* out,
               AttentionScratch& scratch);

}  // namespace ruvltra
