// Speed of attention: MAC per cycle of one page against several rows, for every rung of this machine.
#pragma once

#include "kernel_check_bench.h"
#include "kernels/dispatch.h"

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
  return 0;
}

}  // namespace ruvltra::kernel_check
