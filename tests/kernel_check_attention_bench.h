// Speed of attention: MAC per cycle of one page against several rows, for every rung of this machine.
#pragma once

#include "kernel_check_bench.h"
#include "kernels/dispatch.h"
#include "ops/attention.h"

namespace ruvltra::kernel_check {

// One page in f32 and the rows that see it.
class PageBench {
 public:
  PageBench(size_t d_head, size_t n_rows)
      : k_(buffer(d_head * kPageTokens)),
        v_(buffer(d_head * kPageTokens)),
        q_(buffer(n_rows * d_head)),
        p_(buffer(n_rows * kPageTokens)),
        alpha_(buffer(n_rows)),
        m_(buffer(n_rows)),
        l_(buffer(n_rows)),
        o_(buffer(n_rows * d_head)),
        n_visible_(n_rows, static_cast<int32_t>(kPageTokens)) {
    page_.k = k_.data();
    page_.v = v_.data();
    page_.d_head = d_head;
    page_.q = q_.data();
    page_.n_visible = n_visible_.data();
    page_.n_rows = n_rows;
    page_.p = p_.data();
    page_.alpha = alpha_.data();
    page_.state = {m_.data(), l_.data(), o_.data()};
  }

  // MAC per cycle of `step`, which does n_mac of them per row.
  template <class F>
  double mac_per_cycle(double hz, size_t n_mac, F&& step) const {
    const size_t n_repeats = 1 + 40'000'000 / (n_mac * page_.n_rows);
    const double best = best_seconds(5, 1, [&] {
      for (size_t i = 0; i < n_repeats; ++i) step(page_);
    });
    return static_cast<double>(n_mac * page_.n_rows * n_repeats) / (best * hz);
  }

 private:
  static AlignedBuffer<float> buffer(size_t n) {
    auto made = AlignedBuffer<float>::make(n);
    CHECK(made.has_value());
    Random random(n);
    for (float& value : made->span()) value = 0.1f * random.uniform();
    return std::move(*made);
  }
  AlignedBuffer<float> k_, v_, q_, p_, alpha_, m_, l_, o_;
  std::vector<int32_t> n_visible_;
  AttentionPage page_;
};

// One decode step of the medium model's attention (16 query heads, 2 KV heads of 128) over layers that
// together do not fit the caches.
class DecodeBench {
 public:
  DecodeBench(const KernelTable& table, KvType type, size_t n_positions, size_t n_bytes)
      : pool_(physical_cores()), ctx_{&pool_, &table}, n_positions_(n_positions) {
    const size_t n_pages = n_positions / kPageTokens;
    kv_.type = type;
    kv_.d_head = kHead;
    kv_.n_kv_heads = kKvHeads;
    kv_.plane_bytes = kv_plane_bytes(type, kHead);
    const size_t layer_bytes = 2 * kKvHeads * kv_.plane_bytes;
    n_layers_ = n_bytes / (n_pages * layer_bytes);
    kv_.page_stride = n_layers_ * layer_bytes;
    memory_ = std::move(*AlignedBuffer<uint8_t>::make(n_pages * kv_.page_stride));
    std::memset(memory_.data(), 1, memory_.size());
    for (size_t page = 0; page < n_pages; ++page) pages_.push_back(static_cast<PageId>(page));
    scratch_ =
        std::move(*AttentionScratch::make({pool_.n_threads(), kHeads, kKvHeads, kHead, 1, n_positions}));
  }

  // Bytes of KV pages per second.
  double rate() {
    const std::vector<float> q(kHeads * kHead, 0.01f);
    std::vector<float> out(q.size());
    const auto position = static_cast<int32_t>(n_positions_ - 1);
    const AttentionSequence sequence{0, 1, pages_};
    const double best = best_seconds(5, pool_.n_threads(), [&] {
      for (size_t layer = 0; layer < n_layers_; ++layer) {
        KvLayerView view = kv_;
        view.base = memory_.data() + layer * 2 * kKvHeads * kv_.plane_bytes;
        attention(ctx_, view, {&sequence, 1}, {&position, 1}, q.data(), kHeads, out.data(), scratch_);
      }
    });
    return static_cast<double>(memory_.size()) / best;
  }
  double read_rate() {
    const auto* words = reinterpret_cast<const uint64_t*>(memory_.data());
    return read_bandwidth(pool_, {words, memory_.size() / sizeof(uint64_t)});
  }

 private:
  static constexpr size_t kHeads = 16, kKvHeads = 2, kHead = 128;
  ThreadPool pool_;
  Ctx ctx_;
  size_t n_positions_;
  size_t n_layers_ = 0;
  KvLayerView kv_;
  AlignedBuffer<uint8_t> memory_;
  std::vector<PageId> pages_;
  AttentionScratch scratch_;
};

inline void bench_decode() {
  fmt::print(
      "\none token, 16 query heads, 2 KV heads of 128, {} threads: GB/s of KV pages, and a plain sum\n",
      physical_cores());
  for (const std::string_view isa : supported_isas()) {
    if (isa == "scalar") continue;
    for (const KvType type : {KvType::kF16, KvType::kQ8_0}) {
      for (const size_t n_positions : {size_t{8192}, size_t{32768}}) {
        DecodeBench bench(**kernel_table(isa), type, n_positions, size_t{256} << 20);
        const double read = bench.read_rate();
        const double rate = bench.rate();
        fmt::print("{:8} {:5} {:6} positions {:6.1f} {:6.1f} {:4.0f} %\n", isa,
                   type == KvType::kF16 ? "f16" : "q8_0", n_positions, rate / 1e9, read / 1e9,
                   100 * rate / read);
      }
    }
  }
}

// Whole, and with each of its three steps alone; weigh() in cycles per slot.
inline int bench_attention() {
  constexpr size_t kHead = 128;
  constexpr size_t kMac = kHead * kPageTokens;
  const double hz = measured_hz();
  fmt::print("one page of 64 tokens, d_head {}, {:.2f} GHz: MAC/cycle, and cycles per weight\n", kHead,
             hz / 1e9);
  fmt::print("{:8} {:>5} {:>6} {:>6} {:>6} {:>7}\n", "", "rows", "page", "score", "values", "weights");
  for (const std::string_view isa : supported_isas()) {
    const AttentionKernels& kernels = (*kernel_table(isa))->attention;
    for (const size_t n_rows : {1, 4, 7, 8, 40, 64, 256}) {
      const PageBench bench(kHead, n_rows);
      const double page = bench.mac_per_cycle(hz, 2 * kMac, [&](const AttentionPage& rows) {
        kernels.score(rows);
        kernels.weigh(rows);
        kernels.add_values(rows);
      });
      fmt::print("{:8} {:5} {:6.1f} {:6.1f} {:6.1f} {:7.2f}\n", isa, n_rows, page,
                 bench.mac_per_cycle(hz, kMac, kernels.score),
                 bench.mac_per_cycle(hz, kMac, kernels.add_values),
                 1 / bench.mac_per_cycle(hz, kPageTokens, kernels.weigh));
    }
  }
  bench_decode();
  return 0;
}

}  // namespace ruvltra::kernel_check
