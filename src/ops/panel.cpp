#include "ops/panel.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>
#include <vector>

#include "base/check.h"
#include "base/num.h"
#include "kernels/panel_layout.h"

namespace ruvltra {
namespace {

constexpr size_t kRows = kPanelRows;
constexpr size_t kTaskBytes = size_t{1} << 18;  // file bytes read at once

f16_t half_at(const uint8_t* bytes) {
  f16_t half;
  std::memcpy(&half, bytes, sizeof half);
  return half;
}

// Levels (unsigned, 0..31) of one sub-block into lane `row` of its vectors.
void put_levels(const uint8_t* levels, size_t row, Nibbles& sub) {
  for (size_t i = 0; i < 16; ++i) {
    sub.nibbles[i / 4][4 * row + i % 4] = static_cast<uint8_t>((levels[i] & 15) | levels[i + 16] << 4);
  }
}

void put_levels(const uint8_t* levels, size_t row, NibblesFifths& sub) {
  for (size_t i = 0; i < 16; ++i) {
    sub.nibbles[i / 4][4 * row + i % 4] = static_cast<uint8_t>((levels[i] & 15) | levels[i + 16] << 4);
  }
  for (size_t i = 0; i < 32; ++i) {
    sub.fifths[4 * row + i % 4] |= static_cast<uint8_t>((levels[i] >> 4) << (i / 4));
  }
}

void put_levels(const uint8_t* levels, size_t row, NibblesPairs& sub) {
  for (size_t i = 0; i < 16; ++i) {
    sub.nibbles[i / 4][4 * row + i % 4] = static_cast<uint8_t>((levels[i] & 15) | levels[i + 16] << 4);
  }
  for (size_t i = 0; i < 32; ++i) {
    const size_t group = i / 4;
    const size_t field = group % 2 + group / 4 * 2;
    sub.pairs[group % 4 / 2][4 * row + i % 4] |= static_cast<uint8_t>((levels[i] >> 4) << (2 * field));
  }
}

// The file layouts of docs/formats.md, one block of one row at a time. The destination is zero before.
struct Q4_0 {
  using Layout = LayoutQ4_0;
  static void pack(const uint8_t* file, size_t row, HeaderD& header, Layout::Quants& quants) {
    header.d[row] = half_at(file);
    uint8_t levels[32];
    for (size_t i = 0; i < 16; ++i) {
      levels[i] = file[2 + i] & 15;
      levels[i + 16] = file[2 + i] >> 4;
    }
    put_levels(levels, row, quants.sub[0]);
  }
};

// `bits` = the 32 fifth bits, then 16 bytes of nibbles.
void pack_five_bits(const uint8_t* bits, size_t row, NibblesFifths& sub) {
  uint8_t levels[32];
  for (size_t i = 0; i < 32; ++i) {
    const uint8_t byte = bits[4 + i % 16];
    const int fifth = bits[i / 8] >> (i % 8) & 1;
    levels[i] = static_cast<uint8_t>((i < 16 ? byte & 15 : byte >> 4) | fifth << 4);
  }
  put_levels(levels, row, sub);
}

struct Q5_0 {
  using Layout = LayoutQ5_0;
  static void pack(const uint8_t* file, size_t row, HeaderD& header, Layout::Quants& quants) {
    header.d[row] = half_at(file);
    pack_five_bits(file + 2, row, quants.sub[0]);
  }
};

struct Q5_1 {
  using Layout = LayoutQ5_1;
  static void pack(const uint8_t* file, size_t row, HeaderDM& header, Layout::Quants& quants) {
    header.d[row] = half_at(file);
    header.m[row] = half_at(file + 2);
    pack_five_bits(file + 4, row, quants.sub[0]);
  }
};

struct Q8_0 {
  using Layout = LayoutQ8_0;
  static void pack(const uint8_t* file, size_t row, HeaderD& header, Layout::Quants& quants) {
    header.d[row] = half_at(file);
    for (size_t group = 0; group < 8; ++group) {
      std::memcpy(quants.sub[0].bytes[group] + 4 * row, file + 2 + 4 * group, 4);
    }
  }
};

// d, dmin and the 6-bit scales and mins of Q4_K and Q5_K.
void pack_scales(const uint8_t* file, size_t row, HeaderScalesMins& header) {
  header.d[row] = half_at(file);
  header.dmin[row] = half_at(file + 2);
  const uint8_t* s = file + 4;
  for (size_t j = 0; j < 8; ++j) {
    const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    const int min = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6) << 4;
    header.scale[j][row] = static_cast<uint8_t>(scale);
    header.min[j / 2][row][j % 2] = static_cast<uint8_t>(min);
  }
}

struct Q4_K {
  using Layout = LayoutQ4_K;
  static void pack(const uint8_t* file, size_t row, HeaderScalesMins& header, Layout::Quants& quants) {
    pack_scales(file, row, header);
    const uint8_t* nibbles = file + 16;
    for (size_t j = 0; j < 8; ++j) {
      uint8_t levels[32];
      for (size_t i = 0; i < 32; ++i) levels[i] = nibbles[32 * (j / 2) + i] >> (j % 2 * 4) & 15;
      put_levels(levels, row, quants.sub[j]);
    }
  }
};

struct Q5_K {
  using Layout = LayoutQ5_K;
  static void pack(const uint8_t* file, size_t row, HeaderScalesMins& header, Layout::Quants& quants) {
    pack_scales(file, row, header);
    const uint8_t* fifths = file + 16;
    const uint8_t* nibbles = file + 48;
    for (size_t j = 0; j < 8; ++j) {
      uint8_t levels[32];
      for (size_t i = 0; i < 32; ++i) {
        const int nibble = nibbles[32 * (j / 2) + i] >> (j % 2 * 4) & 15;
        levels[i] = static_cast<uint8_t>(nibble | (fifths[i] >> j & 1) << 4);
      }
      put_levels(levels, row, quants.sub[j]);
    }
  }
};

struct Q6_K {
  using Layout = LayoutQ6_K;
  static void pack(const uint8_t* file, size_t row, HeaderScales16& header, Layout::Quants& quants) {
    header.d[row] = half_at(file + 208);
    for (size_t j = 0; j < 16; ++j) header.scale[j / 2][row][j % 2] = static_cast<int8_t>(file[192 + j]);
    for (size_t j = 0; j < 8; ++j) {
      const size_t half = j / 4, quarter = j % 4;
      uint8_t levels[32];
      for (size_t i = 0; i < 32; ++i) {
        const int low = file[64 * half + 32 * (quarter % 2) + i] >> (4 * (quarter / 2)) & 15;
        const int high = file[128 + 32 * half + i] >> (2 * quarter) & 3;
        levels[i] = static_cast<uint8_t>(low | high << 4);
      }
      put_levels(levels, row, quants.sub[j]);
    }
  }
};

template <class File>
void pack_quant_row(const uint8_t* file_row, size_t row, size_t k, size_t file_block_bytes, uint8_t* panel) {
  using Layout = typename File::Layout;
  void* header_strip = panel;
  void* quant_strip = panel + quant_offset(block_of<Layout>(), k);
  auto* headers = static_cast<typename Layout::Header*>(header_strip);
  auto* quants = static_cast<typename Layout::Quants*>(quant_strip);
  for (size_t b = 0; b < k / Layout::kBlock; ++b) {
    File::pack(file_row + b * file_block_bytes, row, headers[b], quants[b]);
  }
}

void pack_float_row(const uint8_t* file_row, size_t row, size_t k, size_t element_bytes, uint8_t* panel) {
  for (size_t i = 0; i < k; ++i) {
    std::memcpy(panel + (i * kRows + row) * element_bytes, file_row + i * element_bytes, element_bytes);
  }
}

void pack_row(WeightKind kind, const uint8_t* file_row, size_t row, size_t k, size_t block_bytes,
              uint8_t* panel) {
  switch (kind) {
    case WeightKind::kF32:
    case WeightKind::kF16:
    case WeightKind::kBF16:
      return pack_float_row(file_row, row, k, block_bytes, panel);
    case WeightKind::kQ4_0:
      return pack_quant_row<Q4_0>(file_row, row, k, block_bytes, panel);
    case WeightKind::kQ5_0:
      return pack_quant_row<Q5_0>(file_row, row, k, block_bytes, panel);
    case WeightKind::kQ5_1:
      return pack_quant_row<Q5_1>(file_row, row, k, block_bytes, panel);
    case WeightKind::kQ8_0:
      return pack_quant_row<Q8_0>(file_row, row, k, block_bytes, panel);
    case WeightKind::kQ4_K:
      return pack_quant_row<Q4_K>(file_row, row, k, block_bytes, panel);
    case WeightKind::kQ5_K:
      return pack_quant_row<Q5_K>(file_row, row, k, block_bytes, panel);
    case WeightKind::kQ6_K:
      return pack_quant_row<Q6_K>(file_row, row, k, block_bytes, panel);
    case WeightKind::kCount:
      break;
  }
  CHECK(false);
}

// The error of the lowest row, whichever thread met one first.
class FirstError {
 public:
  void report(size_t row, Error error) {
    const std::lock_guard lock(mutex_);
    if (error_ && row_ <= row) return;
    row_ = row;
    error_ = std::move(error);
  }
  std::optional<Error> take() { return std::move(error_); }

