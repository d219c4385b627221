// Invariants of our own code. Never reachable from a file or a request: those return Error.
#pragma once

namespace ruvltra {
[[noreturn]] void check_failed(const char* file, int line, const char* expression) noexcept;
}

#define CHECK(condition)                               \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::ruvltra::check_failed(__FILE__, __LINE__, #condition))

#ifdef NDEBUG
#define DCHECK(condition) static_cast<void>(sizeof(static_cast<bool>(condition)))
#else
#define DCHECK(condition) CHECK(condition)
#endif
