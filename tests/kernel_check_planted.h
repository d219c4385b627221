// Faults planted on purpose: kernel_check must flag each of them, or it is worth nothing.
#pragma once

#include "kernel_check_matmul.h"
#include "kernels/panel_layout.h"

namespace ruvltra::kernel_check {

// The kernel a faulty wrapper calls; set while that fault is being checked.
inline MatmulFn honest_matmul = nullptr;
inline ActivationKernels honest_activations;

// The panels of a call in memory of our own, to be spoiled.
class PanelCopy {
 public:
  explicit PanelCopy(const MatmulArgs& args)
      : panels_((args.w.n_rows + kPanelRows - 1) / kPanelRows * args.w.panel_bytes, 64), args_(args) {
    std::memcpy(panels_.data(), args.w.data, panels_.size());
    args_.w.data = panels_.data();
  }
  uint8_t* data() { return panels_.data(); }
  const MatmulArgs& args() const { return args_; }

 private:
  GuardedBuffer<uint8_t> panels_;
  MatmulArgs args_;
};

inline void swapped_nibble(const MatmulArgs& args) {
  PanelCopy copy(args);
  uint8_t& byte =
      copy.data()[args.panel_begin * args.w.panel_bytes + quant_offset(block_of<LayoutQ4_K>(), args.w.k)];
  byte = static_cast<uint8_t>(byte >> 4 | byte << 4);
  honest_matmul(copy.args());
}

inline void dropped_last_block(const MatmulArgs& args) {
  const size_t n_blocks = args.w.k / 256;
  std::vector<float> d(args.a.d, args.a.d + args.a.n_cols * n_blocks);
  for (size_t c = 0; c < args.a.n_cols; ++c) d[(c + 1) * n_blocks - 1] = 0;
  MatmulArgs changed = args;
  changed.a.d = d.data();
  honest_matmul(changed);
}

inline void row_too_many(const MatmulArgs& args) {
  honest_matmul(args);
  if (args.a.n_cols > 1) args.y[args.w.n_rows] = 0;
}

inline void one_ulp_in_batches(const MatmulArgs& args) {
  honest_matmul(args);
  if (args.a.n_cols == 16) args.y[15 * args.y_stride] = std::nextafter(args.y[15 * args.y_stride], INFINITY);
}

inline void one_ulp_when_tuned(const MatmulArgs& args) {
  honest_matmul(args);
  if (args.tuning.column_block != 0) args.y[0] = std::nextafter(args.y[0], INFINITY);
}

// Two chains over the halves of k, added at the end: what splitting k over threads would do.
inline void split_k(const MatmulArgs& args) {
  for (size_t row = args.panel_begin * kPanelRows; row < std::min(args.w.n_rows, args.panel_end * kPanelRows);
       ++row) {
    const void* data = args.w.data + row / kPanelRows * args.w.panel_bytes;
    const auto* w = static_cast<const LayoutF32::Quants*>(data);
    for (size_t c = 0; c < args.a.n_cols; ++c) {
      float sums[2] = {0, 0};
      for (size_t i = 0; i < args.w.k; ++i) {
        float& sum = sums[2 * i / args.w.k];
        sum = std::fma(w[i].rows[row % kPanelRows], args.a.x[c * args.w.k + i], sum);
      }
      float& y = args.y[c * args.y_stride + row];
      const float value = sums[0] + sums[1] + (args.bias != nullptr ? args.bias[row] : 0.0f);
      y = args.accumulate ? y + value : value;
    }
  }
}

inline int16_t saturate(int value) { return static_cast<int16_t>(std::clamp(value, -32768, 32767)); }

// Q6_K as a vector unit computes it, kRun vpmaddubsw results per int16 sum. Two are safe, three are one too
// many.
template <int kRun>
void q6_k_in_int16(const MatmulArgs& args) {
  const size_t n_blocks = args.w.k / 256;
  for (size_t row = args.panel_begin * kPanelRows; row < std::min(args.w.n_rows, args.panel_end * kPanelRows);
       ++row) {
    const size_t lane = row % kPanelRows;
    const uint8_t* panel = args.w.data + row / kPanelRows * args.w.panel_bytes;
    const void* header_strip = panel;
    const void* quant_strip = panel + quant_offset(block_of<LayoutQ6_K>(), args.w.k);
    for (size_t c = 0; c < args.a.n_cols; ++c) {
      float acc = 0;
      for (size_t b = 0; b < n_blocks; ++b) {
        const auto& header = static_cast<const HeaderScales16*>(header_strip)[b];
        const auto& quants = static_cast<const LayoutQ6_K::Quants*>(quant_strip)[b];
        const int8_t* a = args.a.q + c * args.w.k + b * 256;
        int32_t isum = 0;
        for (size_t half = 0; half < 16; ++half) {
          const NibblesPairs& sub = quants.sub[half / 2];
          const int scale = header.scale[half / 2][lane][half % 2];
          int16_t sums[2] = {0, 0};
          for (size_t i = 0; i < 4; ++i) {
            const size_t group = half % 2 * 4 + i;
            int levels[4];
            for (size_t j = 0; j < 4; ++j) {
              const int byte = sub.nibbles[i][4 * lane + j];
              const int pairs = sub.pairs[i / 2][4 * lane + j] >> (2 * (group % 2 + group / 4 * 2)) & 3;
              levels[j] = (half % 2 == 0 ? byte & 15 : byte >> 4) | pairs << 4;
            }
            const int8_t* x = a + half / 2 * 32 + 4 * group;
            for (size_t j = 0; j < 2; ++j) {
              const int16_t products = saturate(levels[2 * j] * x[2 * j] + levels[2 * j + 1] * x[2 * j + 1]);
              sums[j] = static_cast<int16_t>(sums[j] + products);
            }
            if (i % kRun == kRun - 1 || i == 3) {
              isum += scale * (sums[0] + sums[1]);
              sums[0] = sums[1] = 0;
            }
          }
          isum -= 32 * scale * args.a.sum16[(c * args.w.k + b * 256) / 16 + half];
        }
        const float d = args.a.d[c * n_blocks + b] * f16_to_f32(header.d[lane]);
        acc = std::fma(d, static_cast<float>(isum), acc);
      }
      float& y = args.y[c * args.y_stride + row];
      const float value = args.bias != nullptr ? acc + args.bias[row] : acc;
      y = args.accumulate ? y + value : value;
    }
  }
}

// Halves away from zero instead of to even.
inline void ties_away(const float* x, size_t k, int8_t* q, float* d, int16_t* sum16, int16_t* sum32) {
  honest_activations.quantize_a256(x, k, q, d, sum16, sum32);
  for (size_t b = 0; b < k / 256; ++b) {
    float amax = 0;
    for (size_t i = b * 256; i < (b + 1) * 256; ++i) amax = std::fmax(amax, std::fabs(x[i]));
    if (!(amax >= kSmallestMax && amax < INFINITY)) continue;
    for (size_t i = b * 256; i < (b + 1) * 256; ++i) {
      q[i] = static_cast<int8_t>(std::clamp(std::round(x[i] * (127.0f / amax)), -127.0f, 127.0f));
    }
  }
}

inline bool catches_planted_faults(const KernelTable& scalar) {
  struct Fault {
    const char* name;
    TensorType type;
    MatmulFn kernel;
    bool caught;  // false: not a fault, the control
  };
  static constexpr Fault kFaults[] = {
      {"swapped nibble", TensorType::kQ4_K, swapped_nibble, true},
      {"dropped last block", TensorType::kQ5_K, dropped_last_block, true},
      {"write past the last row", TensorType::kQ8_0, row_too_many, true},
      {"one ulp off in a batch of 16", TensorType::kQ4_0, one_ulp_in_batches, true},
      {"one ulp off under one tuning", TensorType::kQ4_K, one_ulp_when_tuned, true},
      {"sum split over k", TensorType::kF32, split_k, true},
      {"one product too many in int16", TensorType::kQ6_K, q6_k_in_int16<3>, true},
      {"(control: products that fit int16)", TensorType::kQ6_K, q6_k_in_int16<2>, false},
  };
  bool ok = true;
  const auto verdict = [&](const char* name, bool should_fail, const Report& report) {
    const bool failed = report.n_failures() != 0;
    fmt::print("planted: {}: {} of {} checks failed{}\n", name, report.n_failures(), report.n_checks(),
               failed == should_fail ? "" : " - NOT AS EXPECTED");
    ok &= failed == should_fail;
  };
  for (const Fault& fault : kFaults) {
    const auto info =
        std::find_if(kFormats.begin(), kFormats.end(), [&](const auto& f) { return f.type == fault.type; });
    KernelTable table = scalar;
    MatmulFn& entry = table.matmul.quantized[static_cast<size_t>(weight_kind(fault.type))];
    honest_matmul = entry;
    entry = fault.kernel;
    Report report(/*quiet=*/true);
    check_matmul(scalar, table, *info, /*exact=*/false, report, nullptr);
    verdict(fault.name, fault.caught, report);
  }
  KernelTable table = scalar;
  honest_activations = scalar.activations;
  table.activations.quantize_a256 = ties_away;
  Report report(/*quiet=*/true);
  check_activations(scalar, table, report);
  verdict("ties rounded away from zero", true, report);
  return ok;
}

}  // namespace ruvltra::kernel_check
