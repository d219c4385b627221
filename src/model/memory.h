// What a model will need in memory, known before a weight is read.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "model/config.h"

namespace ruvltra {

struct MemoryNeed {
  uint64_t weights_bytes = 0;
  uint64_t kv_bytes = 0;
  uint64_t scratch_bytes = 0;
  uint64_t total() const { return weights_bytes + kv_bytes + scratch_bytes; }
};

// Panels and vectors of these tensors; a KV pool for n_positions; a workspace for steps of max_tokens rows,
// or of n_positions if these are fewer.
MemoryNeed memory_need(const ModelShape& shape, std::span<const TensorInfo> tensors, KvType kv_type,
                       size_t n_positions, size_t max_tokens);

// Memory this process may still take: the smaller of MemAvailable and the room its control groups leave.
// nullopt if the system does not say.
std::optional<uint64_t> available_memory();

// limit = 0 means what is available, minus 5 %; no limit where that is unknown. Error: memory.limit, "needs
// X, have Y" with the parts of X.
Result<void> check_memory(const MemoryNeed& need, uint64_t limit, const std::string& source);

}  // namespace ruvltra
