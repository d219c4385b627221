// Checks of the row kernels and of attention: double precision as the judge, equal bits on every rung, for
// every cut of a sequence into steps, and whatever lies in masked slots.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernel_check_base.h"
#include "kernels/dispatch.h"
#include "ops/attention.h"
#include "ops/context.h"
#include "ops/rope.h"

namespace ruvltra::kernel_check {

constexpr double kMaxRowNmse = 1e-11;

inline double nmse(std::span<const float> found, std::span<const double> expected) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = static_cast<double>(found[i]) - expected[i];
    difference += d * d;
    norm += expected[i] * expected[i];
  }
  return difference == 0 ? 0 : difference / norm;
}

inline size_t count_different(std::span<const float> a, std::span<const float> b) {
  size_t n = 0;
  for (size_t i = 0; i < a.size(); ++i) n += !same_bits(a[i], b[i]);
  return n;
}

enum class RowSet { kRandom, kOutliers, kZero, kDenormal, kLarge, kCount };

inline void fill_row(RowSet set, Random& random, std::span<float> x) {
  for (float& value : x) {
    value = random.uniform();
    if (set == RowSet::kOutliers && random.below(50) == 0) value *= 1000;
    if (set == RowSet::kZero) value = value < 0 ? -0.0f : 0.0f;
    if (set == RowSet::kDenormal) value *= 0x1p-130f;
    if (set == RowSet::kLarge) value *= 90;
  }
}

inline constexpr size_t kRowLengths[] = {1, 7, 8, 31, 32, 33, 65, 256, 896, 2048, 2051};

// Runs kernel(x, y, out) in memory that ends at guard pages.
template <class Kernel>
std::vector<float> guarded_row(std::span<const float> x, std::span<const float> y, Kernel kernel) {
  GuardedBuffer<float> a(x.size()), b(y.size()), out(x.size());
  std::copy(x.begin(), x.end(), a.data());
  std::copy(y.begin(), y.end(), b.data());
  kernel(a.data(), b.data(), out.data());
  return {out.data(), out.data() + out.size()};
}

inline void check_rms_norm(const KernelTable& scalar, const KernelTable& table, RowSet set,
                           std::span<const float> x, std::span<const float> w, Report& report) {
  constexpr float kEps = 1e-6f;
  const auto run = [&](const KernelTable& t) {
    return guarded_row(x, w, [&](const float* a, const float* b, float* out) {
      t.rows.rms_norm(a, b, kEps, out, x.size());
    });
  };
  double squares = 0;
  for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
  const double norm = std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(kEps));
  std::vector<double> expected;
  for (size_t i = 0; i < x.size(); ++i)
    expected.push_back(static_cast<double>(x[i]) / norm * static_cast<double>(w[i]));
  const auto found = run(table);
  report.expect(set == RowSet::kDenormal || nmse(found, expected) <= kMaxRowNmse,
                "rms_norm on {}: set {}, n {}: NMSE {}", table.isa, static_cast<int>(set), x.size(),
                nmse(found, expected));
  report.expect(count_different(found, run(scalar)) == 0, "rms_norm on {}: set {}, n {}: differs from scalar",
                table.isa, static_cast<int>(set), x.size());
}

inline void check_silu_mul(const KernelTable& scalar, const KernelTable& table, RowSet set,
                           std::span<const float> gate, std::span<const float> up, Report& report) {
  const auto run = [&](const KernelTable& t, bool in_place) {
    return guarded_row(gate, up, [&](float* a, const float* b, float* out) {
      t.rows.silu_mul(a, b, in_place ? a : out, gate.size());
      if (in_place) std::copy_n(a, gate.size(), out);
    });
  };
  const auto found = run(table, false);
  for (size_t i = 0; i < gate.size(); ++i) {
    const auto x = static_cast<double>(gate[i]);
    const double expected = x / (1 + std::exp(-x)) * static_cast<double>(up[i]);
    // exp is within one unit in the last place, and exactly 0 below -87: |x e^-87| is 1.5e-36 there.
    const double tolerance = 6 * 0x1p-24 * std::fabs(expected) + 2e-36;
    report.expect(std::fabs(static_cast<double>(found[i]) - expected) <= tolerance,
                  "silu_mul on {}: set {}: silu({}) * {} = {}", table.isa, static_cast<int>(set), gate[i],
                  up[i], found[i]);
  }
  report.expect(
      count_different(found, run(scalar, false)) == 0 && count_different(found, run(table, true)) == 0,
      "silu_mul on {}: set {}, n {}: differs from scalar or in place", table.isa, static_cast<int>(set),
      gate.size());
}

