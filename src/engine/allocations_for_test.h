// Counts what is asked for through operator new, in all threads of the test program.
#pragma once

#include <cstddef>

namespace ruvltra::testing {

size_t n_allocations();  // since the program began

}  // namespace ruvltra::testing
