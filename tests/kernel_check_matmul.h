// Checks of the matrix kernels (docs/kernels.md): against double precision, and bit for bit against the
// scalar rung for every column count, panel range and thread count.
#pragma once

#include <algorithm>
#include <string>

#include "kernel_check_activations.h"
#include "kernel_check_weights.h"
#include "ops/matmul.h"

namespace ruvltra::kernel_check {

// n_cols activation rows in the format a kernel takes, each array at the edge of its memory.
class Columns {
 public:
  Columns(const KernelTable& scalar, ActivationFormat format, std::span<const float> x, size_t n_cols,
          size_t k)
      : format_(format),
        n_cols_(n_cols),
        k_(k),
        x_(n_cols * k),
        q_(n_cols * k),
        d_(n_cols * k / 32),
        sum16_(n_cols * k / 16),
        sum32_(n_cols * k / 32) {
    std::memcpy(x_.data(), x.data(), n_cols * k * sizeof(float));
    const size_t block = format == ActivationFormat::kA256 ? 256 : 32;
    // Arrays end at the guard page: d starts later when there are fewer of them.
    d_begin_ = d_.size() - n_cols * k / block;
    for (size_t c = 0; c < n_cols && format != ActivationFormat::kF32; ++c) {
      float* d = d_.data() + d_begin_ + c * (k / block);
      if (format == ActivationFormat::kA256) {
        scalar.activations.quantize_a256(x_.data() + c * k, k, q_.data() + c * k, d,
                                         sum16_.data() + c * k / 16, sum32_.data() + c * k / 32);
      } else {
        scalar.activations.quantize_a32(x_.data() + c * k, k, q_.data() + c * k, d,
                                        sum32_.data() + c * k / 32);
      }
    }
  }

  // The last n columns, so that reading past the end of an array crashes.
  ActivationView last(size_t n) {
    const size_t skip = n_cols_ - n;
    const size_t block = format_ == ActivationFormat::kA256 ? 256 : 32;
    ActivationView view;
    view.n_cols = n;
    if (format_ == ActivationFormat::kF32) {
      view.x = x_.data() + skip * k_;
      return view;
    }
    view.q = q_.data() + skip * k_;
    view.d = d_.data() + d_begin_ + skip * (k_ / block);
    view.sum32 = sum32_.data() + skip * (k_ / 32);
    if (format_ == ActivationFormat::kA256) view.sum16 = sum16_.data() + skip * (k_ / 16);
    return view;
  }

  // Activation i of column c as the kernels see it.
  double value(size_t c, size_t i) {
    if (format_ == ActivationFormat::kF32) return x_[c * k_ + i];
    const size_t block = format_ == ActivationFormat::kA256 ? 256 : 32;
    return static_cast<double>(d_[d_begin_ + (c * k_ + i) / block]) * q_[c * k_ + i];
  }

 private:
  ActivationFormat format_;
  size_t n_cols_, k_;
  GuardedBuffer<float> x_;
  GuardedBuffer<int8_t> q_;
  GuardedBuffer<float> d_;
  GuardedBuffer<int16_t> sum16_, sum32_;
  size_t d_begin_ = 0;
};

// One weight matrix and its activation columns; panels end at a guard page.
class MatmulCase {
 public:
  MatmulCase(const KernelTable& scalar, const FormatInfo& info, bool exact, size_t n_rows, size_t k,
             size_t n_cols, WeightSet weights, ActivationSet activations, uint64_t seed)
      : exact_(exact),
        n_cols_(n_cols),
        file_(make_file(info, n_rows, k, weights, seed)),
        packed_(pack(file_, scalar)),
        panels_(packed_.n_bytes(), 64),
        columns_(scalar, activation_format(info.type, exact), random_x(activations, n_cols, k, seed), n_cols,
                 k) {
    std::memcpy(panels_.data(), packed_.view().data, packed_.n_bytes());
  }