// Up to position 32767, with the angles of the table judged in double.
inline void check_rope(const KernelTable& scalar, const KernelTable& table, Report& report) {
  Random random(5);
  const std::vector<int32_t> positions = {0, 1, 2, 63, 64, 1000, 4095, 32767};
  for (const size_t d_head : {2, 6, 64, 80, 128}) {
    RopeTable angles = std::move(*RopeTable::make(positions.size(), d_head, 1e6));
    angles.set_positions(positions);
    for (size_t t = 0; t < positions.size(); ++t) {
      std::vector<float> x(d_head);
      fill_row(RowSet::kRandom, random, x);
      const auto run = [&](const KernelTable& k) {
        GuardedBuffer<float> head(d_head);
        std::copy(x.begin(), x.end(), head.data());
        k.rows.rope(head.data(), angles.cos(t), angles.sin(t), d_head);
        return std::vector<float>(head.data(), head.data() + d_head);
      };
      std::vector<double> expected(d_head);
      for (size_t i = 0; i < d_head / 2; ++i) {
        const double angle =
            positions[t] * std::pow(1e6, -2.0 * static_cast<double>(i) / static_cast<double>(d_head));
        const double a = static_cast<double>(x[i]);
        const double b = static_cast<double>(x[i + d_head / 2]);
        expected[i] = a * std::cos(angle) - b * std::sin(angle);
        expected[i + d_head / 2] = b * std::cos(angle) + a * std::sin(angle);
      }
      const auto found = run(table);
      report.expect(nmse(found, expected) <= kMaxRowNmse, "rope on {}: d_head {}, position {}: NMSE {}",
                    table.isa, d_head, positions[t], nmse(found, expected));
      report.expect(count_different(found, run(scalar)) == 0,
                    "rope on {}: d_head {}, position {}: differs from scalar", table.isa, d_head,
                    positions[t]);
    }
  }
}

inline void check_rows(const KernelTable& scalar, const KernelTable& table, Report& report) {
  Random random(3);
  for (int set = 0; set < static_cast<int>(RowSet::kCount); ++set) {
    for (const size_t n : kRowLengths) {
      std::vector<float> x(n), y(n);
      fill_row(static_cast<RowSet>(set), random, x);
      fill_row(RowSet::kRandom, random, y);
      check_rms_norm(scalar, table, static_cast<RowSet>(set), x, y, report);
      check_silu_mul(scalar, table, static_cast<RowSet>(set), x, y, report);
    }
  }
  check_rope(scalar, table, report);
}

// All halves, and floats around every rounding boundary that matters.
inline void check_half(const KernelTable& table, Report& report) {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  std::vector<float> floats(halves.size());
  table.attention.from_f16(halves.data(), floats.data(), halves.size());
  std::vector<float> inputs = {0.0f,  -0.0f,  65504.0f, 65519.0f,  65520.0f,
                               1e30f, -1e30f, INFINITY, -INFINITY, 0x1p-25f};
  for (size_t i = 0; i < halves.size(); ++i) {
    const bool is_nan = (i & 0x7fff) > 0x7c00;
    report.expect(is_nan ? std::isnan(floats[i]) : same_bits(floats[i], f16_to_f32(halves[i])),
                  "from_f16 on {}: {:04x} became {}", table.isa, i, floats[i]);
    if ((i & 0x7fff) >= 0x7bff) continue;
    inputs.push_back(floats[i]);
    const float next = f16_to_f32(static_cast<uint16_t>(i + 1));
    const float middle = (floats[i] + next) / 2;
    for (const float x : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, INFINITY)})
      inputs.push_back(x);
  }
  std::vector<uint16_t> found(inputs.size());
  table.attention.to_f16(inputs.data(), found.data(), inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const uint16_t expected = f32_to_f16(std::clamp(inputs[i], -65504.0f, 65504.0f));
    report.expect(found[i] == expected, "to_f16 on {}: {} became {:04x}, expected {:04x}", table.isa,
                  inputs[i], found[i], expected);
  }
  const float nan = NAN;
  uint16_t half = 0;
  table.attention.to_f16(&nan, &half, 1);
  report.expect(half == 0xfbff, "to_f16 on {}: NaN became {:04x}", table.isa, half);
}

