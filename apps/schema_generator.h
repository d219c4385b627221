// Random JSON schemas that between them use every keyword of docs/structured-output.md.
#pragma once

#include <cstdint>

#include "base/json.h"

namespace ruvltra {

// The same number, the same schema. Its values are small, so that most of them are complete within some
// hundred tokens.
Json random_schema(uint64_t number);

}  // namespace ruvltra
