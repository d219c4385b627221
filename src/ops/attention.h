// Causal grouped-query attention over paged keys and values (docs/kernels.md section 8).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "kernels/attention.h"
#include "ops/context.h"
#include "ruvltra/config.h"

namespace ruvltra {

using PageId = int32_t;

// Where a row's K and V are written. kNoPage: nowhere, the position is already in the cache.
inline constexpr PageId kNoPage = -1;
struct KvSlot {
  PageId page = kNoPage;
  int32_t slot = 0;  // 0..63
};

// Bytes of one K or V of one head and page. q8_0: 64 d_head values, then a f16 scale per token and 32
// dimensions: (d_head / 32, 64) for K, (64, d_head / 32) for V; d_head is a multiple of 32.
size_t kv_plane_bytes(KvType type, size_t d_head);

// One layer of a KV pool. Per page and KV head: K transposed (d_head, 64), then V (64, d_head), in elements
// of `type`.
struct KvLayerView {
  uint8_t* base = nullptr;
  size_t page_stride = 0;  // bytes from one page to the next
  size_t plane_bytes = 0;  // kv_plane_bytes()
  KvType type = KvType::kF16;
  size_t n_kv_heads = 0;
  size_t d_head = 0;

  uint8_t* k(PageId page, size_t kv_head) const {
    return base + static_cast<size_t>(page) * page_stride + kv_head * 2 * plane_bytes;
  }
  uint8_t* v(PageId page, size_t kv_head) const { return k(page, kv_head) + plane_bytes; }
};

// Writes k and v (n_tokens, n_kv_heads * d_head) to their slots.
void store_kv(const Ctx& ctx, const KvLayerView& kv, const float* k, const float* v,
              std::span<const KvSlot> slots);

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
