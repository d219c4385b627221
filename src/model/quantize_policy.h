// Which block format each tensor of a model gets: the type mixes of docs/quantize.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/quantize_pattern.h"
#include "quant/format.h"
#include "ruvltra/error.h"

namespace ruvltra {

// A named mix of formats, as given to `quantize` and `synth`.
struct QuantScheme {
  std::string_view name;
  uint32_t file_type;  // general.file_type
  TensorType base;     // most matrices
  TensorType refined;  // attn_v and ffn_down in the layers of use_more_bits()
  TensorType output;   // the output matrix, or the embedding if it serves as such
  bool mixed = false;  // attention and embedding in F16
};

std::span<const QuantScheme> quant_schemes();
// Case-insensitive. Error: quantize.type (usage) listing the names.
Result<QuantScheme> find_quant_scheme(std::string_view name);

// Layers that matter more than the rest: the first and last eighth, and every third between.
bool use_more_bits(size_t layer, size_t n_layers);

// One --tensor-type REGEX=TYPE; the first rule that matches a matrix decides its type.
struct TypeRule {
  NamePattern pattern;
  TensorType type;
};
// Errors: quantize.pattern, quantize.type (usage).
Result<TypeRule> parse_type_rule(std::string_view text);

struct TypeChoice {
  TensorType type = TensorType::kF32;
  // The type the scheme or rule named, if row length made another one necessary; else equal to type.
  TensorType wished = TensorType::kF32;
};

struct PolicyInput {
  QuantScheme scheme;
  std::span<const TypeRule> rules;
  bool pure = false;  // the base type for every matrix
  size_t n_layers = 0;
  bool tied = false;
};
// dims[0] is the row length. Vectors are always F32.
TypeChoice choose_type(const PolicyInput& policy, std::string_view name, std::span<const uint64_t> dims);

}  // namespace ruvltra
