#include "ops/attention_baselines.h"

#include <gtest/gtest.h>

#include "base/num.h"
#include "kernels/dispatch.h"

namespace ruvltra {
namespace {

// Whoever measures flash attention against the others must know that all of them compute the same.
TEST(AttentionBaselines, AllMethodsAgree) {
  ThreadPool pool(2);
  const Ctx ctx{&pool, *kernel_table()};
  constexpr size_t kHead = 64, kKvHeads = 2, kHeads = 6, kTokens = 723;  // two splits, a page in part
  const size_t d_kv = kKvHeads * kHead;
  std::vector<float> q(kTokens * kHeads * kHead), k(kTokens * d_kv), v(kTokens * d_kv);
  uint32_t state = 1;
  const auto next = [&state] {
    state = state * 1664525u + 1013904223u;
    return f16_to_f32(f32_to_f16(static_cast<float>(state >> 8) * 0x1p-22f - 2));
  };
  for (auto* values : {&q, &k, &v}) {
    for (float& value : *values) value = next();
  }

  AttentionInput input;
  input.kv.plane_bytes = kv_plane_bytes(KvType::kF16, kHead);
  input.kv.page_stride = 2 * kKvHeads * input.kv.plane_bytes;
  input.kv.n_kv_heads = kKvHeads;
  input.kv.d_head = kHead;
  input.q = q.data();
  input.n_tokens = kTokens;
  input.n_heads = kHeads;
  const size_t n_pages = (kTokens + kPageTokens - 1) / kPageTokens;
  auto memory = std::move(*AlignedBuffer<uint8_t>::make(n_pages * input.kv.page_stride));
  input.kv.base = memory.data();
  std::vector<PageId> pages(n_pages);
  for (size_t p = 0; p < n_pages; ++p) pages[p] = static_cast<PageId>(p);
  input.pages = pages;
  std::vector<KvSlot> slots;
  for (size_t t = 0; t < kTokens; ++t)
    slots.push_back({pages[t / kPageTokens], static_cast<int32_t>(t % kPageTokens)});
  store_kv(ctx, input.kv, k.data(), v.data(), slots);

  std::vector<float> expected(q.size());
  naive_attention(ctx, input, k.data(), v.data(), 0, 1, expected.data());
  for (const AttentionMethod method : {AttentionMethod::kFlash, AttentionMethod::kFlashUnskipped,
                                       AttentionMethod::kBlocked, AttentionMethod::kTextbook}) {
    auto baseline = AttentionBaseline::make(ctx, method, input);
    ASSERT_TRUE(baseline);
    for (int run = 0; run < 2; ++run) {
      std::vector<float> found(q.size());
      baseline->run(found.data());
      double worst = 0;
      for (size_t i = 0; i < found.size(); ++i)
        worst = std::max(worst, std::fabs(static_cast<double>(found[i]) - static_cast<double>(expected[i])));
      EXPECT_LT(worst, 2e-5) << "method " << static_cast<int>(method) << ", run " << run;
    }
  }

  // A sample of the naive rows is those rows.
  std::vector<float> sample(q.size());
  naive_attention(ctx, input, k.data(), v.data(), 5, 100, sample.data());
  const size_t width = kHeads * kHead;
  EXPECT_TRUE(std::equal(expected.begin() + 105 * width, expected.begin() + 106 * width,
                         sample.begin() + 105 * width));
  EXPECT_EQ(sample[104 * width], 0);
}

TEST(AttentionBaselines, OnlyTheTextbookGrowsWithTheSquare) {
  AttentionInput input;
  input.kv.n_kv_heads = 2;
  input.kv.d_head = 128;
  input.n_heads = 16;
  const auto bytes = [&](AttentionMethod method, size_t n_tokens) {
    input.n_tokens = n_tokens;
    return AttentionBaseline::bytes_needed(method, input, 2);
  };
  EXPECT_GT(bytes(AttentionMethod::kTextbook, 32768), 2 * uint64_t{4} * 32768 * 32768);
  const auto flash_growth = [&](size_t n_tokens) {
    return bytes(AttentionMethod::kFlash, 2 * n_tokens) - bytes(AttentionMethod::kFlash, n_tokens);
  };
  EXPECT_LE(flash_growth(16384), 2 * flash_growth(8192));
  EXPECT_LT(100 * bytes(AttentionMethod::kFlash, 32768), bytes(AttentionMethod::kTextbook, 32768));
}

}  // namespace
}  // namespace ruvltra
