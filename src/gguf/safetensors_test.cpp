#include "gguf/safetensors.h"

#include <gtest/gtest.h>

#include "gguf/bytes_for_test.h"

namespace ruvltra {
namespace {

using testing::Bytes;
using testing::TemporaryFolder;
using testing::write_bytes;

Bytes file_with(std::string_view json, size_t data_bytes) { return Bytes().text(json).zeros(data_bytes); }

std::string entry(std::string_view name, std::string_view dtype, std::string_view shape,
                  std::string_view offsets) {
  return "\"" + std::string(name) + R"(":{"dtype":")" + std::string(dtype) + R"(","shape":)" +
         std::string(shape) + R"(,"data_offsets":)" + std::string(offsets) + "}";
}

std::string error_of(const Bytes& file) {
  const auto header = parse_safetensors_header(file.get(), file.size(), "file");
  if (header) return "";
  EXPECT_TRUE(header.error().message.starts_with("file: ")) << header.error().message;
  EXPECT_EQ(header.error().message.find('\n'), std::string::npos);
  return std::string(header.error().id);
}

std::string open_error(const std::filesystem::path& path) {
  const auto file = SafetensorsFile::open(path);
  return file ? "" : std::string(file.error().id);
}

TEST(Safetensors, ReadsEveryKindOfTensor) {
  const TemporaryFolder folder;
  const std::string json =
      R"({"__metadata__":{"format":"pt"},)" + entry("b", "BF16", "[3,2]", "[8,20]") + "," +
      entry("a", "F32", "[2]", "[0,8]") + "," + entry("scalar", "F16", "[]", "[20,22]") + "," +
      entry("empty", "I64", "[0,7]", "[22,22]") + "," + entry("ids", "I64", "[1]", "[22,30]") + "}   ";
  Bytes bytes = Bytes().text(json);
  for (uint8_t i = 0; i < 30; ++i) bytes.u8(i);
  write_bytes(folder / "model.safetensors", bytes.get());
  for (const auto& path : {folder / "model.safetensors", folder.path()}) {
    const auto file = SafetensorsFile::open(path);
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->n_parts(), 1u);
    EXPECT_EQ(file->file_bytes(), bytes.size());
    ASSERT_EQ(file->tensors().size(), 5u);
    EXPECT_EQ(file->tensors()[0].name, "a");
    const SafetensorsTensor* b = file->find("b");
    ASSERT_NE(b, nullptr);
    EXPECT_EQ(b->type, TensorType::kBF16);
    EXPECT_EQ(b->shape, (std::vector<uint64_t>{3, 2}));
    EXPECT_EQ(b->n_elements, 6u);
    std::vector<uint8_t> data(4);
    ASSERT_TRUE(file->read(*b, 2, data));
    EXPECT_EQ(data, (std::vector<uint8_t>{10, 11, 12, 13}));
    EXPECT_EQ(file->find("scalar")->n_elements, 1u);
    EXPECT_EQ(file->find("ab"), nullptr);
    std::vector<uint8_t> ids(8);
    const auto refused = file->read(*file->find("ids"), 0, ids);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().id, "safetensors.dtype");
    EXPECT_NE(refused.error().message.find("I64"), std::string::npos);
  }
}

