// RVC1 containers: the layout against one put together by hand, and damage of every kind.
#include "base/container.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include "base/file.h"

namespace ruvltra {
namespace {

constexpr uint32_t kWeights = section_tag("WGTS");
constexpr uint32_t kIds = section_tag("IDS ");
constexpr uint32_t kNote = section_tag("NOTE") | kOptionalSection;
constexpr uint32_t kKnown[] = {kWeights, kIds};

Sha256Digest model_digest() {
  Sha256Digest digest;
  for (size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<uint8_t>(i + 1);
  return digest;
}

ContainerExpect expect() {
  ContainerExpect expected;
  expected.kind = ContainerKind::kAdapter;
  expected.known_tags = kKnown;
  return expected;
}

// A file made field by field, as the format page says; the tests bend one field at a time and hash anew.
struct HandMade {
  struct Entry {
    uint32_t tag;
    uint32_t type;
    std::vector<uint8_t> content;
    std::optional<uint64_t> offset = {}, length = {};
  };
  std::string magic = "RVC1";
  uint16_t kind = 2, version = 1;
  uint32_t flags = 0;
  std::optional<uint32_t> n_sections;
  std::optional<uint64_t> file_len;
  uint64_t reserved = 0;
  uint8_t padding = 0;
  std::vector<Entry> entries;

  template <class T>
  static void append(std::vector<uint8_t>& out, T value) {
    for (size_t i = 0; i < sizeof(T); ++i)
      out.push_back(static_cast<uint8_t>(static_cast<uint64_t>(value) >> 8 * i));
  }

  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> table, body;
    const uint64_t body_at = 64 + 56 * entries.size() + 32;
    for (const Entry& entry : entries) {
      while ((body_at + body.size()) % 64 != 0) body.push_back(padding);
      append(table, entry.tag);
      append(table, entry.type);
      append(table, entry.offset.value_or(body_at + body.size()));
      append(table, entry.length.value_or(entry.content.size()));
      for (const uint8_t byte : sha256(entry.content)) table.push_back(byte);
      body.insert(body.end(), entry.content.begin(), entry.content.end());
    }
    std::vector<uint8_t> out(magic.begin(), magic.end());
    append(out, kind);
    append(out, version);
    append(out, flags);
    append(out, n_sections.value_or(static_cast<uint32_t>(entries.size())));
    append(out, file_len.value_or(body_at + body.size()));
    for (const uint8_t byte : model_digest()) out.push_back(byte);
    append(out, reserved);
    out.insert(out.end(), table.begin(), table.end());
    for (const uint8_t byte : sha256(out)) out.push_back(byte);
    out.insert(out.end(), body.begin(), body.end());
    return out;
  }
};

// 1.0f, -2.0f and three ids.
HandMade valid() {
  HandMade file;
  file.entries.push_back({kWeights, 3, {0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0}});
  file.entries.push_back(
      {kIds, 6, {7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0x80}});
  return file;
}

std::string error_of(const std::vector<uint8_t>& bytes, const ContainerExpect& expected = expect()) {
  const auto container = Container::parse(bytes, "test.rvc", expected);
  return container ? "none" : std::string(container.error().id);
}

TEST(Container, WriterMakesTheLayoutOfTheFormatPage) {
  const std::vector<float> weights = {1.0f, -2.0f};
  const std::vector<uint64_t> ids = {7, 0x201, 0x8000'0000'0000'0009u};
  ContainerWriter writer({ContainerKind::kAdapter, 1, 0, model_digest()});
  writer.add(kWeights, weights);
  writer.add(kIds, ids);
  EXPECT_EQ(writer.bytes(), valid().bytes());

  const auto bytes = writer.bytes();
  const auto container = Container::parse(bytes, "test.rvc", expect());
  ASSERT_TRUE(container) << container.error().message;
  EXPECT_EQ(container->header().model, model_digest());
  EXPECT_EQ(container->read<float>(kWeights, 2).value(), weights);
  EXPECT_EQ(container->read<uint64_t>(kIds, 3).value(), ids);
  EXPECT_EQ(container->count<uint64_t>(kIds).value(), 3u);
  EXPECT_EQ(container->read<float>(kWeights, 3).error().id, "container.count");
  EXPECT_EQ(container->read<uint32_t>(kIds, 6).error().id, "container.dtype");
  EXPECT_EQ(container->read<float>(section_tag("NONE"), 1).error().id, "container.missing_section");
}

TEST(Container, EmptyAndOddSections) {
  ContainerWriter writer({ContainerKind::kAdapter, 1, 0, {}});
  const std::vector<uint8_t> odd = {1, 2, 3};
  writer.add(kWeights, std::span<const float>());
  writer.add(kIds, std::span<const uint8_t>(odd));
  const auto bytes = writer.bytes();
  const auto container = Container::parse(bytes, "test.rvc", expect());
  ASSERT_TRUE(container) << container.error().message;
  EXPECT_EQ(container->read<uint8_t>(kIds, 3).value(), odd);
  EXPECT_TRUE(container->read<float>(kWeights, 0).value().empty());
  const auto none = ContainerWriter({ContainerKind::kAdapter, 1, 0, {}}).bytes();
  EXPECT_EQ(none.size(), 96u);
  EXPECT_EQ(error_of(none), "none");
}

TEST(Container, EveryChangedByteIsSeen) {
  const auto file = valid().bytes();
  for (size_t i = 0; i < file.size(); ++i) {
    for (const uint8_t change : {0x01, 0x80, 0xff}) {
      auto damaged = file;
      damaged[i] ^= change;
      // The model's digest is guarded by the header's hash, not by the caller's expectation.
      EXPECT_NE(error_of(damaged), "none") << "byte " << i;
    }
  }
  for (size_t length = 0; length < file.size(); ++length) {
    EXPECT_NE(error_of({file.begin(), file.begin() + static_cast<std::ptrdiff_t>(length)}), "none") << length;
  }
  auto longer = file;
  longer.push_back(0);
  EXPECT_EQ(error_of(longer), "container.length");
}

TEST(Container, FieldsWithValidHashes) {
  ASSERT_EQ(error_of(valid().bytes()), "none");
  const auto with = [](auto&& change) {
    HandMade file = valid();
    change(file);
    return error_of(file.bytes());
  };
  EXPECT_EQ(with([](HandMade& f) { f.magic = "RVC2"; }), "container.magic");
  EXPECT_EQ(with([](HandMade& f) { f.kind = 5; }), "container.kind");
  EXPECT_EQ(with([](HandMade& f) { f.version = 0; }), "container.version");
  EXPECT_EQ(with([](HandMade& f) { f.version = 2; }), "container.version");
  EXPECT_EQ(with([](HandMade& f) { f.flags = 4; }), "container.flags");
  EXPECT_EQ(with([](HandMade& f) { f.reserved = 1; }), "container.reserved");
  EXPECT_EQ(with([](HandMade& f) { f.file_len = 1; }), "container.length");
  EXPECT_EQ(with([](HandMade& f) { f.n_sections = 65; }), "container.sections");
  EXPECT_EQ(with([](HandMade& f) { f.n_sections = 60; }), "container.truncated");
  EXPECT_EQ(with([](HandMade& f) { f.padding = 1; }), "container.padding");
  EXPECT_EQ(with([](HandMade& f) { f.entries[0].type = 7; }), "container.dtype");
  EXPECT_EQ(with([](HandMade& f) { f.entries[0].length = 7; }), "container.dtype");
  EXPECT_EQ(with([](HandMade& f) { f.entries[0].length = 4; }), "container.section_hash");
  // Overlap with the section before, with the header, a gap, and ends beyond the file and beyond 2^64.
  EXPECT_EQ(with([](HandMade& f) { f.entries[1].offset = 256; }), "container.layout");
  EXPECT_EQ(with([](HandMade& f) { f.entries[0].offset = 0; }), "container.layout");
  EXPECT_EQ(with([](HandMade& f) { f.entries[0].offset = ~uint64_t{63}; }), "container.layout");
  EXPECT_EQ(with([](HandMade& f) { f.entries[1].length = ~uint64_t{7}; }), "container.layout");
  EXPECT_EQ(with([](HandMade& f) { f.entries[1].length = 1 << 20; }), "container.layout");
  EXPECT_EQ(with([](HandMade& f) { f.entries[1].tag = kWeights; }), "container.duplicate_section");
  EXPECT_EQ(with([](HandMade& f) { f.entries[1].tag = section_tag("WHAT"); }), "container.unknown_section");
  EXPECT_EQ(with([](HandMade& f) { f.entries[1].tag = kNote; }), "none");
}

TEST(Container, OnlyTheModelAskedFor) {
  auto expected = expect();
  expected.model = model_digest();
  EXPECT_EQ(error_of(valid().bytes(), expected), "none");
  (*expected.model)[31] ^= 1;
  EXPECT_EQ(error_of(valid().bytes(), expected), "container.model_mismatch");
}

TEST(Container, WeightsAreFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    const std::vector<float> weights = {0.5f, bad};
    ContainerWriter writer({ContainerKind::kAdapter, 1, 0, {}});
    writer.add(kWeights, weights);
    const auto bytes = writer.bytes();
    const auto container = Container::parse(bytes, "test.rvc", expect());
    ASSERT_TRUE(container) << container.error().message;
    EXPECT_EQ(container->read<float>(kWeights, 2).error().id, "container.not_finite");
    float out[2];
    EXPECT_EQ(container->read_into(kWeights, std::span<float>(out)).error().id, "container.not_finite");
  }
}

TEST(Container, FileIsReplacedWhole) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / fmt::format("rvc1_{}", getpid());
  std::filesystem::create_directories(folder);
  const auto path = folder / "adapter.rvc";
  const std::vector<float> first = {1.0f}, second = {2.0f, 3.0f};
  for (const auto* weights : {&first, &second}) {
    ContainerWriter writer({ContainerKind::kAdapter, 1, 0, model_digest()});
    writer.add(kWeights, *weights);
    ASSERT_TRUE(writer.write_file(path));
    EXPECT_EQ(read_file(path, 1 << 20).value(), writer.bytes());
  }
  size_t n_files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++n_files;
  EXPECT_EQ(n_files, 1u);
  ContainerWriter writer({ContainerKind::kAdapter, 1, 0, {}});
  EXPECT_EQ(writer.write_file(folder / "missing" / "adapter.rvc").error().id, "file.create");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace ruvltra
