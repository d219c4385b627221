// Rotary positions (Su et al., RoFormer, 2021), rotating pairs (i, i + d_head / 2).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned.h"

namespace ruvltra {

// cos and sin of position * theta^(-2 i / d_head), computed in double once per step and shared by layers and
// heads.
class RopeTable {
 public:
  static Result<RopeTable> make(size_t max_tokens, size_t d_head, double theta);
  void set_positions(std::span<const int32_t> positions);
  const float* cos(size_t t) const { return cos_.data() + t * n_pairs_; }  // (d_head / 2)
  const float* sin(size_t t) const { return sin_.data() + t * n_pairs_; }

 private:
  size_t n_pairs_ = 0;
  std::vector<double> frequency_;   // (d_head / 2)
  AlignedBuffer<float> cos_, sin_;  // (max_tokens, d_head / 2)
};

}  // namespace ruvltra