TEST(Safetensors, RefusesABadHeader) {
  const std::string a = entry("a", "F32", "[2]", "[0,8]");
  EXPECT_EQ(error_of(file_with("{" + a + "}", 8)), "");
  EXPECT_EQ(error_of(file_with("{}", 0)), "");
  EXPECT_EQ(error_of(Bytes()), "safetensors.truncated");
  EXPECT_EQ(error_of(Bytes().zeros(7)), "safetensors.truncated");
  EXPECT_EQ(error_of(Bytes().u64(3).raw("{}")), "safetensors.truncated");
  EXPECT_EQ(error_of(Bytes().u64(100'000'001).zeros(64)), "safetensors.header_size");
  EXPECT_EQ(error_of(Bytes().u64(~uint64_t{0}).zeros(64)), "safetensors.header_size");
  EXPECT_EQ(error_of(Bytes().u64(0)), "safetensors.json");
  const std::pair<std::string, std::string_view> headers[] = {
      {"{", "safetensors.json"},
      {"{}x", "safetensors.json"},
      {"{" + a + ",}", "safetensors.json"},
      {"{\"a\xff\":{}}", "safetensors.json"},
      {std::string(100'000, '['), "safetensors.header"},
      {std::string(100'000, '{'), "safetensors.json"},
      {"[]", "safetensors.header"},
      {"3", "safetensors.header"},
      {R"({"a":null})", "safetensors.header"},
      {R"({"a":{}})", "safetensors.header"},
      {R"({"a":[{}]})", "safetensors.header"},
      {R"({"a":{"dtype":3}})", "safetensors.header"},
      {R"({"a":{"dtype":"F32","dtype":"F32"}})", "safetensors.header"},
      {R"({"a":{"dtype":"F32","shape":[2]}})", "safetensors.header"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", "safetensors.header"},
      {R"({"a":{"shape":[2],"data_offsets":[0,8]}})", "safetensors.header"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", "safetensors.header"},
      {R"({"a":{"dtype":"F32","shape":{},"data_offsets":[0,8]}})", "safetensors.header"},
      {R"({"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}})", "safetensors.header"},
      {"{" + entry("a", "F32", "[-2]", "[0,8]") + "}", "safetensors.header"},
      {"{" + entry("a", "F32", "[2.0]", "[0,8]") + "}", "safetensors.header"},
      {"{" + entry("a", "F32", "[[2]]", "[0,8]") + "}", "safetensors.header"},
      {"{" + entry("a", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") + "}", "safetensors.header"},
      {"{" + entry("a", "F32", "[2]", "[0]") + "}", "safetensors.header"},
      {"{" + entry("a", "F32", "[2]", "[0,8,8]") + "}", "safetensors.header"},
      {"{" + entry("a", "F32", "[2]", "[-8,0]") + "}", "safetensors.header"},
      {"{" + entry("a", "F32", "[2]", "[0,18446744073709551616]") + "}", "safetensors.header"},
      {"{" + entry("a", "Q4", "[2]", "[0,8]") + "}", "safetensors.dtype"},
      {"{" + entry("", "F32", "[2]", "[0,8]") + "}", "safetensors.name"},
      {"{" + entry(std::string(2000, 'n'), "F32", "[2]", "[0,8]") + "}", "safetensors.name"},
      {"{" + a + "," + a + "}", "safetensors.duplicate"},
      {R"({"__metadata__":{"a":"1","a":"2"},)" + a + "}", "safetensors.duplicate"},
      {R"({"__metadata__":{"a":1},)" + a + "}", "safetensors.header"},
      {R"({"__metadata__":{},"__metadata__":{},)" + a + "}", "safetensors.header"},
      {R"({"__metadata__":"x"})", "safetensors.header"},
      {"{" + entry("a", "F32", "[18446744073709551615]", "[0,8]") + "}", "safetensors.shape"},
      {"{" + entry("a", "F32", "[4294967296,4294967296,1]", "[0,0]") + "}", "safetensors.shape"},
      {"{" + entry("a", "F32", "[4294967296,1073741824]", "[0,0]") + "}", "safetensors.shape"},
      {"{" + entry("a", "F32", "[2]", "[8,0]") + "}", "safetensors.offsets"},
      {"{" + entry("a", "F32", "[2]", "[0,7]") + "}", "safetensors.size"},
      {"{" + entry("a", "F32", "[2]", "[1,9]") + "}", "safetensors.hole"},
      {"{" + a + "," + entry("b", "F32", "[2]", "[4,12]") + "}", "safetensors.overlap"},
      {"{" + a + "," + entry("b", "F32", "[2]", "[16,24]") + "}", "safetensors.hole"},
      {"{" + a + "," + entry("b", "F32", "[2]", "[8,16]") + "}", "safetensors.extent"},
      {"{" + entry("a", "U8", "[18446744073709551615]", "[0,18446744073709551615]") + "}",
       "safetensors.extent"},
      {"{" + entry("a", "F32", "[1]", "[0,4]") + "}", "safetensors.trailing"},
  };
  for (const auto& [json, expected] : headers) {
    EXPECT_EQ(error_of(file_with(json, 8)), expected) << json.substr(0, 200);
  }
}

TEST(Safetensors, CutAtEveryByte) {
  const Bytes whole = file_with("{" + entry("a", "F32", "[2]", "[0,8]") + "}", 8);
  for (size_t n = 0; n < whole.size(); ++n) {
    const auto begin = whole.get().begin();
    const std::vector<uint8_t> cut(begin, begin + static_cast<std::ptrdiff_t>(n));
    EXPECT_FALSE(parse_safetensors_header(cut, n, "cut")) << n;
  }
}

class Shards : public ::testing::Test {
 protected:
  void SetUp() override {
    write_bytes(folder_ / "one.safetensors",
                file_with("{" + entry("a", "F32", "[2]", "[0,8]") + "}", 8).get());
    write_bytes(folder_ / "two.safetensors",
                file_with("{" + entry("b", "F16", "[2]", "[0,4]") + "}", 4).get());
  }
  std::string open_with(std::string_view index) {
    write_bytes(folder_ / "model.safetensors.index.json", Bytes().raw(index).get());
    return open_error(folder_.path());
  }
  TemporaryFolder folder_;
};

TEST_F(Shards, OpenAsOneFile) {
  ASSERT_EQ(
      open_with(
          R"({"metadata":{"total_size":12},"weight_map":{"b":"two.safetensors","a":"one.safetensors"}})"),
      "");
  const auto file = SafetensorsFile::open(folder_ / "model.safetensors.index.json");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->n_parts(), 2u);
  ASSERT_EQ(file->tensors().size(), 2u);
  EXPECT_EQ(file->find("a")->part, 0u);
  EXPECT_EQ(file->find("b")->part, 1u);
  std::vector<uint8_t> data(4);
  EXPECT_TRUE(file->read(*file->find("b"), 0, data));
}

TEST_F(Shards, RefuseABadIndex) {
  EXPECT_EQ(open_with("{"), "json.syntax");
  EXPECT_EQ(open_with("[]"), "safetensors.index");
  EXPECT_EQ(open_with("{}"), "safetensors.index");
  EXPECT_EQ(open_with(R"({"weight_map":[]})"), "safetensors.index");
  EXPECT_EQ(open_with(R"({"weight_map":{}})"), "safetensors.index");
  EXPECT_EQ(open_with(R"({"weight_map":{"a":1}})"), "safetensors.index_name");
  EXPECT_EQ(open_with(R"({"weight_map":{"a":"../one.safetensors"}})"), "safetensors.index_name");
  EXPECT_EQ(open_with(R"({"weight_map":{"a":"/etc/passwd"}})"), "safetensors.index_name");
  EXPECT_EQ(open_with(R"({"weight_map":{"a":""}})"), "safetensors.index_name");
  EXPECT_EQ(open_with(R"({"weight_map":{"a":"absent.safetensors"}})"), "file.not_found");
  EXPECT_EQ(open_with(R"({"weight_map":{"a":"one.safetensors","c":"one.safetensors"}})"),
            "safetensors.index_missing");
  EXPECT_EQ(open_with(R"({"weight_map":{"a":"two.safetensors","b":"one.safetensors"}})"),
            "safetensors.index_missing");
  write_bytes(
      folder_ / "two.safetensors",
      file_with("{" + entry("b", "F16", "[2]", "[0,4]") + "," + entry("c", "F16", "[2]", "[4,8]") + "}", 8)
          .get());
  EXPECT_EQ(open_with(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})"),
            "safetensors.index_extra");
  write_bytes(folder_ / "two.safetensors", file_with("{" + entry("a", "F16", "[2]", "[0,4]") + "}", 4).get());
  EXPECT_EQ(open_with(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})"),
            "safetensors.duplicate");
}

TEST_F(Shards, ThatAreNotThere) {
  EXPECT_EQ(open_error(folder_.path()), "file.not_found");
  EXPECT_EQ(open_error(folder_ / "absent"), "file.not_found");
}

}  // namespace
}  // namespace ruvltra
