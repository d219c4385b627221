// Learned weights without a meaning, for what does not depend on it.
#pragma once

#include <cstdint>
#include <memory>

#include "ruvltra/error.h"
#include "sona/micro_lora.h"

namespace ruvltra {

// A basis as if measured on hidden states of N(0, 1).
Result<std::shared_ptr<const AdapterBasis>> random_basis(const BasisSpec& spec);
// B of N(0, 0.01).
Result<std::shared_ptr<const Adapter>> random_adapter(std::shared_ptr<const AdapterBasis> basis,
                                                      uint64_t seed);

}  // namespace ruvltra
