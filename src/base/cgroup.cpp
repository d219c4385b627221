#include "base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

template <class T>
void keep_smaller(std::optional<T>& kept, std::optional<T> value) {
  if (value) kept = kept ? std::min(*kept, *value) : *value;
}

// cpu.max holds "quota period" in microseconds, or "max period".
std::optional<double> cpus_of(const fs::path& folder) {
  std::ifstream file(folder / "cpu.max");
  double quota = 0;
  double period = 0;
  if (!(file >> quota >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

// nullopt for "max" and for no file.
std::optional<uint64_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

uint64_t inactive_file_bytes(const fs::path& folder) {
  std::ifstream file(folder / "memory.stat");
  std::string name;
  for (uint64_t value = 0; file >> name >> value;) {
    if (name == "inactive_file") return value;
  }
  return 0;
}

std::optional<uint64_t> memory_room_of(const fs::path& folder) {
  const auto limit = number_in(folder / "memory.max");
  const auto current = number_in(folder / "memory.current");
  if (!limit || !current) return std::nullopt;
  const uint64_t held = *current - std::min(*current, inactive_file_bytes(folder));
  return *limit - std::min(*limit, held);
}

// The line "0::/path" of /proc/self/cgroup.
fs::path own_group() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::")) return line.substr(3);
  }
  return "/";
}

}  // namespace

CgroupLimits read_cgroup_limits(const fs::path& root, const fs::path& group) {
  CgroupLimits limits;
  for (fs::path name = group.relative_path();; name = name.parent_path()) {
    const fs::path folder = root / name;
    keep_smaller(limits.cpus, cpus_of(folder));
    keep_smaller(limits.memory_room, memory_room_of(folder));
    if (name.empty()) return limits;
  }
}

CgroupLimits cgroup_limits() { return read_cgroup_limits("/sys/fs/cgroup", own_group()); }

}  // namespace ruvltra
