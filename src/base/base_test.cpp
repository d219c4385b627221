#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <limits>

#include "base/aligned.h"
#include "base/bytes.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/utf8.h"

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

class TemporaryFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/ruvltra_base_XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};
using FileTest = TemporaryFolder;

TEST(Checked, CatchesOverflow) {
  const uint64_t max = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(checked_add(1, 2), 3u);
  EXPECT_FALSE(checked_add(max, 1));
  EXPECT_FALSE(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32));
  EXPECT_EQ(checked_align_up(33, 32), 64u);
  EXPECT_FALSE(checked_align_up(max - 3, 32));
  EXPECT_TRUE(Extent::within(90, 10, 100));
  EXPECT_FALSE(Extent::within(90, 11, 100));
  EXPECT_FALSE(Extent::within(max, 2, 100));
}

TEST(ByteViewTest, NeverReadsPastTheEnd) {
  const uint8_t bytes[] = {1, 0, 0, 0, 2};
  ByteView view(bytes);
  EXPECT_EQ(view.read<uint32_t>(), 1u);
  EXPECT_FALSE(view.read<uint16_t>());
  EXPECT_EQ(view.position(), 4u);
  EXPECT_FALSE(view.take(std::numeric_limits<uint64_t>::max()));
  EXPECT_EQ(view.read<uint8_t>(), 2);
  EXPECT_EQ(view.remaining(), 0u);
}

TEST(Utf8, AcceptsExactlyTheScalarValues) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    std::string text;
    utf8_append(text, c);
    const bool surrogate = c >= 0xD800 && c < 0xE000;
    ASSERT_EQ(utf8_sequence_length(text), surrogate ? 0 : text.size()) << static_cast<uint32_t>(c);
    if (surrogate) continue;
    size_t position = 0;
    ASSERT_EQ(utf8_decode(text, position), c);
    ASSERT_EQ(position, text.size());
    for (size_t n = 1; n < text.size(); ++n) ASSERT_EQ(utf8_incomplete_tail(text.substr(0, n)), n);
    ASSERT_EQ(utf8_incomplete_tail(text), 0u);
  }
  for (const std::string bad :
       {"\xC0\x80", "\xE0\x80\x80", "\xF0\x80\x80\x80", "\xF4\x90\x80\x80", "\x80", "\xFF"}) {
    EXPECT_FALSE(utf8_is_valid(bad));
    EXPECT_EQ(utf8_incomplete_tail(bad), 0u);
  }
}