// Quantised blocks against their definition, and their values as pages and as a single product give them.
inline void check_q8(const KernelTable& scalar, const KernelTable& table, Report& report) {
  constexpr size_t kHead = 96;
  constexpr size_t kBlocks = kHead / kKvBlock;
  constexpr size_t kValues = kHead * kPageTokens;
  Random random(11);
  for (const float size : {0.0f, 0x1p-30f, 0x1p-20f, 0x1p-17f, 1.0f, 300.0f, 65504.0f, 1e30f}) {
    std::vector<float> x(kValues);
    for (float& value : x) value = size * random.uniform();
    x[3] = -size;
    if (size == 1) x[40] = NAN, x[80] = INFINITY, x[120] = -INFINITY, x[170] = -0.0f;
    std::vector<int8_t> q(kValues), expected_q(kValues);
    std::vector<uint16_t> d(kValues / kKvBlock), expected_d(d.size());
    table.attention.to_q8(x.data(), q.data(), d.data(), kValues);
    scalar.attention.to_q8(x.data(), expected_q.data(), expected_d.data(), kValues);
    report.expect(q == expected_q && d == expected_d, "to_q8 on {}: size {}: differs from scalar", table.isa,
                  size);
    for (size_t i = 0; i < kValues; ++i) {
      const double clamped =
          std::isnan(x[i]) ? -65504.0 : std::clamp(static_cast<double>(x[i]), -65504.0, 65504.0);
      const double scale = static_cast<double>(f16_to_f32(d[i / kKvBlock]));
      // Half a step, and the end of the range where the scale was rounded down; below 2^-24 scales are steps.
      const double tolerance = scale / 2 + 127 * (scale * 0x1p-11 + 0x1p-25);
      report.expect(q[i] >= -127 && std::fabs(q[i] * scale - clamped) <= tolerance,
                    "to_q8 on {}: {} became {} of {}", table.isa, x[i], +q[i], scale);
    }

    // The same bytes read as both planes of a page.
    std::vector<float> keys(kValues), values(kValues);
    table.attention.keys_from_q8(q.data(), d.data(), keys.data(), kHead);
    table.attention.values_from_q8(q.data(), d.data(), values.data(), kHead);
    for (size_t i = 0; i < kValues; ++i) {
      const size_t t = i % kPageTokens;
      const size_t block = i / kPageTokens / kKvBlock;
      const float key = static_cast<float>(q[i]) * f16_to_f32(d[block * kPageTokens + t]);
      const float value =
          static_cast<float>(q[i]) * f16_to_f32(d[i / kHead * kBlocks + i % kHead / kKvBlock]);
      report.expect(same_bits(keys[i], key) && same_bits(values[i], value),
                    "from_q8 on {}: element {}: {} and {}, expected {} and {}", table.isa, i, keys[i],
                    values[i], key, value);
    }
  }
}

// A sequence with random queries, keys and values.
struct AttentionCase {
  size_t n_tokens;
  size_t d_head;
  size_t n_kv_heads;
  size_t group;
  KvType type = KvType::kF16;
  size_t n_heads() const { return n_kv_heads * group; }
  size_t d_q() const { return n_heads() * d_head; }
  size_t d_kv() const { return n_kv_heads * d_head; }
};

class AttentionData {
 public:
  explicit AttentionData(const AttentionCase& c)
      : case_(c), q_(c.n_tokens * c.d_q()), k_(c.n_tokens * c.d_kv()), v_(c.n_tokens * c.d_kv()) {
    Random random(c.n_tokens + c.d_head + c.group);
    for (float& value : q_) value = 3 * random.uniform();
    for (float& value : k_) value = round(2 * random.uniform());
    for (float& value : v_) value = round(random.uniform());
    give_full_scales(k_);
    give_full_scales(v_);
  }

