// `eval hnsw-file`: index files damaged on purpose. Needs no model.
#pragma once

#include <cstdint>

#include "ruvltra/error.h"

namespace ruvltra {

// Prints how many of `count` damaged files were refused and why; exit code 0 only if all were.
Result<int> eval_hnsw_file(uint64_t count, uint64_t seed, bool json);

}  // namespace ruvltra
