// How fast memory can be read, measured here and now: the ceiling of token generation.
#pragma once

#include <cstdint>
#include <span>

#include "base/threads.h"

namespace ruvltra {

// Reads every block once, all threads of the pool together, and does nothing else with the bytes; bytes per
// second. *Requires*: blocks are 64-byte aligned; use far more bytes than the caches hold. Bytes beyond the
// last whole 64 of a block are left out.
double read_bandwidth(ThreadPool& pool, std::span<const std::span<const uint8_t>> blocks);

}  // namespace ruvltra