  // Attention of the whole sequence fed in steps of `chunk` rows. The pages hold `garbage` wherever nothing
  // was written.
  std::vector<float> run(const KernelTable& table, size_t chunk, int n_threads, float garbage) const {
    const AttentionCase& c = case_;
    ThreadPool pool(n_threads);
    const Ctx ctx{&pool, &table};
    const size_t n_pages = (c.n_tokens + kPageTokens - 1) / kPageTokens;
    KvLayerView kv;
    kv.plane_bytes = kv_plane_bytes(c.type, c.d_head);
    kv.page_stride = 2 * c.n_kv_heads * kv.plane_bytes;
    kv.type = c.type;
    kv.n_kv_heads = c.n_kv_heads;
    kv.d_head = c.d_head;
    AlignedBuffer<uint8_t> memory = std::move(*AlignedBuffer<uint8_t>::make(n_pages * kv.page_stride));
    kv.base = memory.data();
    for (size_t plane = 0; plane < 2 * n_pages * c.n_kv_heads; ++plane)
      fill_plane(memory.data() + plane * kv.plane_bytes, garbage);

    // Pages lie in reverse order.
    std::vector<PageId> pages(n_pages);
    for (size_t p = 0; p < n_pages; ++p) pages[p] = static_cast<PageId>(n_pages - 1 - p);
    AttentionScratch::Options options{n_threads, c.n_heads(), c.n_kv_heads, c.d_head, chunk, c.n_tokens};
    AttentionScratch scratch = std::move(*AttentionScratch::make(options));
    std::vector<float> out(q_.size());
    for (size_t begin = 0; begin < c.n_tokens; begin += chunk) {
      const size_t n = std::min(chunk, c.n_tokens - begin);
      std::vector<int32_t> positions;
      std::vector<KvSlot> slots;
      for (size_t t = begin; t < begin + n; ++t) {
        positions.push_back(static_cast<int32_t>(t));
        slots.push_back({pages[t / kPageTokens], static_cast<int32_t>(t % kPageTokens)});
      }
      store_kv(ctx, kv, k_.data() + begin * c.d_kv(), v_.data() + begin * c.d_kv(), slots);
      const AttentionSequence sequence{0, n, pages};
      attention(ctx, kv, {&sequence, 1}, positions, q_.data() + begin * c.d_q(), c.n_heads(),
                out.data() + begin * c.d_q(), scratch);
    }
    return out;
  }

  // Row t in double, with the query scaled as the kernels do.
  std::vector<double> reference(size_t t) const {
    const AttentionCase& c = case_;
    const float scale = 1.0f / std::sqrt(static_cast<float>(c.d_head));
    std::vector<double> out(c.d_q());
    std::vector<double> p(t + 1);
    for (size_t head = 0; head < c.n_heads(); ++head) {
      const float* q = q_.data() + (t * c.n_heads() + head) * c.d_head;
      const auto row = [&](const std::vector<float>& x, size_t s) {
        return x.data() + (s * c.n_kv_heads + head / c.group) * c.d_head;
      };
      for (size_t s = 0; s <= t; ++s) {
        p[s] = 0;
        for (size_t d = 0; d < c.d_head; ++d) {
          p[s] += static_cast<double>(q[d] * scale) * static_cast<double>(row(k_, s)[d]);
        }
      }
      const double largest = *std::max_element(p.begin(), p.end());
      double total = 0;
      for (double& value : p) total += value = std::exp(value - largest);
      for (size_t s = 0; s <= t; ++s) {
        for (size_t d = 0; d < c.d_head; ++d) {
          out[head * c.d_head + d] += p[s] / total * static_cast<double>(row(v_, s)[d]);
        }
      }
    }
    return out;
  }

