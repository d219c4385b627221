// Counts what is asked for through operator new, in all threads of the test program, and refuses it on
// request.
#pragma once

#include <cstddef>

// 0 where the thread sanitizer links an operator new of its own: tests that need the counts are skipped.
#define RUVLTRA_COUNTS_ALLOCATIONS 1
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#undef RUVLTRA_COUNTS_ALLOCATIONS
#define RUVLTRA_COUNTS_ALLOCATIONS 0
#endif
#endif

namespace ruvltra::testing {

size_t n_allocations();  // since the program began

// Of the calling thread, the n-th allocation from now on throws std::bad_alloc, once; 0: none does.
void fail_allocation(size_t n);
size_t n_failed_allocations();  // of all threads, since the program began

}  // namespace ruvltra::testing