 private:
  std::mutex mutex_;
  size_t row_ = 0;
  std::optional<Error> error_;
};

}  // namespace

WeightKind weight_kind(TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return WeightKind::kF32;
    case TensorType::kF16:
      return WeightKind::kF16;
    case TensorType::kBF16:
      return WeightKind::kBF16;
    case TensorType::kQ4_0:
      return WeightKind::kQ4_0;
    case TensorType::kQ5_0:
      return WeightKind::kQ5_0;
    case TensorType::kQ5_1:
      return WeightKind::kQ5_1;
    case TensorType::kQ8_0:
      return WeightKind::kQ8_0;
    case TensorType::kQ4_K:
      return WeightKind::kQ4_K;
    case TensorType::kQ5_K:
      return WeightKind::kQ5_K;
    case TensorType::kQ6_K:
      return WeightKind::kQ6_K;
  }
  CHECK(false);
  return WeightKind::kCount;
}

Result<PackedMatrix> PackedMatrix::pack(const Ctx& ctx, std::string_view name, TensorType type, size_t n_rows,
                                        size_t k, const RowReader& read) {
  const Format& format = format_of(type);
  CHECK(k % format.block_elements == 0);
  PackedMatrix matrix;
  matrix.type_ = type;
  matrix.n_rows_ = n_rows;
  matrix.k_ = k;
  const WeightKind kind = weight_kind(type);
  matrix.panel_bytes_ = ruvltra::panel_bytes(panel_block(kind), k);
  matrix.decode_row_ = ctx.kernels->matmul.decode_row[static_cast<size_t>(kind)];
  const size_t n_panels = (n_rows + kRows - 1) / kRows;
  ASSIGN_OR_RETURN(matrix.data_, AlignedBuffer<uint8_t>::make(n_panels * matrix.panel_bytes_, Pages::kHuge));

  const size_t row_bytes = format.row_bytes(k);
  const size_t task_panels = std::max<size_t>(1, kTaskBytes / std::max<size_t>(1, kRows * row_bytes));
  const size_t task_rows = task_panels * kRows;
  std::vector<AlignedBuffer<uint8_t>> file_rows;
  for (int thread = 0; thread < ctx.pool->n_threads(); ++thread) {
    ASSIGN_OR_RETURN(auto buffer, AlignedBuffer<uint8_t>::make(std::min(task_rows, n_rows) * row_bytes));
    file_rows.push_back(std::move(buffer));
  }
  FirstError first_error;
  ctx.pool->parallel_for((n_rows + task_rows - 1) / task_rows, [&](size_t task, int thread) {
    const size_t begin = task * task_rows;
    const size_t count = std::min(task_rows, n_rows - begin);
    const auto bytes = file_rows[static_cast<size_t>(thread)].span().first(count * row_bytes);
    if (Result<void> status = read(begin, count, bytes); !status) {
      return first_error.report(begin, std::move(status).error());
    }
    for (size_t i = 0; i < count; ++i) {
      const size_t row = begin + i;
      const uint8_t* file_row = bytes.data() + i * row_bytes;
      if (!format.is_finite(file_row, k)) {
        auto error =
            fail("weights.not_finite", "tensor {}, row {}: {} scales: expected finite, found NaN or infinity",
                 quoted(name), row, format.name);
        return first_error.report(row, std::move(error).value());
      }
      uint8_t* panel = matrix.data_.data() + row / kRows * matrix.panel_bytes_;
      pack_row(kind, file_row, row % kRows, k, format.block_bytes, panel);
    }
  });
  if (std::optional<Error> error = first_error.take()) return tl::unexpected<Error>(std::move(*error));
  return matrix;
}

void PackedMatrix::decode_row(size_t row, float* out) const {
  DCHECK(row < n_rows_);
  decode_row_(view(), row, out);
}

}  // namespace ruvltra