 private:
  // Keys and values that the cache holds exactly: for q8_0 multiples of 2^-6, with a full scale per block.
  float round(float x) const {
    if (case_.type == KvType::kF32) return x;
    return case_.type == KvType::kF16 ? f16_to_f32(f32_to_f16(x)) : std::nearbyint(x * 63) / 64;
  }
  void give_full_scales(std::span<float> x) const {
    for (size_t i = 0; case_.type == KvType::kQ8_0 && i < x.size(); i += kKvBlock)
      x[i] = (x[i] < 0 ? -127 : 127) / 64.0f;
  }

  // What a page holds where nothing was written.
  void fill_plane(uint8_t* plane, float garbage) const {
    const size_t n = case_.d_head * kPageTokens;
    const uint16_t half = f32_to_f16(garbage);
    if (case_.type == KvType::kF32) {
      std::fill_n(reinterpret_cast<float*>(plane), n, garbage);
    } else if (case_.type == KvType::kF16) {
      std::fill_n(reinterpret_cast<uint16_t*>(plane), n, half);
    } else {
      std::fill_n(plane, n, garbage == 0 ? uint8_t{0} : uint8_t{0x81});
      std::fill_n(reinterpret_cast<uint16_t*>(plane + n), n / kKvBlock, half);
    }
  }

  AttentionCase case_;
  std::vector<float> q_, k_, v_;
};

// Every length up to 200 and the edges of pages and splits are rows of one sequence.
inline void check_attention_case(const KernelTable& scalar, const KernelTable& table, const AttentionCase& c,
                                 Report& report) {
  const AttentionData data(c);
  const auto name = [&] {
    return fmt::format("attention on {}: {} tokens, d_head {}, {} x {} heads", table.isa, c.n_tokens,
                       c.d_head, c.n_kv_heads, c.group);
  };
  const auto whole = data.run(table, c.n_tokens, 1, 0);
  for (size_t t = 0; t < c.n_tokens; ++t) {
    const size_t edge = (t + 1) % kPageTokens;
    if (t >= 200 && edge > 1 && edge < kPageTokens - 1) continue;
    const double error = nmse(std::span(whole).subspan(t * c.d_q(), c.d_q()), data.reference(t));
    report.expect(error <= kMaxRowNmse, "{}: position {}: NMSE {}", name(), t, error);
  }
  if (&table == &scalar) return;
  report.expect(count_different(whole, data.run(scalar, c.n_tokens, 2, 0)) == 0, "{}: differs from scalar",
                name());
  for (const size_t chunk : {size_t{1}, size_t{7}, size_t{64}}) {
    for (const float garbage : {0.0f, 60000.0f, -3.25f}) {
      report.expect(count_different(whole, data.run(table, chunk, chunk == 1 ? 3 : 2, garbage)) == 0,
                    "{}: steps of {} with {} in unused slots differ from the whole", name(), chunk, garbage);
    }
  }
}

inline constexpr AttentionCase kAttentionCases[] = {
    {1040, 64, 1, 1, KvType::kF16},  {200, 64, 2, 7, KvType::kF16},  {530, 128, 1, 2, KvType::kF16},
    {200, 128, 1, 8, KvType::kF16},  {200, 128, 2, 1, KvType::kF16}, {200, 6, 3, 3, KvType::kF32},
    {530, 64, 1, 2, KvType::kF32},   {70, 80, 1, 70, KvType::kF16},  {130, 24, 2, 5, KvType::kF16},
    {530, 128, 1, 8, KvType::kQ8_0}, {200, 64, 2, 7, KvType::kQ8_0}, {200, 96, 3, 1, KvType::kQ8_0}};

inline void check_attention(const KernelTable& scalar, const KernelTable& table, Report& report) {
  check_half(table, report);
  check_q8(scalar, table, report);
  for (const AttentionCase& c : kAttentionCases) check_attention_case(scalar, table, c, report);
}

// Faults planted on purpose. Each must be flagged.
inline AttentionKernels honest_attention;

// weigh() with every row seeing `more` slots more or fewer.
inline void weigh_shifted(const AttentionPage& page, int32_t more) {
  AttentionPage changed = page;
  std::vector<int32_t> n_visible(page.n_visible, page.n_visible + page.n_rows);
  for (int32_t& n : n_visible) n = std::clamp(n + more, 1, static_cast<int32_t>(kPageTokens));
  changed.n_visible = n_visible.data();
  honest_attention.weigh(changed);
}
inline void blind_to_the_newest(const AttentionPage& page) { weigh_shifted(page, -1); }
inline void sees_the_future(const AttentionPage& page) { weigh_shifted(page, 1); }

