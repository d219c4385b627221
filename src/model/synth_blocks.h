// Random blocks, written directly in each format.
#pragma once

#include <cstdint>
#include <span>

#include "quant/format.h"

namespace ruvltra {

// Identifies one tensor's random stream.
struct BlockStream {
  uint64_t seed = 0;
  uint32_t tensor = 0;
  float deviation = 1;  // standard deviation of the weights, 0 < deviation < 1
};

// Fills `out` with the blocks that begin at byte `begin` of a tensor: zero-mean weights of about the stream's
// standard deviation. A pure function of stream, format and position. *Requires*: begin is a multiple of 16
// blocks, the size of whole blocks.
void random_blocks(const BlockStream& stream, const Format& format, uint64_t begin, std::span<uint8_t> out);

}  // namespace ruvltra
