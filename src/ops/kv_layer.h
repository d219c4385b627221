// One layer's keys and values in pages of 64 tokens (docs/kernels.md section 8).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

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

// One token's k or v of one head (d_head), rounded to the pages' type. Nothing is written for kNoPage.
void store_k(const KernelTable& kernels, const KvLayerView& kv, size_t kv_head, KvSlot slot, const float* k);
void store_v(const KernelTable& kernels, const KvLayerView& kv, size_t kv_head, KvSlot slot, const float* v);

// Writes k and v (n_tokens, n_kv_heads * d_head) to their slots.
void store_kv(const Ctx& ctx, const KvLayerView& kv, const float* k, const float* v,
              std::span<const KvSlot> slots);

}  // namespace ruvltra