  std::string name() const {
    return fmt::format("{} {} ({}, {})", file_.format().name, exact_ ? "exact" : "quantized", file_.n_rows,
                       file_.k);
  }
  size_t n_rows() const { return file_.n_rows; }
  size_t n_cols() const { return n_cols_; }
  size_t n_panels() const { return (file_.n_rows + kPanelRows - 1) / kPanelRows; }
  const WeightFile& file() const { return file_; }
  const PackedMatrix& packed() const { return packed_; }
  Columns& columns() { return columns_; }
  bool one_fma_per_weight() const { return exact_ || file_.format().block_elements == 1; }
  void run(const KernelTable& table, const MatmulArgs& args) const {
    const WeightKind kind = weight_kind(file_.info.type);
    const MatmulFn multiply = exact_ ? table.matmul.exact[static_cast<size_t>(kind)]
                                     : quantized_kernel(table.matmul, kind, args.a.n_cols);
    multiply(args);
  }

  MatmulArgs args(size_t last_columns, float* y, size_t y_stride) {
    MatmulArgs args;
    args.w = packed_.view();
    args.w.data = panels_.data();
    args.panel_end = n_panels();
    args.a = columns_.last(last_columns);
    args.y = y;
    args.y_stride = y_stride;
    return args;
  }

  // Results (n_cols, n_rows) of all columns, one kernel call per column.
  std::vector<float> one_by_one(const KernelTable& table) {
    std::vector<float> y(n_cols_ * n_rows());
    for (size_t c = 0; c < n_cols_; ++c) {
      MatmulArgs one = args(n_cols_ - c, y.data() + c * n_rows(), n_rows());
      one.a.n_cols = 1;
      run(table, one);
    }
    return y;
  }

 private:
  static std::vector<float> random_x(ActivationSet set, size_t n_cols, size_t k, uint64_t seed) {
    std::vector<float> x(n_cols * k);
    Random random(seed + 1);
    fill_activations(set, random, x);
    return x;
  }

