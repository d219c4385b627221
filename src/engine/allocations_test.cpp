#include "engine/allocations_for_test.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace ruvltra::testing {
namespace {
std::atomic<size_t> count{0};
}

size_t n_allocations() { return count.load(); }

}  // namespace ruvltra::testing

void* operator new(size_t n, const std::nothrow_t&) noexcept {
  ++ruvltra::testing::count;
  return std::malloc(n);
}
void* operator new(size_t n) {
  void* memory = operator new(n, std::nothrow);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
