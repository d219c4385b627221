#include "ops/kv_layer.h"

#include <algorithm>
#include <cfloat>

#include "base/check.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxHead = 512;

// f32 pages, like f16 ones, hold finite values only.
float finite(float x) {
  const float low = x > -FLT_MAX ? x : -FLT_MAX;
  return low < FLT_MAX ? low : FLT_MAX;
}

// One token's n values, `stride` elements apart: 64 in a K plane (n, 64), 1 in a V plane (64, n).
template <class T>
void scatter(const T* values, size_t n, size_t stride, T* to) {
  if (stride == 1) {
    std::copy_n(values, n, to);
  } else {
    for (size_t i = 0; i < n; ++i) to[i * stride] = values[i];
  }
}

struct Plane {
  uint8_t* data;
  bool is_k;

  template <class T>
  void put(const T* values, size_t n, size_t slot, size_t byte_offset) const {
    T* plane = reinterpret_cast<T*>(data + byte_offset);
    if (is_k) {
      scatter(values, n, kPageTokens, plane + slot);
    } else {
      scatter(values, n, 1, plane + slot * n);
    }
  }
};

void store(const AttentionKernels& kernels, const KvLayerView& kv, const Plane& plane, size_t slot,
           const float* x) {
  CHECK(kv.d_head <= kMaxHead);
  switch (kv.type) {
    case KvType::kF16: {
      uint16_t half[kMaxHead];
      kernels.to_f16(x, half, kv.d_head);
      return plane.put(half, kv.d_head, slot, 0);
    }
    case KvType::kQ8_0: {
      int8_t quants[kMaxHead];
      uint16_t scales[kMaxHead / kKvBlock];
      kernels.to_q8(x, quants, scales, kv.d_head);
      plane.put(quants, kv.d_head, slot, 0);
      return plane.put(scales, kv.d_head / kKvBlock, slot, kv.d_head * kPageTokens);
    }
    case KvType::kF32: {
      float single[kMaxHead];
      std::transform(x, x + kv.d_head, single, finite);
      return plane.put(single, kv.d_head, slot, 0);
    }
  }
}

}  // namespace

size_t kv_plane_bytes(KvType type, size_t d_head) {
  const size_t n = d_head * kPageTokens;
  return type == KvType::kF16    ? n * sizeof(uint16_t)
         : type == KvType::kQ8_0 ? n * sizeof(int8_t) + n / kKvBlock * sizeof(uint16_t)
                                 : n * sizeof(float);
}

void store_k(const KernelTable& kernels, const KvLayerView& kv, size_t kv_head, KvSlot slot, const float* k) {
  if (slot.page == kNoPage) return;
  store(kernels.attention, kv, {kv.k(slot.page, kv_head), true}, static_cast<size_t>(slot.slot), k);
}

void store_v(const KernelTable& kernels, const KvLayerView& kv, size_t kv_head, KvSlot slot, const float* v) {
  if (slot.page == kNoPage) return;
  store(kernels.attention, kv, {kv.v(slot.page, kv_head), false}, static_cast<size_t>(slot.slot), v);
}

void store_kv(const Ctx& ctx, const KvLayerView& kv, const float* k, const float* v,
              std::span<const KvSlot> slots) {
  ctx.pool->parallel_for(slots.size(), [&](size_t t, int) {
    for (size_t head = 0; head < kv.n_kv_heads; ++head) {
      const size_t offset = (t * kv.n_kv_heads + head) * kv.d_head;
      store_k(*ctx.kernels, kv, head, slots[t], k + offset);
      store_v(*ctx.kernels, kv, head, slots[t], v + offset);
    }
  });
}

}  // namespace ruvltra
