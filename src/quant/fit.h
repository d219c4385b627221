// Least-squares fitting of a scale, or a scale and an offset, to a short run of weights: the searches shared
// by the encoders. Idea: k-quants (llama.cpp pull request 1684) and weighted least squares over candidate
// roundings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/formats.h"

namespace ruvltra::quant {

// The largest magnitude an encoder looks at; larger weights saturate. Keeps squares and their sums finite.
constexpr float kMaxMagnitude = 1e8f;

// A block about to be encoded. Spans hold a multiple of 4 elements.
struct WeightedBlock {
  float values[kSuperBlock];  // clamped to +-kMaxMagnitude
  float costs[kSuperBlock];   // weight of each squared error, >= 0
  float largest = 0;          // max |value|

  // Costs follow from the size of the values and, if given, from `importance`.
  WeightedBlock(const float* source, size_t n, const float* importance);
};

// values ~ scale * level, level an integer in [lowest, highest], lowest < 0 < highest.
struct SymmetricRange {
  float lowest;
  float highest;
};
// The scale with the least weighted error found; 0 if all values are 0. n <= 32.
float fit_scale(const float* values, const float* costs, size_t n, SymmetricRange range);

// Writes the nearest levels for a given scale and returns the weighted squared error. A zero scale gives
// level 0.
float round_symmetric(const float* values, const float* costs, size_t n, float scale, SymmetricRange range,
                      float* levels);

// values ~ scale * level - offset, level in [0, highest], scale >= 0.
struct AffineFit {
  float scale = 0;
  float offset = 0;
};
enum class OffsetSign { kNonNegative, kAny };
AffineFit fit_affine(const float* values, const float* costs, size_t n, float highest, OffsetSign sign);

float round_affine(const float* values, const float* costs, size_t n, AffineFit fit, float highest,
                   float* levels);

}  // namespace ruvltra::quant
