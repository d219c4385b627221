#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <thread>

#include "gguf/bytes_for_test.h"
#include "gguf/reader.h"
#include "gguf/writer.h"

namespace ruvltra {
namespace {

using testing::Bytes;
using testing::TemporaryFolder;
using testing::write_bytes;

std::vector<uint8_t> pattern(size_t n_bytes, uint8_t seed) {
  std::vector<uint8_t> bytes(n_bytes);
  std::iota(bytes.begin(), bytes.end(), seed);
  return bytes;
}

template <class T>
std::string error_of(const Result<T>& result) {
  return result ? "" : std::string(result.error().id);
}

// One key of every value type, with the extremes of each.
Metadata every_type() {
  Metadata m;
  m.set("u8", std::numeric_limits<uint8_t>::max());
  m.set("i8", std::numeric_limits<int8_t>::min());
  m.set("u16", std::numeric_limits<uint16_t>::max());
  m.set("i16", std::numeric_limits<int16_t>::min());
  m.set("u32", std::numeric_limits<uint32_t>::max());
  m.set("i32", std::numeric_limits<int32_t>::min());
  m.set("f32", 1.5f);
  m.set("bool", true);
  m.set("string", std::string("grün\0\n", 7));
  m.set("u64", std::numeric_limits<uint64_t>::max());
  m.set("i64", std::numeric_limits<int64_t>::min());
  m.set("f64", 0.1);
  m.set("u8s", std::vector<uint8_t>{1, 2, 255});
  m.set("i8s", std::vector<int8_t>{-1, 2});
  m.set("u16s", std::vector<uint16_t>{65535});
  m.set("i16s", std::vector<int16_t>{-32768, 1});
  m.set("u32s", std::vector<uint32_t>{});
  m.set("i32s", std::vector<int32_t>{-1, 0, 1});
  m.set("f32s", std::vector<float>{-0.5f, INFINITY});
  m.set("bools", std::vector<bool>{true, false, true});
  m.set("strings", std::vector<std::string>{"", "a", std::string(100'000, 'x')});
  m.set("u64s", std::vector<uint64_t>(100'000, 7));
  m.set("i64s", std::vector<int64_t>{-1});
  m.set("f64s", std::vector<double>{1e300});
  return m;
}

TEST(Gguf, RoundTripOfEveryValueType) {
  const TemporaryFolder folder;
  const Metadata written = every_type();
  auto writer = GgufWriter::create(folder / "f.gguf", written, {}, false);
  ASSERT_TRUE(writer) << writer.error().message;
  ASSERT_TRUE(writer->finish());
  const auto file = GgufFile::open(folder / "f.gguf");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->metadata().entries(), written.entries());
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->file_bytes(), writer->total_bytes());
  EXPECT_TRUE(file->tensors().empty());
  EXPECT_TRUE(file->warnings().empty());
}

// Two rows of two blocks of every tensor type, in 1 to 4 dimensions.
std::vector<TensorPlan> every_tensor_type() {
  std::vector<TensorPlan> plans;
  for (const Format& format : all_formats()) {
    std::vector<uint64_t> dims = {format.block_elements * 2, 2, 1, 1};
    dims.resize(2 + plans.size() % 3);
    plans.push_back({"matrix." + std::string(format.name), format.type, dims});
    plans.push_back({"vector." + std::string(format.name), format.type, {format.block_elements}});
  }
  return plans;
}

TEST(Gguf, RoundTripOfEveryTensorTypeAndAlignment) {
  const TemporaryFolder folder;
  const auto plans = every_tensor_type();
  for (uint32_t alignment = 8; alignment <= 4096; alignment *= 2) {
    const auto path = folder / ("a" + std::to_string(alignment));
    Metadata metadata;
    metadata.set("general.architecture", std::string("qwen2"));
    auto writer = GgufWriter::create(path, metadata, plans, false, alignment);
    ASSERT_TRUE(writer) << writer.error().message;
    for (size_t i = plans.size(); i-- > 0;) {  // in any order, in two pieces
      const Format& format = format_of(plans[i].type);
      const size_t n = format.block_bytes * (i % 2 == 0 ? 4 : 1);
      const auto data = pattern(n, static_cast<uint8_t>(i));
      ASSERT_TRUE(writer->write(i, n / 2, std::span(data).subspan(n / 2)));
      ASSERT_TRUE(writer->write(i, 0, std::span(data).first(n / 2)));
    }
    ASSERT_TRUE(writer->finish());
    EXPECT_EQ(std::filesystem::file_size(path), writer->total_bytes());
    for (const bool map : {false, true}) {
      const auto file = GgufFile::open(path, {.map = map});
      ASSERT_TRUE(file) << file.error().message;
      EXPECT_EQ(file->metadata().contains("general.alignment"), alignment != 32);
      ASSERT_EQ(file->tensors().size(), plans.size());
      EXPECT_TRUE(file->warnings().empty());
      for (size_t i = 0; i < plans.size(); ++i) {
        const TensorInfo& tensor = file->tensors()[i];
        EXPECT_EQ(file->find(plans[i].name), &tensor);
        EXPECT_EQ(tensor.type, plans[i].type);
        EXPECT_EQ(tensor.dims, plans[i].dims);
        EXPECT_EQ(tensor.offset % alignment, 0u);
        EXPECT_EQ(tensor.n_rows() * tensor.row_elements(), tensor.n_elements);
        std::vector<uint8_t> data(tensor.n_bytes);
        ASSERT_TRUE(file->read(tensor, 0, data));
        EXPECT_EQ(data, pattern(tensor.n_bytes, static_cast<uint8_t>(i)));
        std::vector<uint8_t> middle(tensor.n_bytes - 2);
        ASSERT_TRUE(file->read(tensor, 1, middle));
        EXPECT_TRUE(std::equal(middle.begin(), middle.end(), data.begin() + 1));
        const auto mapped = file->mapped(tensor);
        EXPECT_EQ(mapped.size(), map ? tensor.n_bytes : 0);
        EXPECT_TRUE(std::equal(mapped.begin(), mapped.end(), data.begin()));
        file->release(tensor);
      }
      EXPECT_EQ(file->find("matrix"), nullptr);
      EXPECT_EQ(file->find("zzz"), nullptr);
    }
  }
}

// The published layout, written out by hand.
TEST(GgufWriter, WritesTheseBytes) {
  const TemporaryFolder folder;
  Metadata metadata;
  metadata.set("a.b", uint32_t{7});
  metadata.set("general.alignment", uint32_t{4096});  // the writer's own alignment rules
  metadata.set("list", std::vector<std::string>{"x", ""});
  metadata.set("flag", true);
  auto writer =
      GgufWriter::create(folder / "f", metadata,
                         {{"one", TensorType::kF32, {3, 1}}, {"two", TensorType::kQ8_0, {32}}}, false, 64);
  ASSERT_TRUE(writer) << writer.error().message;
  ASSERT_TRUE(writer->write(0, 0, pattern(12, 1)));
  ASSERT_TRUE(writer->write(1, 0, pattern(34, 101)));
  ASSERT_TRUE(writer->finish());

  Bytes expected;
  expected.header(2, 4).key("general.alignment", testing::kU32).u32(64).key("a.b", testing::kU32).u32(7);
  expected.array("list", testing::kString, 2).text("x").text("").key("flag", testing::kBool).u8(1);
  expected.tensor("one", {3, 1}, 0, 0).tensor("two", {32}, 8, 64).align(64);
  for (const uint8_t byte : pattern(12, 1)) expected.u8(byte);
  expected.align(64);
  for (const uint8_t byte : pattern(34, 101)) expected.u8(byte);
  expected.align(64);
  const auto written = read_file(folder / "f", 1 << 20);
  ASSERT_TRUE(written);
  EXPECT_EQ(*written, expected.get());
  EXPECT_EQ(writer->total_bytes(), expected.size());
}

TEST(GgufWriter, NothingAppearsUnlessEveryByteWasDelivered) {
  const TemporaryFolder folder;
  const auto path = folder / "f";
  {
    auto writer = GgufWriter::create(path, Metadata(), {{"a", TensorType::kF32, {8}}}, false);
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->write(0, 0, pattern(31, 0)));
    EXPECT_EQ(error_of(writer->finish()), "gguf.incomplete");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  write_bytes(path, {1, 2, 3});
  EXPECT_EQ(error_of(GgufWriter::create(path, Metadata(), {}, false)), "file.exists");
  auto writer = GgufWriter::create(path, Metadata(), {}, true);
  ASSERT_TRUE(writer);
  EXPECT_EQ(std::filesystem::file_size(path), 3u);
  ASSERT_TRUE(writer->finish());
  EXPECT_TRUE(GgufFile::open(path));
}

TEST(GgufWriter, RefusesWhatTheReaderWould) {
  const TemporaryFolder folder;
  const auto create = [&](std::vector<TensorPlan> tensors, std::string key, uint32_t alignment) {
    Metadata metadata;
    metadata.set(std::move(key), uint8_t{1});
    return error_of(GgufWriter::create(folder / "f", metadata, std::move(tensors), false, alignment));
  };
  const TensorPlan good = {"a", TensorType::kF32, {8}};
  EXPECT_EQ(create({good}, "k", 32), "");
  EXPECT_EQ(create({good}, "", 32), "gguf.key");
  EXPECT_EQ(create({good}, "k", 0), "gguf.alignment");
  EXPECT_EQ(create({good}, "k", 48), "gguf.alignment");
  EXPECT_EQ(create({good, good}, "k", 32), "gguf.tensor_duplicate");
  EXPECT_EQ(create({{"", TensorType::kF32, {8}}}, "k", 32), "gguf.tensor_name");
  EXPECT_EQ(create({{std::string(64, 'n'), TensorType::kF32, {8}}}, "k", 32), "gguf.tensor_name");
  EXPECT_EQ(create({{"a", TensorType::kF32, {}}}, "k", 32), "gguf.tensor_n_dims");
  EXPECT_EQ(create({{"a", TensorType::kF32, {0}}}, "k", 32), "gguf.tensor_dim");
  EXPECT_EQ(create({{"a", TensorType::kQ6_K, {255}}}, "k", 32), "gguf.tensor_row");
  EXPECT_EQ(create({{"a", TensorType::kF32, {uint64_t{1} << 62}}}, "k", 32), "gguf.tensor_size");
  const TensorPlan huge = {"b", TensorType::kF32, {(uint64_t{1} << 61) + 64}};
  EXPECT_EQ(create({{"a", TensorType::kF32, {uint64_t{1} << 61}}, huge}, "k", 32), "gguf.tensor_size");
}

TEST(GgufWriter, DisjointRangesFromSeveralThreads) {
  const TemporaryFolder folder;
  constexpr size_t kPieces = 64, kPieceBytes = 4096;
  auto writer = GgufWriter::create(folder / "f", Metadata(),
                                   {{"a", TensorType::kF32, {kPieceBytes / 4, kPieces}}}, false);
  ASSERT_TRUE(writer);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < kPieces; i += 4) {
        EXPECT_TRUE(
            writer->write(0, i * kPieceBytes, std::vector<uint8_t>(kPieceBytes, static_cast<uint8_t>(i))));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  ASSERT_TRUE(writer->finish());
  const auto file = GgufFile::open(folder / "f");
  ASSERT_TRUE(file);
  std::vector<uint8_t> data(kPieces * kPieceBytes);
  ASSERT_TRUE(file->read(file->tensors()[0], 0, data));
  for (size_t i = 0; i < data.size(); ++i) ASSERT_EQ(data[i], i / kPieceBytes);
}

// A part of a split set: its keys, and one tensor filled with `fill`.
struct PartPlan {
  uint16_t number = 0, count = 3;
  int32_t n_tensors = 3;
  std::string tensor;
  uint8_t fill = 0;
};
std::string part_name(int number) { return "m-0000" + std::to_string(number + 1) + "-of-00003.gguf"; }

void write_part(const std::filesystem::path& path, const PartPlan& plan) {
  Metadata metadata;
  if (plan.number == 0) metadata.set("general.architecture", std::string("qwen2"));
  metadata.set("split.no", plan.number);
  metadata.set("split.count", plan.count);
  metadata.set("split.tensors.count", plan.n_tensors);
  auto writer = GgufWriter::create(path, metadata, {{plan.tensor, TensorType::kF32, {8}}}, true);
  ASSERT_TRUE(writer);
  ASSERT_TRUE(writer->write(0, 0, std::vector<uint8_t>(32, plan.fill)));
  ASSERT_TRUE(writer->finish());
}

class SplitSet : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 3; ++i) write(i, plan(i));
  }
  static PartPlan plan(int i) {
    return {static_cast<uint16_t>(i), 3, 3, std::string(1, static_cast<char>('a' + i)),
            static_cast<uint8_t>(i + 1)};
  }
  void write(int i, const PartPlan& part) { write_part(folder_ / part_name(i), part); }
  std::string open() { return error_of(GgufFile::open(folder_ / part_name(0))); }
  TemporaryFolder folder_;
};

TEST_F(SplitSet, OpensAsOneFile) {
  for (const bool map : {false, true}) {
    const auto file = GgufFile::open(folder_ / part_name(0), {.map = map});
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->n_parts(), 3u);
    ASSERT_EQ(file->tensors().size(), 3u);
    EXPECT_EQ(file->metadata().size(), 1u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(file->tensors()[i].part, i);
      std::vector<uint8_t> data(32);
      ASSERT_TRUE(file->read(file->tensors()[i], 0, data));
      EXPECT_EQ(data, std::vector<uint8_t>(32, static_cast<uint8_t>(i + 1)));
    }
  }
}

TEST_F(SplitSet, RefusesAnotherPartThanTheFirst) {
  EXPECT_EQ(error_of(GgufFile::open(folder_ / part_name(1))), "gguf.split_first");
}

TEST_F(SplitSet, RefusesAMissingPart) {
  std::filesystem::remove(folder_ / part_name(2));
  EXPECT_EQ(open(), "gguf.split_missing");
}

TEST_F(SplitSet, RefusesAnotherName) {
  std::filesystem::rename(folder_ / part_name(0), folder_ / "m.gguf");
  EXPECT_EQ(error_of(GgufFile::open(folder_ / "m.gguf")), "gguf.split_name");
}

TEST_F(SplitSet, RefusesPartsThatContradictEachOther) {
  auto part = plan(1);
  part.number = 2;
  write(1, part);
  EXPECT_EQ(open(), "gguf.split_mismatch");
  part = plan(1);
  part.count = 2;
  write(1, part);
  EXPECT_EQ(open(), "gguf.split_mismatch");
  part = plan(1);
  part.n_tensors = 4;
  write(1, part);
  EXPECT_EQ(open(), "gguf.split_mismatch");
  part = plan(1);
  part.tensor = "a";
  write(1, part);
  EXPECT_EQ(open(), "gguf.tensor_duplicate");
  write_bytes(folder_ / part_name(1), {'G', 'G', 'U'});
  EXPECT_EQ(open(), "gguf.truncated");
}

TEST_F(SplitSet, RefusesAWrongTotal) {
  for (int i = 0; i < 3; ++i) {
    auto part = plan(i);
    part.n_tensors = 4;
    write(i, part);
  }
  EXPECT_EQ(open(), "gguf.split_tensors");
}

TEST_F(SplitSet, RefusesKeysOfAnotherKind) {
  const auto open_with = [&](MetaValue count) {
    Metadata metadata;
    metadata.set("split.count", std::move(count));
    auto writer = GgufWriter::create(folder_ / part_name(0), metadata, {}, true);
    EXPECT_TRUE(writer && writer->finish());
    return open();
  };
  EXPECT_EQ(open_with(std::string("3")), "metadata.type");
  EXPECT_EQ(open_with(int32_t{-3}), "metadata.range");
  EXPECT_EQ(open_with(uint16_t{65535}), "metadata.range");
  EXPECT_EQ(open_with(uint16_t{3}), "metadata.missing");
  EXPECT_EQ(open_with(uint16_t{1}), "");
}

TEST(Metadata, KeepsOrderAndReplaces) {
  Metadata m("file");
  m.set("a", uint32_t{1});
  m.set("b", uint32_t{2});
  m.set("c", uint32_t{3});
  m.set("b", std::string("new"));
  EXPECT_EQ(m.size(), 3u);
  EXPECT_EQ(m.entries()[1].first, "b");
  m.erase("a");
  m.erase("absent");
  EXPECT_EQ(m.size(), 2u);
  EXPECT_EQ(m.get_string("b").value(), "new");
  EXPECT_EQ(m.get_uint("c", 0, 9).value(), 3u);
  EXPECT_FALSE(m.contains("a"));
}

TEST(Metadata, TypedAccess) {
  Metadata m = every_type();
  EXPECT_EQ(m.get_uint("u8", 0, 255).value(), 255u);
  EXPECT_EQ(m.get_uint("u64", 0, ~uint64_t{0}).value(), ~uint64_t{0});
  EXPECT_EQ(error_of(m.get_uint("u8", 0, 254)), "metadata.range");
  EXPECT_EQ(error_of(m.get_uint("i64", 0, 254)), "metadata.range");
  EXPECT_EQ(error_of(m.get_uint("bool", 0, 1)), "metadata.type");
  EXPECT_EQ(error_of(m.get_uint("f32", 0, 9)), "metadata.type");
  EXPECT_EQ(error_of(m.get_uint("u8s", 0, 9)), "metadata.type");
  EXPECT_EQ(error_of(m.get_uint("absent", 0, 9)), "metadata.missing");
  m.set("zero", int32_t{0});
  EXPECT_EQ(error_of(m.get_uint("zero", 1, 9)), "metadata.range");
  EXPECT_EQ(m.get_float("f32").value(), 1.5);
  EXPECT_EQ(m.get_float("f64").value(), 0.1);
  EXPECT_EQ(error_of(m.get_float("u32")), "metadata.type");
  m.set("nan", NAN);
  EXPECT_EQ(error_of(m.get_float("nan")), "metadata.range");
  EXPECT_TRUE(m.get_bool("bool").value());
  EXPECT_EQ(error_of(m.get_bool("u8")), "metadata.type");
  EXPECT_EQ(m.get_string("string")->size(), 7u);
  EXPECT_EQ(error_of(m.get_string("strings")), "metadata.type");
  EXPECT_EQ(m.get_strings("strings")->size(), 3u);
  EXPECT_EQ(m.get_i32s("i32s")->size(), 3u);
  EXPECT_EQ(error_of(m.get_i32s("u32s")), "metadata.type");
  EXPECT_EQ(m.get_floats("f32s")->size(), 2u);
  EXPECT_EQ(type_name(*m.find("f32s")), "array of f32");
  EXPECT_EQ(m.get_uint("f32", 0, 9).error().message, "metadata: f32: expected an integer, found f32");
}

}  // namespace
}  // namespace ruvltra