TEST(Utf8, ReplacesMaximalInvalidParts) {
  EXPECT_EQ(utf8_replace_invalid("a\xE2\x82z"), "a\xEF\xBF\xBDz");
  EXPECT_EQ(utf8_replace_invalid("\xFF\xFE"), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(utf8_replace_invalid("grün"), "grün");
}

TEST(Quoted, EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(quoted("a\x1b[2J\n"), "\"a\\x1b[2J\\x0a\"");
  EXPECT_EQ(quoted("\xff"), "\"\\xff\"");
  EXPECT_EQ(quoted("abcdef", 3), "\"abc...\"");
}

TEST(Sha256Test, MatchesPublishedVector) {
  const std::string text = "abc";
  EXPECT_EQ(to_hex(sha256({reinterpret_cast<const uint8_t*>(text.data()), text.size()})),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(AlignedBufferTest, IsAlignedZeroedAndMovable) {
  for (const size_t n : {size_t{1}, size_t{1000}, size_t{1} << 20}) {
    auto buffer = AlignedBuffer<float>::make(n);
    ASSERT_TRUE(buffer);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    for (size_t i = 0; i < n; ++i) ASSERT_EQ((*buffer)[i], 0.0f);
    (*buffer)[n - 1] = 1;
    AlignedBuffer<float> moved = std::move(*buffer);
    EXPECT_EQ(moved[n - 1], 1.0f);
  }
  EXPECT_EQ(AlignedBuffer<float>::make(std::numeric_limits<size_t>::max() / 2).error().id,
            "memory.exhausted");
  EXPECT_EQ(AlignedBuffer<float>::make(size_t{1} << 58).error().id, "memory.exhausted");
}

TEST_F(FileTest, RefusesWhatIsNotARegularFile) {
  EXPECT_EQ(InputFile::open(folder_).error().id, "file.not_regular");
  EXPECT_EQ(InputFile::open("/dev/zero").error().id, "file.not_regular");
  EXPECT_EQ(InputFile::open(folder_ / "none").error().id, "file.not_found");
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(InputFile::open(folder_ / "pipe").error().id, "file.not_regular");
  fs::create_symlink(folder_ / "loop", folder_ / "loop");
  EXPECT_EQ(InputFile::open(folder_ / "loop").error().id, "file.not_found");
}

TEST_F(FileTest, ReportsAFileThatShrank) {
  const fs::path path = folder_ / "data";
  std::ofstream(path) << "0123456789";
  const auto file = InputFile::open(path);
  ASSERT_TRUE(file);
  fs::resize_file(path, 4);
  std::vector<uint8_t> bytes(10);
  EXPECT_EQ(file->read_at(0, bytes).error().id, "file.truncated");
}

TEST_F(FileTest, OutputAppearsOnlyWhenCommitted) {
  const fs::path path = folder_ / "out";
  const uint8_t bytes[] = {'h', 'i'};
  {
    auto file = OutputFile::create(path, false);
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->write(bytes));
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_TRUE(fs::is_empty(folder_));
  {
    auto file = OutputFile::create(path, false);
    ASSERT_TRUE(file->write(bytes));
    ASSERT_TRUE(file->write_at(0, {bytes + 1, 1}));
    ASSERT_TRUE(file->commit());
  }
  EXPECT_EQ(read_text_file(path, 100).value(), "ii");
  EXPECT_EQ(read_text_file(path, 1).error().id, "file.too_large");
  EXPECT_EQ(OutputFile::create(path, false).error().id, "file.exists");
  EXPECT_TRUE(OutputFile::create(path, true));
}

TEST_F(FileTest, OutputIsNeverADirectoryPipeOrDevice) {
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  fs::create_symlink(folder_ / "none", folder_ / "dangling");
  fs::create_symlink("/dev/null", folder_ / "link");
  for (const bool overwrite : {false, true}) {
    for (const fs::path& path :
         {folder_, folder_ / "pipe", fs::path("/dev/null"), folder_ / "link", folder_ / "dangling"}) {
      const auto file = OutputFile::create(path, overwrite);
      ASSERT_FALSE(file) << path;
      EXPECT_EQ(file.error().id, "file.not_regular") << path;
    }
  }
  EXPECT_TRUE(fs::is_fifo(folder_ / "pipe"));
}

TEST_F(FileTest, OutputFollowsALink) {
  fs::create_directory(folder_ / "far");
  std::ofstream(folder_ / "far" / "data") << "old";
  fs::create_symlink(folder_ / "far" / "data", folder_ / "link");
  EXPECT_EQ(OutputFile::create(folder_ / "link", false).error().id, "file.exists");
  const uint8_t bytes[] = {'n', 'e', 'w'};
  auto file = OutputFile::create(folder_ / "link", true);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->write(bytes));
  ASSERT_TRUE(file->commit());
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_text_file(folder_ / "far" / "data", 100).value(), "new");
}

TEST_F(FileTest, OutputLeavesFilesThatBearItsTemporaryName) {
  const fs::path path = folder_ / "out";
  fs::path taken = path;
  taken += ".tmp" + std::to_string(getpid()) + ".0";
  std::ofstream(folder_ / "victim") << "kept";
  fs::create_symlink(folder_ / "victim", taken);
  const uint8_t one[] = {'1'};
  const uint8_t two[] = {'2'};
  auto first = OutputFile::create(path, true);
  auto second = OutputFile::create(path, true);
  ASSERT_TRUE(first && second);
  ASSERT_TRUE(first->write(one));
  ASSERT_TRUE(second->write(two));
  ASSERT_TRUE(first->commit());
  EXPECT_EQ(read_text_file(path, 100).value(), "1");
  ASSERT_TRUE(second->commit());
  EXPECT_EQ(read_text_file(path, 100).value(), "2");
  EXPECT_EQ(read_text_file(folder_ / "victim", 100).value(), "kept");
}

}  // namespace
}  // namespace ruvltra
