#include "model/kv_pool.h"

#include <gtest/gtest.h>

namespace ruvltra {
namespace {

ModelShape shape_with_head(size_t d_head) {
  ModelShape shape;
  shape.n_layers = 3;
  shape.n_kv_heads = 2;
  shape.d_head = d_head;
  return shape;
}

// Per layer, KV head and page: K and V of 64 x d_head values, for q8_0 with a half per 32 values.
TEST(KvPool, BytesOfAPage) {
  const ModelShape shape = shape_with_head(128);
  EXPECT_EQ(KvPool::page_bytes(shape, KvType::kF32), 3u * 2 * 2 * 64 * 128 * 4);
  EXPECT_EQ(KvPool::page_bytes(shape, KvType::kF16), 3u * 2 * 2 * 64 * 128 * 2);
  EXPECT_EQ(KvPool::page_bytes(shape, KvType::kQ8_0), 3u * 2 * 2 * (64 * 128 + 64 * 4 * 2));
}

TEST(KvPool, PlanesOfALayerLieApartAndStartAsZeros) {
  KvPool pool = std::move(*KvPool::make(shape_with_head(64), KvType::kQ8_0, 4));
  EXPECT_EQ(pool.n_bytes(), 4 * KvPool::page_bytes(shape_with_head(64), KvType::kQ8_0));
  const KvLayerView last = pool.layer(2);
  const size_t plane = kv_plane_bytes(KvType::kQ8_0, 64);
  EXPECT_EQ(last.v(3, 1) + plane, last.k(0, 0) - 2 * 2 * 2 * plane + pool.n_bytes());
  EXPECT_EQ(last.v(0, 0) - last.k(0, 0), static_cast<std::ptrdiff_t>(plane));
  for (size_t i = 0; i < plane; ++i) ASSERT_EQ(last.k(3, 1)[i], 0);
}

TEST(KvPool, PagesAreCopiedAndClearedWhole) {
  KvPool pool = std::move(*KvPool::make(shape_with_head(64), KvType::kF16, 4));
  const size_t n_layers = shape_with_head(64).n_layers;
  const size_t plane = kv_plane_bytes(KvType::kF16, 64);
  const auto first_and_last = [&](PageId page) {
    return std::pair(pool.layer(0).k(page, 0)[0], pool.layer(n_layers - 1).v(page, 1)[plane - 1]);
  };
  for (const PageId page : {1, 2, 3}) {
    pool.layer(0).k(page, 0)[0] = static_cast<uint8_t>(page);
    pool.layer(n_layers - 1).v(page, 1)[plane - 1] = static_cast<uint8_t>(page + 10);
  }
  pool.copy_page(2, 0);
  pool.clear_page(2);
  EXPECT_EQ(first_and_last(0), std::pair(uint8_t{2}, uint8_t{12}));
  EXPECT_EQ(first_and_last(1), std::pair(uint8_t{1}, uint8_t{11}));
  EXPECT_EQ(first_and_last(2), std::pair(uint8_t{0}, uint8_t{0}));
  EXPECT_EQ(first_and_last(3), std::pair(uint8_t{3}, uint8_t{13}));
}

TEST(KvPool, Q8NeedsWholeBlocks) {
  const auto refused = KvPool::make(shape_with_head(80), KvType::kQ8_0, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().id, "kv.head_size");
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_NE(refused.error().message.find("80"), std::string::npos);
  EXPECT_TRUE(KvPool::make(shape_with_head(80), KvType::kF16, 1));
  EXPECT_TRUE(KvPool::make(shape_with_head(96), KvType::kQ8_0, 1));
}

}  // namespace
}  // namespace ruvltra
