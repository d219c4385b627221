#include "model/memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "base/cgroup.h"
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

// The line "MemAvailable:   123 kB" of /proc/meminfo.
std::optional<uint64_t> system_available() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string label;
    uint64_t kib = 0;
    if (words >> label >> kib && label == "MemAvailable:") return kib * 1024;
  }
  return std::nullopt;
}

}  // namespace

MemoryNeed memory_need(const ModelShape& shape, std::span<const TensorInfo> tensors, KvType kv_type,
                       size_t n_positions, size_t max_tokens) {
  MemoryNeed need;
  for (const TensorInfo& tensor : tensors) need.weights_bytes += packed_bytes(tensor);
  need.kv_bytes = KvPool::pages_for(n_positions) * uint64_t{KvPool::page_bytes(shape, kv_type)};
  Workspace::Options options;
  options.max_tokens = std::min(max_tokens, n_positions);
  options.max_positions = n_positions;
  need.scratch_bytes = Workspace::bytes_needed(shape, options, physical_cores());
  return need;
}

std::optional<uint64_t> available_memory() {
  const auto system = system_available();
  const auto room = cgroup_limits().memory_room;
  return system && room ? std::min(*system, *room) : system ? system : room;
}

Result<void> check_memory(const MemoryNeed& need, uint64_t limit, const std::string& source) {
  uint64_t have = limit;
  if (limit == 0) {
    const auto available = available_memory();
    if (!available) return {};
    have = *available - *available / 20;
  }
  if (need.total() <= have) return {};
  const auto mib = [](uint64_t n_bytes) { return (n_bytes + (1 << 20) - 1) >> 20; };
  return fail(ErrorKind::kMemory, "memory.limit",
              "{}: needs {} MiB (weights {}, KV cache {}, scratch {}), have {} MiB", source,
              mib(need.total()), mib(need.weights_bytes), mib(need.kv_bytes), mib(need.scratch_bytes),
              have >> 20);
}

}  // namespace ruvltra
