#include "model/kv_pool.h"

#include <cstring>

#include "base/check.h"
#include "base/fail.h"

namespace ruvltra {
size_t KvPool::page_bytes(const ModelShape& shape, KvType type) {
  return shape.n_layers * shape.n_kv_heads * 2 * kv_plane_bytes(type, shape.d_head);
}

Result<void> KvPool::check_type(const ModelShape& shape, KvType type) {
  if (type != KvType::kQ8_0 || shape.d_head % kKvBlock == 0) return {};
  return fail(ErrorKind::kUsage, "kv.head_size",
              "kv-type: q8_0 needs heads of a multiple of {} dimensions, found {}", kKvBlock, shape.d_head);
}

Result<KvPool> KvPool::make(const ModelShape& shape, KvType type, size_t n_pages) {
  CHECK(n_pages <= INT32_MAX);
  RETURN_IF_ERROR(check_type(shape, type));
  KvPool pool;
  pool.type_ = type;
  pool.n_pages_ = n_pages;
  pool.n_layers_ = shape.n_layers;
  pool.n_kv_heads_ = shape.n_kv_heads;
  pool.d_head_ = shape.d_head;
  pool.plane_bytes_ = kv_plane_bytes(type, shape.d_head);
  ASSIGN_OR_RETURN(pool.data_, AlignedBuffer<uint8_t>::make(n_pages * page_bytes(shape, type)));
  return pool;
}

uint8_t* KvPool::page(PageId id) {
  DCHECK(id >= 0 && static_cast<size_t>(id) < n_pages_);
  return data_.data() + static_cast<size_t>(id) * (n_layers_ * n_kv_heads_ * 2 * plane_bytes_);
}

void KvPool::copy_page(PageId from, PageId to) {
  std::memcpy(page(to), page(from), n_layers_ * n_kv_heads_ * 2 * plane_bytes_);
}

void KvPool::clear_page(PageId id) { std::memset(page(id), 0, n_layers_ * n_kv_heads_ * 2 * plane_bytes_); }

KvLayerView KvPool::layer(size_t layer) {
  DCHECK(layer < n_layers_);
  const size_t layer_bytes = n_kv_heads_ * 2 * plane_bytes_;
  KvLayerView view;
  view.base = data_.data() + layer * layer_bytes;
  view.page_stride = n_layers_ * layer_bytes;
  view.plane_bytes = plane_bytes_;
  view.type = type_;
  view.n_kv_heads = n_kv_heads_;
  view.d_head = d_head_;
  return view;
}

}  // namespace ruvltra
