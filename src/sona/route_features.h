// What the router's learned parts see of a task.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ruvltra/learning.h"
#include "sona/lexical.h"

namespace ruvltra {

inline constexpr size_t kSurfaceDim = 8;
// embedding, hashed words, surface, 1
inline constexpr size_t kRouteDim = kEmbeddingDim + kLexicalDim + kSurfaceDim + 1;

// The values that are not 0, by ascending index below kRouteDim.
struct RouteFeatures {
  std::vector<uint16_t> index;
  std::vector<float> value;
};

// Log length, code, stack trace, path, question, share of letters outside ASCII, share of digits, context
// given; each 0..0.5, so that none outweighs the words.
std::array<float, kSurfaceDim> surface_values(std::string_view task, bool has_context);

// `embedding`: (kEmbeddingDim), or empty where there is none. `lexical`: (kLexicalDim).
RouteFeatures route_features(std::span<const float> embedding, std::span<const float> lexical,
                             std::span<const float, kSurfaceDim> surface);

}  // namespace ruvltra
