#include "base/cgroup.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/ruvltra_cgroup_XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    root_ = name;
    fs::create_directories(root_ / "slice" / "scope");
  }
  void TearDown() override { fs::remove_all(root_); }
  void put(const std::string& name, const std::string& text) const { std::ofstream(root_ / name) << text; }
  CgroupLimits limits() const { return read_cgroup_limits(root_, "/slice/scope"); }

  fs::path root_;
};

TEST_F(CgroupTest, NothingSetIsUnknown) {
  EXPECT_FALSE(limits().cpus);
  EXPECT_FALSE(limits().memory_room);
  put("slice/scope/cpu.max", "max 100000\n");
  put("slice/scope/memory.max", "max\n");
  put("slice/scope/memory.current", "4096\n");
  EXPECT_FALSE(limits().cpus);
  EXPECT_FALSE(limits().memory_room);
}

TEST_F(CgroupTest, PageCacheOutOfUseIsRoom) {
  put("slice/scope/memory.max", "1000\n");
  put("slice/scope/memory.current", "900\n");
  EXPECT_EQ(limits().memory_room, 100u);
  put("slice/scope/memory.stat", "anon 300\nfile 600\ninactive_anon 7\ninactive_file 500\nactive_file 100\n");
  EXPECT_EQ(limits().memory_room, 600u);
}

TEST_F(CgroupTest, AFullGroupHasNoRoom) {
  put("slice/scope/memory.max", "1000\n");
  put("slice/scope/memory.current", "1200\n");
  EXPECT_EQ(limits().memory_room, 0u);
}

TEST_F(CgroupTest, TheTightestGroupOnTheWayUpDecides) {
  put("slice/scope/cpu.max", "400000 100000\n");
  put("slice/cpu.max", "150000 100000\n");
  put("slice/scope/memory.max", "5000\n");
  put("slice/scope/memory.current", "1000\n");
  put("memory.max", "9000\n");
  put("memory.current", "8500\n");
  EXPECT_EQ(limits().cpus, 1.5);
  EXPECT_EQ(limits().memory_room, 500u);
  EXPECT_EQ(read_cgroup_limits(root_, "/").memory_room, 500u);
  EXPECT_FALSE(read_cgroup_limits(root_, "/").cpus);
  // The host's path, seen inside a container: only the container's root is there.
  EXPECT_EQ(read_cgroup_limits(root_, "/host/unseen").memory_room, 500u);
}

}  // namespace
}  // namespace ruvltra
