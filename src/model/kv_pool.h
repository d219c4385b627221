// Memory of the KV cache: pages of 64 consecutive positions of one sequence, all layers together. Who owns
// which page is decided above (engine); this is the memory and its address arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned.h"
#include "model/config.h"
#include "ops/attention.h"
#include "ops/kv_layer.h"

namespace ruvltra {

// Layout: page, layer, KV head, then K transposed (d_head, 64) and V (64, d_head): lane = token for scores,
// lane = dimension for values (docs/kernels.md section 8); of q8_0 both are followed by their scales. Memory
// starts as zeros and holds finite values only. Thread safety: writes to different (page, slot) pairs may run
// in parallel.
class KvPool {
 public:
  // Errors: kv.head_size as below, memory.exhausted.
  static Result<KvPool> make(const ModelShape& shape, KvType type, size_t n_pages);

  // q8_0 needs heads of whole blocks of 32 dimensions. Error: kv.head_size (usage).
  static Result<void> check_type(const ModelShape& shape, KvType type);
  static size_t page_bytes(const ModelShape& shape, KvType type);
  static size_t pages_for(size_t n_positions) { return (n_positions + kPageTokens - 1) / kPageTokens; }

  KvType type() const { return type_; }
  size_t n_pages() const { return n_pages_; }
  size_t n_bytes() const { return data_.size(); }

  KvLayerView layer(size_t layer);

  // All layers of a page.
  void copy_page(PageId from, PageId to);
  void clear_page(PageId id);  // as it was at the start

 private:
  uint8_t* page(PageId id);

  KvType type_ = KvType::kF16;
  size_t n_pages_ = 0;
  size_t n_layers_ = 0;
  size_t n_kv_heads_ = 0;
  size_t d_head_ = 0;
  size_t plane_bytes_ = 0;  // one K or V of one head and page
  AlignedBuffer<uint8_t> data_;
};

}  // namespace ruvltra
