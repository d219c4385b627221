// What the control groups of Linux (cgroup v2) leave to this process: containers set their limits there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace ruvltra {

// The tightest limits of a group and of all groups above it; nullopt where none is set or none can be read.
struct CgroupLimits {
  std::optional<double> cpus;           // processor time per time: cpu.max
  std::optional<uint64_t> memory_room;  // memory.max less what is held; page cache out of use is not held
};

// `root` is where the hierarchy is mounted, `group` this group's path in it, such as "/system.slice/a.scope".
CgroupLimits read_cgroup_limits(const std::filesystem::path& root, const std::filesystem::path& group);

// Those of this process.
CgroupLimits cgroup_limits();

}  // namespace ruvltra
