#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace ruvltra {

void check_failed(const char* file, int line, const char* expression) noexcept {
  std::fprintf(stderr, "ruvltra: bug: %s:%d: CHECK(%s) failed\n", file, line, expression);
  std::abort();
}

}  // namespace ruvltra
