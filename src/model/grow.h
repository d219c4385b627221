// Function-preserving growth: a trained model embedded in a larger shape by padding with zeros. The grown
// model costs what its shape costs and answers what the source answers. The construction is in
// docs/quantize.md, "Grown models".
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/convert_source.h"

namespace ruvltra {

struct GrowOptions {
  ModelShape target;        // sizes and tied; context, rope and epsilon follow from the source
  std::string target_name;  // "medium"
  uint64_t seed = 1;        // of the weights that change nothing
};

// The grown model, all tensors F32, computed from rows of the source as they are read. Heads of the source
// that are larger than the target's take the place of several: 14 of 64 become 7 of 128, every matrix keeps
// its size. *Requires*: target sizes in the ranges of docs/model.md. Errors (usage): grow.shape,
// grow.vocabulary, grow.head_size, grow.heads, grow.tied; and grow.rms_epsilon.
Result<std::unique_ptr<WeightSource>> grow(std::unique_ptr<WeightSource> source, const GrowOptions& options);

}  // namespace ruvltra
