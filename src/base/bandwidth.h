// How fast memory can be read, measured here and now: the ceiling of token generation.
#pragma once

#include <cstdint>
#include <span>

#include "base/aligned.h"
#include "base/threads.h"

namespace ruvltra {

// Reads every block once, all threads of the pool together, and does nothing else with the bytes; bytes per
// second. *Requires*: blocks are 64-byte aligned; use far more bytes than the caches hold. Bytes beyond the
// last whole 64 of a block are left out.
double read_bandwidth(ThreadPool& pool, std::span<const std::span<const uint8_t>> blocks);

// Streams a buffer far larger than the caches through all threads of a pool.
class BandwidthMeter {
 public:
  static constexpr size_t kBufferBytes = size_t{256} << 20;
  // Fills the buffer, so that its pages exist. Errors: memory.exhausted.
  static Result<BandwidthMeter> make(ThreadPool& pool);
  // One pass; bytes per second.
  double measure(ThreadPool& pool);

 private:
  explicit BandwidthMeter(AlignedBuffer<uint64_t> words) : words_(std::move(words)) {}
  AlignedBuffer<uint64_t> words_;
};

}  // namespace ruvltra
