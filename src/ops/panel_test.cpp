#include "ops/panel.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <vector>

#include "base/num.h"
#include "kernels/dispatch.h"

namespace ruvltra {
namespace {

// File bytes of a matrix: every bit pattern the format allows, with finite scales.
std::vector<uint8_t> random_matrix(const Format& format, size_t n_rows, size_t k, uint64_t seed) {
  const size_t n_blocks = n_rows * k / format.block_elements;
  std::vector<uint8_t> bytes(n_blocks * format.block_bytes);
  for (size_t b = 0; b < n_blocks; ++b) {
    uint8_t* block = bytes.data() + b * format.block_bytes;
    for (uint32_t attempt = 0;; ++attempt) {
      for (size_t i = 0; i < format.block_bytes; ++i) {
        block[i] = static_cast<uint8_t>(
            philox_uniform(seed, static_cast<uint32_t>(b), static_cast<uint32_t>(i), attempt) * 256);
      }
      if (format.is_finite(block, format.block_elements)) break;
    }
  }
  return bytes;
}

class PanelTest : public testing::TestWithParam<TensorType> {
 protected:
  const Format& format_ = format_of(GetParam());

  Result<PackedMatrix> pack(const std::vector<uint8_t>& file, size_t n_rows, size_t k, int n_threads = 2) {
    ThreadPool pool(n_threads);
    const Ctx ctx{&pool, *kernel_table("scalar")};
    const size_t row_bytes = format_.row_bytes(k);
    return PackedMatrix::pack(ctx, "w", GetParam(), n_rows, k,
                              [&](size_t begin, size_t count, std::span<uint8_t> out) -> Result<void> {
                                EXPECT_EQ(out.size(), count * row_bytes);
                                std::memcpy(out.data(), file.data() + begin * row_bytes, out.size());
                                return {};
                              });
  }
};

TEST_P(PanelTest, DecodesToTheBitsOfTheFile) {
  for (const size_t n_rows : {size_t{1}, size_t{8}, size_t{37}, size_t{600}}) {
    const size_t k = n_rows == 37 ? 3 * 256 : 256;
    const std::vector<uint8_t> file = random_matrix(format_, n_rows, k, n_rows);
    const auto matrix = pack(file, n_rows, k);
    ASSERT_TRUE(matrix) << matrix.error().message;
    std::vector<float> expected(k), found(k);
    for (size_t row = 0; row < n_rows; ++row) {
      format_.decode(file.data() + row * format_.row_bytes(k), expected.data(), k);
      matrix->decode_row(row, found.data());
      for (size_t i = 0; i < k; ++i) {
        ASSERT_EQ(std::bit_cast<uint32_t>(found[i]), std::bit_cast<uint32_t>(expected[i]))
            << format_.name << " row " << row << " weight " << i << ": " << found[i] << " != " << expected[i];
      }
    }
  }
}

TEST_P(PanelTest, SameBytesWhateverTheThreads) {
  const size_t n_rows = 100, k = 2048;
  const std::vector<uint8_t> file = random_matrix(format_, n_rows, k, 1);
  const auto one = pack(file, n_rows, k, 1);
  const auto three = pack(file, n_rows, k, 3);
  ASSERT_TRUE(one && three);
  ASSERT_EQ(one->n_bytes(), three->n_bytes());
  EXPECT_EQ(std::memcmp(one->view().data, three->view().data, one->n_bytes()), 0);
  EXPECT_LE(one->n_bytes(), (file.size() / n_rows * 104) * 104 / 100 + 128 * 13);
}

TEST_P(PanelTest, NamesTheRowThatIsNotFinite) {
  // Two bad rows, far enough apart to be read by different tasks: the lower one counts.
  const size_t n_rows = 3000, k = 512;
  std::vector<uint8_t> file(n_rows * format_.row_bytes(k));
  for (const size_t row : {size_t{29}, size_t{2900}}) {
    // All ones is a NaN in every place that holds a float.
    std::memset(file.data() + row * format_.row_bytes(k), 0xff, format_.row_bytes(k));
  }
  const auto matrix = pack(file, n_rows, k);
  ASSERT_FALSE(matrix);
  EXPECT_EQ(matrix.error().id, "weights.not_finite");
  EXPECT_NE(matrix.error().message.find("row 29:"), std::string::npos) << matrix.error().message;
}

TEST_P(PanelTest, PassesOnTheReadersError) {
  ThreadPool pool(2);
  const Ctx ctx{&pool, *kernel_table("scalar")};
  const auto matrix = PackedMatrix::pack(ctx, "w", GetParam(), 8, 256,
                                         [](size_t, size_t, std::span<uint8_t>) -> Result<void> {
                                           return fail(ErrorKind::kIo, "file.read", "cut short");
                                         });
  ASSERT_FALSE(matrix);
  EXPECT_EQ(matrix.error().id, "file.read");
}

INSTANTIATE_TEST_SUITE_P(Formats, PanelTest,
                         testing::Values(TensorType::kF32, TensorType::kF16, TensorType::kBF16,
                                         TensorType::kQ4_0, TensorType::kQ5_0, TensorType::kQ5_1,
                                         TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ5_K,
                                         TensorType::kQ6_K),
                         [](const auto& test) { return std::string(format_of(test.param).name); });

}  // namespace
}  // namespace ruvltra