  bool exact_;
  size_t n_cols_;
  WeightFile file_;
  PackedMatrix packed_;
  GuardedBuffer<uint8_t> panels_;
  Columns columns_;
};

// The sums in double over the same quantised operands. One fma per block: |y - sum| <= 8 eps sum |w x|. One
// fma per weight: each rounds by at most half an eps of its partial sum, and decoding a weight by half an eps
// of the weight.
inline void check_reference(MatmulCase& test, std::span<const float> y, Report& report) {
  const WeightTerms terms = decode_terms(test.file());
  const size_t k = test.file().k;
  double error2 = 0, sum2 = 0;
  for (size_t c = 0; c < test.n_cols(); ++c) {
    for (size_t row = 0; row < test.n_rows(); ++row) {
      double sum = 0, magnitude = 0, partial_sums = 0;
      for (size_t i = 0; i < k; ++i) {
        const double x = test.columns().value(c, i);
        const double scaled = double{terms.scaled[row * k + i]} * x;
        const double offset = terms.offset.empty() ? 0.0 : double{terms.offset[row * k + i]} * x;
        sum += scaled + offset;
        magnitude += std::fabs(scaled) + std::fabs(offset);
        partial_sums += std::fabs(sum);
      }
      const double found = y[c * test.n_rows() + row];
      const double rounding =
          test.one_fma_per_weight() ? 0x1p-24 * 1.001 * (partial_sums + magnitude) : 8 * 0x1p-23 * magnitude;
      // The product of two scales may round to the denormal grid, 2^-149, before it meets sums below 2^21 per
      // weight.
      const double tolerance = rounding + static_cast<double>(k) * 0x1p-128;
      report.expect(std::fabs(found - sum) <= tolerance, "{}: element ({}, {}) is {}, expected {} +- {}",
                    test.name(), c, row, found, sum, tolerance);
      error2 += (found - sum) * (found - sum);
      sum2 += sum * sum;
    }
  }
  report.expect(!(error2 > 1e-10 * sum2) || sum2 < 1e-60, "{}: NMSE {}", test.name(), error2 / sum2);
}

// The last n columns in one call give the bits of one call per column, write all rows and nothing else.
inline void check_columns(const KernelTable& table, MatmulCase& test, size_t n,
                          std::span<const float> expected, Report& report, const MatmulTuning& tuning = {}) {
  constexpr float kCanary = 12345.0f;
  const size_t stride = test.n_rows() + 3;
  GuardedBuffer<float> y((n - 1) * stride + test.n_rows());
  std::fill(y.span().begin(), y.span().end(), kCanary);
  MatmulArgs args = test.args(n, y.data(), stride);
  args.tuning = tuning;
  test.run(table, args);
  const size_t first = test.n_cols() - n;
  for (size_t c = 0; c < n; ++c) {
    for (size_t row = 0; row < stride && c * stride + row < y.size(); ++row) {
      const float found = y[c * stride + row];
      if (row >= test.n_rows()) {
        report.expect(same_bits(found, kCanary), "{} on {}: {} columns: wrote row {} of column {}",
                      test.name(), table.isa, n, row, c);
        continue;
      }
      const float wanted = expected[(first + c) * test.n_rows() + row];
      report.expect(same_bits(found, wanted),
                    "{} on {}: {} columns: element ({}, {}) is {}, alone on scalar {}", test.name(),
                    table.isa, n, c, row, found, wanted);
    }
  }
}

// Bias, accumulation and a split panel range.
inline void check_epilogue(const KernelTable& table, MatmulCase& test, std::span<const float> expected,
                           Report& report) {
  Random random(3);
  GuardedBuffer<float> bias(test.n_rows());
  for (float& value : bias.span()) value = random.uniform();
  for (const size_t n : {size_t{1}, size_t{5}, test.n_cols()}) {
    if (n > test.n_cols()) continue;
    GuardedBuffer<float> y(n * test.n_rows());
    std::vector<float> before(y.size());
    for (size_t i = 0; i < before.size(); ++i) before[i] = y[i] = random.uniform();
    const size_t middle = test.n_panels() / 2;
    for (const auto& [begin, end] : {std::pair{middle, test.n_panels()}, std::pair{size_t{0}, middle}}) {
      MatmulArgs args = test.args(n, y.data(), test.n_rows());
      args.bias = bias.data();
      args.accumulate = true;
      args.panel_begin = begin;
      args.panel_end = end;
      test.run(table, args);
    }
    const size_t first = (test.n_cols() - n) * test.n_rows();
    for (size_t i = 0; i < y.size(); ++i) {
      const float wanted = before[i] + (expected[first + i] + bias[i % test.n_rows()]);
      report.expect(same_bits(y[i], wanted), "{} on {}: {} columns: y + bias is {}, expected {}", test.name(),
                    table.isa, n, y[i], wanted);
    }
  }
}

// Every choice of a walk, alone and beside a walk that unpacks early, and values no table offers.
inline void check_tunings(const KernelTable& scalar, const KernelTable& table, const FormatInfo& info,
                          bool exact, Report& report) {
  constexpr size_t kColumns = 131;
  const size_t k = format_of(info.type).block_elements == 256 ? 2304 : 2080;  // behind the end of a chunk
  MatmulCase test(scalar, info, exact, 35, k, kColumns, WeightSet::kRandom, ActivationSet::kRandom, 501);
  const std::vector<float> expected = test.one_by_one(scalar);
  const auto check = [&](MatmulTuning tuning, std::initializer_list<size_t> counts) {
    for (const size_t n : counts) check_columns(table, test, n, expected, report, tuning);
  };
  const MatmulTuningChoices choices;
  for (const uint32_t value : choices.unpacked_from) {
    check({.unpacked_from = value}, {size_t{value} - 1, size_t{value}});
  }
  for (const uint32_t value : choices.column_block) check({.column_block = value}, {kColumns});
  for (const uint32_t value : choices.chunk) check({.unpacked_from = 2, .chunk = value}, {3, 65});
  for (const uint32_t value : choices.prefetch_bytes) check({.prefetch_bytes = value}, {1, 5});
  check({.unpacked_from = 1, .column_block = 1, .chunk = 1, .prefetch_bytes = 1}, {1, 2, 7});
  check({.unpacked_from = 1, .column_block = ~0u, .chunk = ~0u, .prefetch_bytes = ~0u}, {1, 7, kColumns});
  check({.unpacked_from = ~0u}, {kColumns});
}

// ops/matmul on several thread counts.
inline void check_threads(const KernelTable& table, const FormatInfo& info, bool exact, Report& report) {
  constexpr size_t kRows = 203, kK = 512, kColumns = 19;
  MatmulCase test(table, info, exact, kRows, kK, kColumns, WeightSet::kRandom, ActivationSet::kRandom, 77);
  const std::vector<float> expected = test.one_by_one(table);
  std::vector<float> x(kColumns * kK);
  Random random(78);
  fill_activations(ActivationSet::kRandom, random, x);
  for (const int n_threads : {1, 2, 3, 7}) {
    ThreadPool pool(n_threads);
    const Ctx ctx{&pool, &table};
    auto activations = Activations::make(kColumns, kK);
    CHECK(activations.has_value());
    std::vector<float> y(kColumns * kRows);
    const MatmulTask task{&test.packed(), nullptr, false, y.data(), kRows};
    activations->set(x.data(), kColumns, kK);
    matmul(ctx, *activations, {&task, 1}, exact);
    report.expect(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0,
                  "{} on {}: {} threads give other bits", test.name(), table.isa, n_threads);
  }
}

inline void check_case(const KernelTable& scalar, const KernelTable& table, MatmulCase& test,
                       std::span<const size_t> column_counts, Report& report, ResultHash* hash) {
  const std::vector<float> expected = test.one_by_one(scalar);
  if (hash != nullptr) hash->add(expected);
  check_reference(test, expected, report);
  for (const size_t n : column_counts) {
    if (n <= test.n_cols()) check_columns(table, test, n, expected, report);
  }
  check_epilogue(table, test, expected, report);
}

// One format on one rung. `hash` collects the scalar results; null leaves them out.
inline void check_matmul(const KernelTable& scalar, const KernelTable& table, const FormatInfo& info,
                         bool exact, Report& report, ResultHash* hash) {
  const size_t unit = format_of(info.type).block_elements == 256 ? 256 : 32;
  // Up to 70 columns one by one, and both sides of a block of 96.
  static constexpr size_t kAll[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17,
                                    18, 19, 20, 23, 27, 29, 31, 32, 33, 35, 37, 41, 47, 48, 49, 53, 59,
                                    61, 63, 64, 65, 66, 67, 68, 69, 70, 95, 96, 97, 98, 99, 100};
  static constexpr size_t kFew[] = {1, 2, 4, 5, 16, 19};
  uint64_t seed = 1000;
  const auto run = [&](size_t n_rows, size_t k, std::span<const size_t> counts, WeightSet weights,
                       ActivationSet x) {
    MatmulCase test(scalar, info, exact, n_rows, k, counts.back(), weights, x, ++seed);
    check_case(scalar, table, test, counts, report, hash);
  };
  run(17, 2 * unit, kAll, WeightSet::kRandom, ActivationSet::kRandom);
  for (const size_t n_rows : {1, 3, 7, 8, 9, 15, 16, 24, 31, 33, 65}) {
    run(n_rows, unit, kFew, WeightSet::kRandom, ActivationSet::kRandom);
  }
  for (const size_t n_blocks : {1, 2, 7, 43}) {
    run(9, n_blocks * unit, kFew, WeightSet::kRandom, ActivationSet::kRandom);
    run(9, n_blocks * unit, kFew, WeightSet::kRandom, ActivationSet::kOutliers);
  }
  for (const WeightSet weights : {WeightSet::kZero, WeightSet::kTinyScales, WeightSet::kExtreme}) {
    for (const ActivationSet x : {ActivationSet::kRandom, ActivationSet::kZero, ActivationSet::kTiny,
                                  ActivationSet::kOneHot, ActivationSet::kPlusMinus}) {
      run(16, 2 * unit, kFew, weights, x);
    }
  }
  check_tunings(scalar, table, info, exact, report);
  check_threads(table, info, exact, report);
}

}  // namespace ruvltra::kernel_check
