// Inner products of whole vectors against exact integers and double precision, and the ISAs against each
// other.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernel_check_base.h"
#include "kernels/dispatch.h"

namespace ruvltra::kernel_check {

// Single rows at every length up to 4 blocks, then the lengths of hidden states and the longest index vector.
constexpr size_t kVectorLengths[] = {32, 64, 96, 128, 160, 256, 896, 1056, 2048, 4064, 4096};
constexpr size_t kMostVectorRows = 9;

enum class VectorSet { kRandom, kLargest, kOpposed, kOneHot, kTiny, kCount };

inline void check_codes(const KernelTable& table, size_t n, VectorSet set, Random& random, Report& report) {
  GuardedBuffer<int8_t> query(n), rows(n * kMostVectorRows);
  const auto draw = [&](size_t i, bool is_row) -> int8_t {
    switch (set) {
      case VectorSet::kLargest:
        return 127;
      case VectorSet::kOpposed:
        return is_row ? -127 : 127;
      case VectorSet::kOneHot:
        return i == n - 1 ? -127 : 0;
      default:
        return static_cast<int8_t>(static_cast<int>(random.below(255)) - 127);
    }
  };
  for (size_t i = 0; i < n; ++i) query[i] = draw(i, false);
  const int8_t* row[kMostVectorRows];
  int64_t expected[kMostVectorRows] = {};
  for (size_t r = 0; r < kMostVectorRows; ++r) {
    row[r] = rows.data() + r * n;
    for (size_t i = 0; i < n; ++i) {
      rows[r * n + i] = draw(i, true);
      expected[r] += int64_t{query[i]} * int64_t{rows[r * n + i]};
    }
    const int32_t one = table.vectors.dot_i8(query.data(), row[r], n);
    report.expect(one == expected[r], "dot_i8 on {}: n {}: {} instead of {}", table.isa, n, one, expected[r]);
  }
  for (size_t n_rows = 0; n_rows <= kMostVectorRows; ++n_rows) {
    GuardedBuffer<int32_t> out(n_rows);
    table.vectors.dot_i8_rows(query.data(), row, n_rows, n, out.data());
    for (size_t r = 0; r < n_rows; ++r) {
      report.expect(out[r] == expected[r], "dot_i8_rows on {}: n {}, row {} of {}: {} instead of {}",
                    table.isa, n, r, n_rows, out[r], expected[r]);
    }
  }
}

inline void check_floats(const KernelTable& scalar, const KernelTable& table, size_t n, VectorSet set,
                         Random& random, Report& report) {
  GuardedBuffer<float> query(n), rows(n * kMostVectorRows);
  const float size = set == VectorSet::kTiny ? 1e-30f : set == VectorSet::kLargest ? 1e15f : 1.0f;
  for (float& x : query.span()) x = size * random.uniform();
  for (float& x : rows.span()) x = size * random.uniform();
  if (set == VectorSet::kOneHot) std::fill_n(query.data(), n - 1, 0.0f);
  const float* row[kMostVectorRows];
  float expected[kMostVectorRows];
  for (size_t r = 0; r < kMostVectorRows; ++r) {
    row[r] = rows.data() + r * n;
    double exact = 0, magnitude = 0;
    for (size_t i = 0; i < n; ++i) {
      const double product = static_cast<double>(query[i]) * static_cast<double>(row[r][i]);
      exact += product;
      magnitude += std::fabs(product);
    }
    expected[r] = scalar.vectors.dot_f32(query.data(), row[r], n);
    // A lane adds n / 32 products, five folds follow; each rounds by at most half an eps of a partial sum.
    const double bound = magnitude * 0x1p-24 * static_cast<double>(n / kVectorBlock + 5) + 0x1p-126;
    report.expect(std::fabs(static_cast<double>(expected[r]) - exact) <= bound,
                  "dot_f32 scalar: n {}: {} instead of {}", n, expected[r], exact);
    const float one = table.vectors.dot_f32(query.data(), row[r], n);
    report.expect(same_bits(one, expected[r]), "dot_f32 on {}: n {}: {} instead of {}", table.isa, n, one,
                  expected[r]);
  }
  for (size_t n_rows = 0; n_rows <= kMostVectorRows; ++n_rows) {
    GuardedBuffer<float> out(n_rows);
    table.vectors.dot_f32_rows(query.data(), row, n_rows, n, out.data());
    for (size_t r = 0; r < n_rows; ++r) {
      report.expect(same_bits(out[r], expected[r]),
                    "dot_f32_rows on {}: n {}, row {} of {}: {} instead of {}", table.isa, n, r, n_rows,
                    out[r], expected[r]);
    }
  }
}

inline void check_vectors(const KernelTable& scalar, const KernelTable& table, Report& report) {
  Random random(11);
  for (int set = 0; set < static_cast<int>(VectorSet::kCount); ++set) {
    for (const size_t n : kVectorLengths) {
      check_codes(table, n, static_cast<VectorSet>(set), random, report);
      check_floats(scalar, table, n, static_cast<VectorSet>(set), random, report);
    }
  }
}

// Faults planted on purpose.
inline VectorKernels honest_vectors;

inline int32_t forgets_the_last_block(const int8_t* a, const int8_t* b, size_t n) {
  return honest_vectors.dot_i8(a, b, n - kVectorBlock);
}
inline float adds_in_one_chain(const float* a, const float* b, size_t n) {
  float sum = 0;
  for (size_t i = 0; i < n; ++i) sum = std::fma(a[i], b[i], sum);
  return sum;
}
// As if pairs were added in int16 without a thought: two products of 127 * 127 fit, four do not.
inline void saturates(const int8_t* query, const int8_t* const* rows, size_t n_rows, size_t n, int32_t* out) {
  for (size_t r = 0; r < n_rows; ++r) {
    out[r] = 0;
    for (size_t i = 0; i < n; i += 4) {
      int32_t sum = 0;
      for (size_t k = i; k < i + 4; ++k) sum += int32_t{query[k]} * int32_t{rows[r][k]};
      out[r] += std::clamp(sum, -32768, 32767);
    }
  }
}
inline void repeats_the_first_row(const float* query, const float* const* rows, size_t n_rows, size_t n,
                                  float* out) {
  for (size_t r = 0; r < n_rows; ++r) out[r] = honest_vectors.dot_f32(query, rows[r / 4 * 4], n);
}

inline bool catches_planted_vector_faults(const KernelTable& scalar) {
  const KernelTable& best = **kernel_table();
  honest_vectors = best.vectors;
  const auto caught = [&](std::string_view fault, auto spoil) {
    KernelTable table = best;
    spoil(table.vectors);
    Report report(true);
    check_vectors(scalar, table, report);
    fmt::print("planted: {}: {} of {} checks failed{}\n", fault, report.n_failures(), report.n_checks(),
               report.n_failures() > 0 ? "" : " - NOT AS EXPECTED");
    return report.n_failures() > 0;
  };
  bool ok = caught("last block forgotten", [](VectorKernels& k) { k.dot_i8 = forgets_the_last_block; });
  ok &= caught("one chain", [](VectorKernels& k) { k.dot_f32 = adds_in_one_chain; });
  ok &= caught("int16 sums", [](VectorKernels& k) { k.dot_i8_rows = saturates; });
  ok &= caught("first row of a tile", [](VectorKernels& k) { k.dot_f32_rows = repeats_the_first_row; });
  return ok;
}

}  // namespace ruvltra::kernel_check
