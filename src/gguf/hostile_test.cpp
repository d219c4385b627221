// Hand-made hostile GGUF files. Each must fail with its own error, promptly and within the bound on memory.
// The numbers are those of the classes in docs/gguf.md.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf/bytes_for_test.h"
#include "gguf/cost_for_test.h"
#include "gguf/reader.h"

namespace ruvltra {
namespace {

using testing::Bytes;
using testing::TemporaryFolder;
using namespace testing;

constexpr uint64_t kMax = ~uint64_t{0};
constexpr uint64_t kTwo32 = uint64_t{1} << 32;
constexpr uint32_t kF32Type = 0;
constexpr uint32_t kQ4_0Type = 2;
constexpr uint32_t kQ4_KType = 12;

struct Case {
  int number;
  std::string name;
  Bytes bytes;
  std::string expected;  // error id; empty: must load
};

// One u32 key before `value_bytes` begin; what most key-value cases share.
Bytes with_key(std::string_view key, uint32_t type) { return Bytes().header(0, 1).key(key, type); }

Bytes with_alignment(uint32_t alignment) {
  return with_key("general.alignment", kU32).u32(alignment).zeros(64);
}

// One tensor, with 256 bytes of data unless `data_bytes` says otherwise.
Bytes one_tensor(std::initializer_list<uint64_t> dims, uint32_t type = kF32Type, uint64_t offset = 0,
                 std::string_view name = "a", size_t data_bytes = 256) {
  return Bytes().header(1, 0).tensor(name, dims, type, offset).align(32).zeros(data_bytes);
}

Bytes two_tensors(uint64_t offset_a, uint64_t offset_b, std::string_view name_b = "b") {
  return Bytes()
      .header(2, 0)
      .tensor("a", {32}, kF32Type, offset_a)
      .tensor(name_b, {32}, kF32Type, offset_b)
      .align(32)
      .zeros(256);
}

// A valid file with keys of several types and two tensors; ends with the last byte of the last tensor.
Bytes valid_file(uint32_t version = 3) {
  Bytes file;
  file.header(2, 4, version).key("general.architecture", kString).text("qwen2");
  file.key("general.alignment", kU32).u32(32).array("list", kString, 2).text("").text("two");
  file.key("flag", kBool).u8(1);
  file.tensor("a", {32, 2}, kF32Type, 0).tensor("b", {32}, kQ4_0Type, 256);
  return file.align(32).zeros(256 + 18);
}

std::vector<Case> header_cases() {
  std::vector<Case> cases = {
      {1, "empty_file", Bytes(), "gguf.truncated"},
      {2, "one_byte_of_magic", Bytes().raw("G"), "gguf.truncated"},
      {2, "three_bytes_of_magic", Bytes().raw("GGU"), "gguf.truncated"},
      {3, "magic_only", Bytes().raw("GGUF"), "gguf.truncated"},
      {4, "magic_ggml", Bytes().raw("GGML").u32(3).u64(0).u64(0), "gguf.magic"},
      {4, "magic_ggjt", Bytes().raw("ggjt").u32(3).u64(0).u64(0), "gguf.magic"},
      {5, "version_0", Bytes().header(0, 0, 0), "gguf.version"},
      {6, "version_1", Bytes().header(0, 0, 1), "gguf.version"},
      {7, "version_max", Bytes().header(0, 0, 0xffffffff), "gguf.version"},
      {7, "version_4", Bytes().header(0, 0, 4), "gguf.version"},
      {8, "big_endian", Bytes().header(0, 0, 0x03000000), "gguf.big_endian"},
      {10, "n_kv_2_60", Bytes().header(0, uint64_t{1} << 60), "gguf.kv_count"},
      {11, "n_kv_minus_1", Bytes().header(0, kMax), "gguf.kv_count"},
      {11, "n_kv_over_the_limit", Bytes().header(0, 65'537).zeros(65'537 * 14), "gguf.kv_count"},
      {12, "n_tensors_2_50", Bytes().header(uint64_t{1} << 50, 0), "gguf.tensor_count"},
      {13, "n_tensors_minus_1", Bytes().header(kMax, 0), "gguf.tensor_count"},
      {14, "n_tensors_wraps", Bytes().header(kMax / 33 + 1, 0).zeros(64), "gguf.tensor_count"},
      {14, "n_tensors_beyond_the_file", Bytes().header(60'000, 0).zeros(64), "gguf.tensor_count"},
      {15, "n_kv_1_then_end", Bytes().header(0, 1), "gguf.kv_count"},
      {16, "version_2", valid_file(2), ""},
      {16, "no_keys_no_tensors", Bytes().header(0, 0), ""},
  };
  for (size_t n = 4; n < 24; ++n) {
    Bytes cut;
    for (size_t i = 0; i < n; ++i) cut.u8(Bytes().header(0, 0).get()[i]);
    cases.push_back({9, "header_cut_at_" + std::to_string(n), cut, "gguf.truncated"});
  }
  return cases;
}

std::vector<Case> key_value_cases() {
  Bytes deep = with_key("deep", kArray);
  for (int i = 0; i < 10'000; ++i) deep.u32(kArray).u64(1);
  return {
      {17, "key_length_2_63", Bytes().header(0, 1).u64(kMax / 2).zeros(64), "gguf.string_length"},
      {18, "key_length_one_too_many", Bytes().header(0, 1).u64(65).zeros(64), "gguf.string_length"},
      {19, "empty_key", with_key("", kU32).u32(1), "gguf.key"},
      {20, "key_of_64_kib", with_key(std::string(65'536, 'k'), kU32).u32(1), "gguf.key"},
      {20, "key_of_the_longest_length", with_key(std::string(65'535, 'k'), kU32).u32(1), ""},
      {21, "key_with_nul", with_key(std::string_view("a\0b", 3), kU32).u32(1), "gguf.key"},
      {21, "key_with_escape", with_key("a\x1b[2J", kU32).u32(1), "gguf.key"},
      {21, "key_with_bad_utf8", with_key("a\xff", kU32).u32(1), "gguf.key"},
      {22, "duplicate_key", Bytes().header(0, 2).key("a", kU32).u32(1).key("a", kF32).u32(1),
       "gguf.duplicate_key"},
      {23, "value_type_13", with_key("a", 13).zeros(8), "gguf.value_type"},
      {23, "value_type_255", with_key("a", 255).zeros(8), "gguf.value_type"},
      {23, "value_type_minus_1", with_key("a", 0xffffffff).zeros(8), "gguf.value_type"},
      {24, "string_length_2_40", with_key("a", kString).u64(uint64_t{1} << 40).zeros(8),
       "gguf.string_length"},
      {25, "string_of_1_gib_in_45_bytes", with_key("a", kString).u64(uint64_t{1} << 30),
       "gguf.string_length"},
      {26, "string_length_one_too_many", with_key("a", kString).u64(9).zeros(8), "gguf.string_length"},
      {27, "u8_array_2_60", Bytes().header(0, 1).array("a", kU8, uint64_t{1} << 60).zeros(8),
       "gguf.array_count"},
      {28, "string_array_2_30", Bytes().header(0, 1).array("a", kString, uint64_t{1} << 30).zeros(64),
       "gguf.array_count"},
      {28, "string_array_one_too_many", Bytes().header(0, 1).array("a", kString, 9).zeros(64),
       "gguf.array_count"},
      {28, "string_array_of_full_length", Bytes().header(0, 1).array("a", kString, 8).zeros(64), ""},
      {29, "f64_array_wraps", Bytes().header(0, 1).array("a", kF64, (uint64_t{1} << 61) + 1).zeros(64),
       "gguf.array_count"},
      {29, "f32_array_one_too_many", Bytes().header(0, 1).array("a", kF32, 17).zeros(64), "gguf.array_count"},
      {30, "array_of_arrays", Bytes().header(0, 1).array("a", kArray, 1).u32(kU8).u64(1).u8(1),
       "gguf.nested_array"},
      {30, "array_of_arrays_10000_deep", deep, "gguf.nested_array"},
      {31, "array_of_invalid_type", Bytes().header(0, 1).array("a", 13, 1).zeros(8), "gguf.value_type"},
      {31, "array_of_type_minus_1", Bytes().header(0, 1).array("a", 0xffffffff, 1).zeros(8),
       "gguf.value_type"},
      {32, "bool_2", with_key("a", kBool).u8(2), "gguf.bool"},
      {32, "bool_array_with_255", Bytes().header(0, 1).array("a", kBool, 2).u8(1).u8(255), "gguf.bool"},
      {32, "array_of_nothing", Bytes().header(0, 1).array("a", kU64, 0), ""},
  };
}

std::vector<Case> alignment_cases() {
  Bytes twice;
  twice.header(0, 2).key("general.alignment", kU32).u32(32).key("general.alignment", kU32).u32(64);
  Bytes beyond;
  beyond.header(1, 1).key("general.alignment", kU32).u32(4096).tensor("a", {1}, kF32Type, 0).zeros(64);
  return {
      {35, "zero", with_alignment(0), "gguf.alignment"},
      {36, "three", with_alignment(3), "gguf.alignment"},
      {37, "two_to_31", with_alignment(1u << 31), "gguf.alignment"},
      {37, "8192", with_alignment(8192), "gguf.alignment"},
      {38, "one", with_alignment(1), "gguf.alignment"},
      {38, "four", with_alignment(4), "gguf.alignment"},
      {38, "eight", with_alignment(8), ""},
      {38, "4096", with_alignment(4096), ""},
      {39, "as_i32", with_key("general.alignment", kI32).u32(32), "gguf.alignment"},
      {39, "as_u64", with_key("general.alignment", kU64).u64(32), "gguf.alignment"},
      {40, "as_string", with_key("general.alignment", kString).text("32"), "gguf.alignment"},
      {41, "twice", twice, "gguf.duplicate_key"},
      {42, "data_begins_beyond_the_end", beyond, "gguf.data_offset"},
  };
}

std::vector<Case> tensor_shape_cases() {
  const auto with_n_dims = [](uint32_t n_dims) {
    return Bytes().header(1, 0).text("a").u32(n_dims).zeros(256);
  };
  std::vector<Case> cases = {
      {43, "no_dimensions", with_n_dims(0), "gguf.tensor_n_dims"},
      {44, "five_dimensions", with_n_dims(5), "gguf.tensor_n_dims"},
      {45, "2_32_dimensions", with_n_dims(0xffffffff), "gguf.tensor_n_dims"},
      {46, "zero_dimension", one_tensor({32, 0}), "gguf.tensor_dim"},
      {46, "zero_row", one_tensor({0, kMax}), "gguf.tensor_dim"},
      {47, "dimension_2_64", one_tensor({kMax}), "gguf.tensor_size"},
      {48, "product_wraps_to_minus_2", one_tensor({kMax / 2, 2}), "gguf.tensor_size"},
      {49, "product_wraps_to_0", one_tensor({kTwo32, kTwo32}), "gguf.tensor_size"},
      {50, "product_wraps_to_small", one_tensor({kTwo32 + 1, kTwo32 - 1, 2}), "gguf.tensor_size"},
      {51, "row_of_255_in_q4_k", one_tensor({255}, kQ4_KType), "gguf.tensor_row"},
      {51, "row_of_257_in_q4_k", one_tensor({257, 256}, kQ4_KType), "gguf.tensor_row"},
      {52, "q4_0_row_bytes_wrap", one_tensor({32, uint64_t{1} << 58}, kQ4_0Type), "gguf.tensor_extent"},
      {52, "q4_0_bytes_wrap", one_tensor({uint64_t{1} << 63}, kQ4_0Type), "gguf.tensor_extent"},
      {52, "f32_bytes_wrap", one_tensor({uint64_t{1} << 62}), "gguf.tensor_size"},
      {53, "padding_wraps",
       Bytes()
           .header(2, 0)
           .tensor("a", {(uint64_t{1} << 62) - 1}, kF32Type, 0)
           .tensor("b", {1}, kF32Type, 0)
           .align(32)
           .zeros(256),
       "gguf.tensor_extent"},
      {54, "sum_of_two_wraps",
       Bytes()
           .header(2, 0)
           .tensor("a", {uint64_t{1} << 61}, kF32Type, 0)
           .tensor("b", {uint64_t{1} << 61}, kF32Type, uint64_t{1} << 63)
           .align(32)
           .zeros(256),
       "gguf.tensor_extent"},
      {55, "2_64_minus_4_bytes_in_160", one_tensor({(uint64_t{1} << 62) - 1}, kF32Type, 0, "a", 64),
       "gguf.tensor_extent"},
      {57, "empty_name", one_tensor({32}, kF32Type, 0, ""), "gguf.tensor_name"},
      {57, "name_with_control_bytes", one_tensor({32}, kF32Type, 0, "a\n"), "gguf.tensor_name"},
      {58, "name_of_4_kib", one_tensor({32}, kF32Type, 0, std::string(4096, 'n')), "gguf.tensor_name"},
      {58, "name_of_64", one_tensor({32}, kF32Type, 0, std::string(64, 'n')), "gguf.tensor_name"},
      {58, "name_of_63", one_tensor({32}, kF32Type, 0, std::string(63, 'n')), ""},
      {58, "name_longer_than_the_file", Bytes().header(1, 0).u64(kMax - 7).zeros(64), "gguf.string_length"},
  };
  for (const uint32_t type : {255u, static_cast<uint32_t>(-5), 3u, 4u, 5u, 16u, 31u, 32u, 33u}) {
    cases.push_back({56, "type_" + std::to_string(type), one_tensor({256}, type), "gguf.tensor_type"});
  }
  return cases;
}

std::vector<Case> tensor_place_cases() {
  return {
      {59, "duplicate_name", two_tensors(0, 128, "a"), "gguf.tensor_duplicate"},
      {60, "offset_not_aligned", two_tensors(0, 129), "gguf.tensor_offset"},
      {60, "offset_half_aligned", two_tensors(0, 144), "gguf.tensor_offset"},
      {61, "offset_2_64_minus_32", one_tensor({32}, kF32Type, kMax - 31), "gguf.tensor_extent"},
      {62, "one_byte_past_the_end", one_tensor({32}, kF32Type, 0, "a", 127), "gguf.tensor_extent"},
      {62, "exactly_to_the_end", one_tensor({32}, kF32Type, 0, "a", 128), ""},
      {63, "data_missing", one_tensor({32}, kF32Type, 0, "a", 0), "gguf.tensor_extent"},
      {63, "data_and_padding_missing", Bytes().header(1, 0).tensor("a", {32}, kF32Type, 0),
       "gguf.data_offset"},
      {64, "overlap_by_32", two_tensors(0, 96), "gguf.tensor_overlap"},
      {64, "same_place", two_tensors(0, 0), "gguf.tensor_overlap"},
      {65, "offset_into_the_header", one_tensor({8}, kF32Type, kMax - 63), "gguf.tensor_extent"},
      {66, "offsets_in_reverse_order", two_tensors(128, 0), ""},
      {67, "trailing_bytes", one_tensor({8}), ""},
  };
}

// The id of the error, or "" if it loads.
template <class T>
std::string outcome(const Result<T>& result, const std::string& name) {
  if (result) return "";
  EXPECT_NE(result.error().message.find(name), std::string::npos) << result.error().message;
  EXPECT_EQ(result.error().message.find('\n'), std::string::npos);
  EXPECT_LT(result.error().message.size(), 1000u);
  return std::string(result.error().id);
}

void run(const std::vector<Case>& cases) {
  const TemporaryFolder folder;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name + " (class " + std::to_string(c.number) + ")");
    const auto path = folder / (c.name + ".gguf");
    write_bytes(path, c.bytes.get());
    const Cost cost = measure([&] {
      EXPECT_EQ(outcome(parse_gguf_header(c.bytes.get(), c.bytes.size(), c.name), c.name), c.expected);
      EXPECT_EQ(outcome(GgufFile::open(path), c.name), c.expected);
      EXPECT_EQ(outcome(GgufFile::open(path, {.map = true}), c.name), c.expected);
    });
    EXPECT_LE(cost.n_bytes, allocation_bound(c.bytes.size()));
    EXPECT_LE(cost.seconds, 1.0) << "hangs";
  }
}

TEST(HostileGguf, Header) { run(header_cases()); }
TEST(HostileGguf, KeyValues) { run(key_value_cases()); }
TEST(HostileGguf, Alignment) { run(alignment_cases()); }
TEST(HostileGguf, TensorShapes) { run(tensor_shape_cases()); }
TEST(HostileGguf, TensorPlaces) { run(tensor_place_cases()); }

TEST(HostileGguf, TrailingBytesGiveAWarning) {
  const Bytes file = one_tensor({8});
  const auto header = parse_gguf_header(file.get(), file.size(), "file");
  ASSERT_TRUE(header);
  ASSERT_EQ(header->warnings.size(), 1u);
  EXPECT_NE(header->warnings[0].find("224 bytes after the last tensor"), std::string::npos)
      << header->warnings[0];
}

// Class 34.
TEST(HostileGguf, CutAtEveryByte) {
  const Bytes whole = valid_file();
  ASSERT_TRUE(parse_gguf_header(whole.get(), whole.size(), "whole"));
  for (size_t n = 0; n < whole.size(); ++n) {
    const auto cut =
        std::vector<uint8_t>(whole.get().begin(), whole.get().begin() + static_cast<std::ptrdiff_t>(n));
    const auto header = parse_gguf_header(cut, n, "cut");
    ASSERT_FALSE(header) << n;
    EXPECT_TRUE(header.error().id.starts_with("gguf.")) << n;
  }
}

// The header is there, but less of the file behind it than its tensors need.
TEST(HostileGguf, DataCutAtEveryByte) {
  const Bytes whole = valid_file();
  for (size_t n = 0; n < whole.size(); ++n) ASSERT_FALSE(parse_gguf_header(whole.get(), n, "cut")) << n;
}

TEST(HostileGguf, EveryByteChangedNeitherCrashesNorGrows) {
  const Bytes whole = valid_file();
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const uint8_t value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::vector<uint8_t> changed = whole.get();
      changed[i] = value;
      const Cost cost = measure([&] { (void)parse_gguf_header(changed, changed.size(), "changed"); });
      ASSERT_LE(cost.n_bytes, allocation_bound(changed.size())) << i;
    }
  }
}

// The worst file for memory: 8 bytes of file become one string object each.
TEST(HostileGguf, EmptyStringsStayWithinTheBound) {
  const uint64_t count = uint64_t{1} << 20;
  const Bytes file = Bytes().header(0, 1).array("tokens", kString, count).zeros(count * 8);
  const TemporaryFolder folder;
  write_bytes(folder / "f.gguf", file.get());
  const Cost cost = measure([&] { EXPECT_TRUE(GgufFile::open(folder / "f.gguf")); });
  EXPECT_LE(cost.n_bytes, allocation_bound(file.size()));
}

TEST(HostileGguf, ManyKeysAndTensorsStayWithinTheBound) {
  Bytes file;
  file.header(65'536, 65'536);
  for (uint32_t i = 0; i < 65'536; ++i) file.key(std::to_string(i), kU8).u8(1);
  for (uint32_t i = 0; i < 65'536; ++i) file.tensor(std::to_string(i), {1}, kF32Type, uint64_t{32} * i);
  file.align(32).zeros(65'536 * 32);
  const Cost cost = measure([&] { EXPECT_TRUE(parse_gguf_header(file.get(), file.size(), "many")); });
  EXPECT_LE(cost.n_bytes, allocation_bound(file.size()));
  EXPECT_LE(cost.seconds, 5.0) << "hangs";
}

class SparseFile {
 public:
  SparseFile(const std::filesystem::path& path, const Bytes& beginning, uint64_t n_bytes) {
    write_bytes(path, beginning.get());
    made_ = truncate(path.c_str(), static_cast<off_t>(n_bytes)) == 0;
  }
  bool made() const { return made_; }

 private:
  bool made_;
};

// Class 33: a header beyond its limit, in a file that is large enough for it.
TEST(HostileGguf, MetadataOverTheLimit) {
  const TemporaryFolder folder;
  const std::pair<std::string_view, Bytes> files[] = {
      {"array", Bytes().header(0, 1).array("a", kU8, uint64_t{256} << 20)},
      {"strings", Bytes().header(0, 1).array("a", kString, uint64_t{1} << 25)},
      {"string", with_key("a", kString).u64(uint64_t{300} << 20)},
      {"key", Bytes().header(0, 1).u64(uint64_t{300} << 20)},
  };
  for (const auto& [name, beginning] : files) {
    const auto path = folder / name;
    if (!SparseFile(path, beginning, uint64_t{1} << 30).made()) GTEST_SKIP() << "no sparse files here";
    const Cost cost =
        measure([&] { EXPECT_EQ(outcome(GgufFile::open(path), path.string()), "gguf.metadata_size"); });
    EXPECT_LE(cost.n_bytes, allocation_bound(beginning.size())) << name;
  }
}

// Class 68: a terabyte of nothing is neither read nor mapped into memory.
TEST(HostileGguf, SparseTerabyte) {
  const TemporaryFolder folder;
  const uint64_t terabyte = uint64_t{1} << 40;
  const Case files[] = {
      {68, "zeros", Bytes(), "gguf.magic"},
      {68, "trailing", Bytes().header(1, 0).tensor("a", {8}, kF32Type, 0).align(32), ""},
      {68, "one_tensor", Bytes().header(1, 0).tensor("a", {(uint64_t{1} << 38) - 64}, kF32Type, 0).align(32),
       ""},
      {68, "tensor_too_large", Bytes().header(1, 0).tensor("a", {uint64_t{1} << 38}, kF32Type, 0).align(32),
       "gguf.tensor_extent"},
  };
  for (const Case& c : files) {
    SCOPED_TRACE(c.name);
    const auto path = folder / c.name;
    if (!SparseFile(path, c.bytes, terabyte).made()) GTEST_SKIP() << "no files of this size here";
    const Cost cost = measure([&] { EXPECT_EQ(outcome(GgufFile::open(path), path.string()), c.expected); });
    EXPECT_LE(cost.n_bytes, allocation_bound(c.bytes.size()));
    EXPECT_LE(cost.seconds, 1.0) << "hangs";
  }
}

// Classes 122 and 123.
TEST(HostileGguf, PathsThatAreNoFiles) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink(folder / "nowhere", folder / "dangling");
  std::filesystem::create_symlink(folder / "loop", folder / "loop");
  ASSERT_EQ(mkfifo((folder / "fifo").c_str(), 0600), 0);
  const std::pair<std::filesystem::path, std::string_view> paths[] = {
      {folder.path(), "file.not_regular"}, {folder / "fifo", "file.not_regular"},
      {"/dev/zero", "file.not_regular"},   {folder / "dangling", "file.not_found"},
      {folder / "loop", "file.not_found"}, {folder / "absent", "file.not_found"},
  };
  for (const auto& [path, id] : paths) {
    const auto file = GgufFile::open(path);
    ASSERT_FALSE(file) << path;
    EXPECT_EQ(file.error().id, id) << path;
  }
  if (geteuid() == 0) return;  // nothing is forbidden to root
  write_bytes(folder / "secret", valid_file().get());
  std::filesystem::permissions(folder / "secret", std::filesystem::perms::none);
  EXPECT_EQ(GgufFile::open(folder / "secret").error().id, "file.denied");
}

// Class 124.
TEST(HostileGguf, FileThatShrinksAfterItsHeaderWasRead) {
  const TemporaryFolder folder;
  const Bytes bytes = valid_file();
  write_bytes(folder / "f", bytes.get());
  const auto file = GgufFile::open(folder / "f");
  ASSERT_TRUE(file);
  std::filesystem::resize_file(folder / "f", bytes.size() - 1);
  const TensorInfo& last = *file->find("b");
  std::vector<uint8_t> data(last.n_bytes);
  const auto read = file->read(last, 0, data);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().id, "file.truncated");
}

}  // namespace
}  // namespace ruvltra
