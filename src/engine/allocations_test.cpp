#include "engine/allocations_for_test.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace ruvltra::testing {
namespace {
std::atomic<size_t> count{0}, n_failed{0};
thread_local size_t n_until_failure = 0;
}  // namespace

size_t n_allocations() { return count.load(); }
void fail_allocation(size_t n) { n_until_failure = n; }
size_t n_failed_allocations() { return n_failed.load(); }

}  // namespace ruvltra::testing

#if RUVLTRA_COUNTS_ALLOCATIONS
void* operator new(size_t n, const std::nothrow_t&) noexcept {
  using namespace ruvltra::testing;
  ++count;
  if (n_until_failure > 0 && --n_until_failure == 0) {
    ++n_failed;
    return nullptr;
  }
  return std::malloc(n);
}
void* operator new(size_t n) {
  void* memory = operator new(n, std::nothrow);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
#endif
