// What an action costs: time, and memory asked for through operator new, touched or not. Replaces the global
// operators, so include it in exactly one file of a program.
#pragma once

#include <malloc.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <new>

namespace ruvltra::testing {

inline std::atomic<size_t> live_bytes{0};
inline std::atomic<size_t> peak_bytes{0};

struct Cost {
  size_t n_bytes;  // largest amount held at once
  double seconds;
};

inline Cost measure(const std::function<void()>& action) {
  peak_bytes = live_bytes.load();
  const size_t before = peak_bytes;
  const auto begin = std::chrono::steady_clock::now();
  action();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  return {peak_bytes - before, seconds.count()};
}

// What opening a hostile file may cost (docs/gguf.md).
constexpr size_t allocation_bound(size_t file_bytes) { return 4 * file_bytes + (size_t{16} << 20); }

}  // namespace ruvltra::testing

void* operator new(size_t n, const std::nothrow_t&) noexcept {
  void* memory = std::malloc(n);
  if (memory == nullptr) return nullptr;
  const size_t now = ruvltra::testing::live_bytes += malloc_usable_size(memory);
  size_t peak = ruvltra::testing::peak_bytes;
  while (now > peak && !ruvltra::testing::peak_bytes.compare_exchange_weak(peak, now)) {
  }
  return memory;
}
void* operator new(size_t n) {
  void* memory = operator new(n, std::nothrow);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept {
  if (memory != nullptr) ruvltra::testing::live_bytes -= malloc_usable_size(memory);
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
