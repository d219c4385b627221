// Checks of the activation quantisers: the definition of docs/kernels.md section 4, and equal bits on every
// rung.
#pragma once

#include <cmath>

#include "kernel_check_base.h"
#include "kernels/table.h"

namespace ruvltra::kernel_check {

enum class ActivationSet {
  kRandom,
  kOutliers,
  kZero,
  kTiny,
  kHuge,
  kOneHot,
  kTies,
  kPlusMinus,
  kNotFinite,
  kCount
};

// n values; a multiple of 32.
inline void fill_activations(ActivationSet set, Random& random, std::span<float> x) {
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = random.uniform();
    switch (set) {
      case ActivationSet::kOutliers:
        x[i] *= random.below(64) == 0 ? 1000.0f : 1.0f;
        break;
      case ActivationSet::kZero:
        x[i] = i % 3 == 0 ? -0.0f : 0.0f;
        break;
      // Blocks on both sides of the smallest maximum, and wholly denormal ones.
      case ActivationSet::kTiny:
        x[i] *= std::ldexp(1.0f, -115 - static_cast<int>(i / 256 % 4) * 8);
        break;
      case ActivationSet::kHuge:
        x[i] *= 3.4e38f;
        break;
      case ActivationSet::kOneHot:
        x[i] = i % 256 == 77 ? -5.0f : 0.0f;
        break;
      case ActivationSet::kTies:
        x[i] = i % 32 == 0 ? 127.0f : static_cast<float>(random.below(254)) - 126.5f;
        break;
      // Long runs of one sign, so that sums of products reach their limits.
      case ActivationSet::kPlusMinus:
        x[i] = i / 256 % 2 == 0 ? 3.0f : -3.0f;
        break;
      default:
        break;
    }
  }
  if (set == ActivationSet::kNotFinite) {
    for (size_t i = 5; i < x.size(); i += 300) x[i] = i % 2 == 0 ? NAN : INFINITY;
  }
}

struct Quantized {
  std::vector<int8_t> q;
  std::vector<float> d;
  std::vector<int16_t> sum16, sum32;
};

// Quantises one row in memory that ends at a guard page.
inline Quantized quantize(const ActivationKernels& kernels, bool a256, std::span<const float> x) {
  const size_t k = x.size(), block = a256 ? 256 : 32;
  GuardedBuffer<float> in(k), d(k / block);
  GuardedBuffer<int8_t> q(k);
  GuardedBuffer<int16_t> sum16(k / 16), sum32(k / 32);
  std::memcpy(in.data(), x.data(), x.size_bytes());
  if (a256) {
    kernels.quantize_a256(in.data(), k, q.data(), d.data(), sum16.data(), sum32.data());
  } else {
    kernels.quantize_a32(in.data(), k, q.data(), d.data(), sum32.data());
  }
  const auto copy = [](auto& buffer) { return std::vector(buffer.span().begin(), buffer.span().end()); };
  return {copy(q), copy(d), copy(sum16), copy(sum32)};
}

inline void check_definition(std::span<const float> x, bool a256, const Quantized& out, int set,
                             Report& report) {
  const size_t block = a256 ? 256 : 32;
  for (size_t b = 0; b < x.size() / block; ++b) {
    float amax = 0;
    for (size_t i = 0; i < block; ++i) amax = std::fmax(amax, std::fabs(x[b * block + i]));
    const bool live = amax >= kSmallestMax;
    report.expect(same_bits(out.d[b], live ? amax / 127.0f : 0.0f), "quantize set {}: d of block {} is {}",
                  set, b, out.d[b]);
    for (size_t i = b * block; i < (b + 1) * block; ++i) {
      const float scaled = live ? x[i] * (127.0f / amax) : 0.0f;
      report.expect(std::fabs(scaled - static_cast<float>(out.q[i])) <= 0.5f && out.q[i] != -128,
                    "quantize set {}: {} became {}", set, scaled, out.q[i]);
    }
  }
  for (const size_t n : {size_t{16}, size_t{32}}) {
    if (n == 16 && !a256) continue;
    for (size_t b = 0; b < x.size() / n; ++b) {
      int sum = 0;
      for (size_t i = b * n; i < (b + 1) * n; ++i) sum += out.q[i];
      report.expect((n == 16 ? out.sum16 : out.sum32)[b] == sum, "quantize set {}: sum of {} number {}", set,
                    n, b);
    }
  }
}

inline void check_activations(const KernelTable& scalar, const KernelTable& table, Report& report) {
  Random random(11);
  for (int set = 0; set < static_cast<int>(ActivationSet::kCount); ++set) {
    for (const bool a256 : {true, false}) {
      for (const size_t n_blocks : {1, 2, 7, 43}) {
        std::vector<float> x(n_blocks * (a256 ? 256 : 32));
        fill_activations(static_cast<ActivationSet>(set), random, x);
        const Quantized expected = quantize(scalar.activations, a256, x);
        const Quantized found = quantize(table.activations, a256, x);
        if (set != static_cast<int>(ActivationSet::kNotFinite)) check_definition(x, a256, found, set, report);
        const bool same_d =
            std::memcmp(found.d.data(), expected.d.data(), found.d.size() * sizeof(float)) == 0;
        report.expect(
            same_d && found.q == expected.q && found.sum16 == expected.sum16 && found.sum32 == expected.sum32,
            "quantize on {}: set {}, {} blocks of {}: differs from scalar", table.isa, set, n_blocks,
            a256 ? 256 : 32);
      }
    }
  }
}

}  // namespace ruvltra::kernel_check
