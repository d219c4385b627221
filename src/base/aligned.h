// A block of zeroed memory aligned for SIMD and cache lines.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "base/fail.h"

namespace ruvltra {

// kHuge asks for pages of 2 MiB where a block is large and the system grants them: fewer address translations
// when it is streamed, more memory taken at the first touch.
enum class Pages { kNormal, kHuge };

// Movable, 64-byte aligned, zero-filled. Large blocks come straight from the kernel and are touched lazily.
template <class T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;

  [[nodiscard]] static Result<AlignedBuffer> make(size_t n, Pages pages = Pages::kNormal) {
    AlignedBuffer buffer;
    if (n == 0) return buffer;
    size_t n_bytes;
    if (__builtin_mul_overflow(n, sizeof(T), &n_bytes)) return out_of_memory(n);
    void* memory;
    if (n_bytes >= kMapThreshold) {
      memory = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) return out_of_memory(n_bytes);
      if (pages == Pages::kHuge) madvise(memory, n_bytes, MADV_HUGEPAGE);  // a hint: failure changes nothing
    } else {
      memory = std::aligned_alloc(64, (n_bytes + 63) / 64 * 64);
      if (memory == nullptr) return out_of_memory(n_bytes);
      std::memset(memory, 0, n_bytes);
    }
    buffer.data_ = std::unique_ptr<T, Release>(static_cast<T*>(memory), Release{n_bytes});
    buffer.size_ = n;
    return buffer;
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  size_t size() const { return size_; }
  std::span<T> span() { return {data(), size_}; }
  std::span<const T> span() const { return {data(), size_}; }
  T& operator[](size_t i) { return data_.get()[i]; }
  const T& operator[](size_t i) const { return data_.get()[i]; }

 private:
  static constexpr size_t kMapThreshold = size_t{1} << 20;
  struct Release {
    size_t n_bytes = 0;
    void operator()(T* memory) const {
      if (n_bytes >= kMapThreshold) {
        munmap(static_cast<void*>(memory), n_bytes);
      } else {
        std::free(memory);
      }
    }
  };
  static tl::unexpected<Error> out_of_memory(size_t n_bytes) {
    return fail(ErrorKind::kMemory, "memory.exhausted", "memory: needs {} bytes, the system gave none",
                n_bytes);
  }
  std::unique_ptr<T, Release> data_;
  size_t size_ = 0;
};

}  // namespace ruvltra
