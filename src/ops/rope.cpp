#include "ops/rope.h"

#include <cmath>

#include "base/check.h"

namespace ruvltra {

Result<RopeTable> RopeTable::make(size_t max_tokens, size_t d_head, double theta) {
  RopeTable table;
  table.n_pairs_ = d_head / 2;
  for (size_t i = 0; i < table.n_pairs_; ++i) {
    table.frequency_.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(d_head)));
  }
  ASSIGN_OR_RETURN(table.cos_, AlignedBuffer<float>::make(max_tokens * table.n_pairs_));
  ASSIGN_OR_RETURN(table.sin_, AlignedBuffer<float>::make(max_tokens * table.n_pairs_));
  return table;
}

void RopeTable::set_positions(std::span<const int32_t> positions) {
  CHECK(positions.size() * n_pairs_ <= cos_.size());
  for (size_t t = 0; t < positions.size(); ++t) {
    for (size_t i = 0; i < n_pairs_; ++i) {
      const double angle = positions[t] * frequency_[i];
      cos_[t * n_pairs_ + i] = static_cast<float>(std::cos(angle));
      sin_[t * n_pairs_ + i] = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace ruvltra
