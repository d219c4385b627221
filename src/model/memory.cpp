#include "model/memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>

#include "base/fail.h"
#include "base/threads.h"
#include "kernels/panel_layout.h"
#include "model/kv_pool.h"
#include "model/qwen2.h"

namespace ruvltra {
namespace {

uint64_t packed_bytes(const TensorInfo& tensor) {
  if (tensor.dims.size() != 2) return tensor.n_bytes;
  const uint64_t n_panels = (tensor.n_rows() + kPanelRows - 1) / kPanelRows;
  return n_panels * panel_bytes(panel_block(weight_kind(tensor.type)), tensor.row_elements());
}

// First number of a file such as /proc/meminfo or a cgroup's limit; nullopt for "max" or no file.
std::optional<uint64_t> read_number(const std::string& path, std::string_view label = {}) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(label)) continue;
    const size_t digit = line.find_first_of("0123456789");
    if (digit == std::string::npos || digit > line.find_first_not_of(" \t", label.size()))
      return std::nullopt;
    return std::strtoull(line.c_str() + digit, nullptr, 10);
  }
  return std::nullopt;
}

// The folder of this process in the unified hierarchy: the line "0::/path".
std::string cgroup_folder() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::")) return "/sys/fs/cgroup" + line.substr(3) + "/";
  }
  return "/sys/fs/cgroup/";
}

}  // namespace

MemoryNeed memory_need(const ModelShape& shape, std::span<const TensorInfo> tensors, KvType kv_type,
                       size_t n_positions, size_t max_tokens) {
  MemoryNeed need;
  for (const TensorInfo& tensor : tensors) need.weights_bytes += packed_bytes(tensor);
  need.kv_bytes = KvPool::pages_for(n_positions) * uint64_t{KvPool::page_bytes(shape, kv_type)};
  Workspace::Options options;
  options.max_tokens = max_tokens;
  options.max_positions = n_positions;
  need.scratch_bytes = Workspace::bytes_needed(shape, options, physical_cores());
  return need;
}

uint64_t available_memory() {
  std::optional<uint64_t> available = read_number("/proc/meminfo", "MemAvailable:");
  if (available) *available *= 1024;
  const std::string folder = cgroup_folder();
  const auto limit = read_number(folder + "memory.max");
  const auto used = read_number(folder + "memory.current");
  if (limit && used) {
    const uint64_t room = *limit > *used ? *limit - *used : 0;
    available = available ? std::min(*available, room) : room;
  }
  return available.value_or(0);
}

Result<void> check_memory(const MemoryNeed& need, uint64_t limit, const std::string& source) {
  uint64_t have = limit;
  if (have == 0) {
    have = available_memory();
    have -= have / 20;
  }
  if (have == 0 || need.total() <= have) return {};
  const auto mib = [](uint64_t n_bytes) { return (n_bytes + (1 << 20) - 1) >> 20; };
  return fail(ErrorKind::kMemory, "memory.limit",
              "{}: needs {} MiB (weights {}, KV cache {}, scratch {}), have {} MiB", source,
              mib(need.total()), mib(need.weights_bytes), mib(need.kv_bytes), mib(need.scratch_bytes),
              have >> 20);
}

}  // namespace ruvltra
