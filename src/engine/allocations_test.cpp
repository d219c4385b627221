#include "engine/allocations_for_test.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>

namespace ruvltra::testing {
namespace {
std::atomic<size_t> count{0};
}

size_t n_allocations() { return count.load(); }

TEST(Allocations, AreCounted) {
  const size_t before = n_allocations();
  const auto number = std::make_unique<int>(1);
  EXPECT_EQ(n_allocations(), before + 1);
}

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