// The last of several rows in another order of additions: what a tile of its own shape would do.
inline void another_order_in_tiles(const AttentionPage& page) {
  honest_attention.weigh(page);
  float& l = page.state.l[page.n_rows - 1];
  if (page.n_rows > 8) l = std::nextafter(l, INFINITY);
}

// Chains that start with the last dimension: as right, but other bits.
inline void scores_backwards(const AttentionPage& page) {
  for (size_t row = 0; row < page.n_rows; ++row) {
    for (size_t t = 0; t < kPageTokens; ++t) {
      float sum = 0;
      for (size_t d = page.d_head; d-- > 0;)
        sum = std::fma(page.k[d * kPageTokens + t], page.q[row * page.d_head + d], sum);
      page.p[row * kPageTokens + t] = sum;
    }
  }
}

inline void drops_the_last_slot(const AttentionPage& page) {
  for (size_t row = 0; row < page.n_rows; ++row) page.p[row * kPageTokens + kPageTokens - 1] = 0;
  honest_attention.add_values(page);
}

inline void scale_of_the_first_token(const int8_t* q, const uint16_t* d, float* y, size_t d_head) {
  const std::vector<uint16_t> first(kPageTokens * d_head / kKvBlock, d[0]);
  honest_attention.keys_from_q8(q, first.data(), y, d_head);
}

inline void truncates_to_q8(const float* x, int8_t* q, uint16_t* d, size_t n) {
  honest_attention.to_q8(x, q, d, n);
  for (size_t i = 0; i < n; ++i) {
    const float scale = f16_to_f32(d[i / kKvBlock]);
    if (scale != 0) q[i] = static_cast<int8_t>(std::clamp(x[i] / scale, -127.0f, 127.0f));
  }
}

inline void forgets_the_scale(const AttentionState& into, const AttentionState& from, size_t n_rows,
                              size_t d_head) {
  for (size_t row = 0; row < n_rows; ++row) from.m[row] = into.m[row];
  honest_attention.merge(into, from, n_rows, d_head);
}

inline bool catches_planted_attention_faults(const KernelTable& scalar) {
  const KernelTable& best = **kernel_table();
  honest_attention = best.attention;
  const auto caught = [&](std::string_view fault, auto check, auto spoil) {
    KernelTable table = best;
    spoil(table.attention);
    Report report(true);
    check(table, report);
    fmt::print("planted: {}: {} of {} checks failed{}\n", fault, report.n_failures(), report.n_checks(),
               report.n_failures() > 0 ? "" : " - NOT AS EXPECTED");
    return report.n_failures() > 0;
  };
  const auto in_case = [&](const KernelTable& table, Report& report) {
    check_attention_case(scalar, table, {530, 64, 1, 2, KvType::kF16}, report);
  };
  const auto in_q8 = [&](const KernelTable& table, Report& report) { check_q8(scalar, table, report); };
  using Kernels = AttentionKernels;
  bool ok = caught("blind to the newest", in_case, [](Kernels& k) { k.weigh = blind_to_the_newest; });
  ok &= caught("sees the future", in_case, [](Kernels& k) { k.weigh = sees_the_future; });
  ok &= caught("another order in tiles", in_case, [](Kernels& k) { k.weigh = another_order_in_tiles; });
  ok &= caught("scores backwards", in_case, [](Kernels& k) { k.score = scores_backwards; });
  ok &= caught("last slot dropped", in_case, [](Kernels& k) { k.add_values = drops_the_last_slot; });
  ok &= caught("split merged unscaled", in_case, [](Kernels& k) { k.merge = forgets_the_scale; });
  ok &= caught("keys with one scale", in_q8, [](Kernels& k) { k.keys_from_q8 = scale_of_the_first_token; });
  ok &= caught("q8 cut off, not rounded", in_q8, [](Kernels& k) { k.to_q8 = truncates_to_q8; });
  return ok;
}

}  // namespace ruvltra::kernel_check
