// Tools of kernel_check: verdicts, random input, memory that faults when a kernel steps outside it.
#pragma once

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/num.h"

namespace ruvltra::kernel_check {

// Collects failures. A check goes on after one, so that a run shows them all; only the first few are printed.
class Report {
 public:
  // `quiet` keeps the failures of planted faults off the screen.
  explicit Report(bool quiet = false) : quiet_(quiet) {}

  template <class... Args>
  void expect(bool ok, fmt::format_string<Args...> format, Args&&... args) {
    ++n_checks_;
    if (ok) return;
    if (++n_failures_ > 20 || quiet_) return;
    fmt::print("FAIL {}\n", fmt::format(format, std::forward<Args>(args)...));
  }
  size_t n_checks() const { return n_checks_; }
  size_t n_failures() const { return n_failures_; }

 private:
  bool quiet_;
  size_t n_checks_ = 0;
  size_t n_failures_ = 0;
};

// Reproducible numbers (SplitMix64; Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  float uniform() { return static_cast<float>(bits() >> 40) * 0x1p-23f - 1.0f; }  // [-1, 1)
  size_t below(size_t n) { return static_cast<size_t>(bits() % n); }

 private:
  uint64_t state_;
};

// n values that end right before an inaccessible page, so that reading or writing one too many crashes. The
// start is aligned only as its length allows; `alignment` bytes can be asked for, at the cost of slack at the
// end.
template <class T>
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t n, size_t alignment = alignof(T)) : n_(n) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t data_bytes = (n * sizeof(T) + alignment - 1) / alignment * alignment;
    const size_t mapped = (data_bytes + page - 1) / page * page;
    map_bytes_ = mapped + 2 * page;
    map_ = mmap(nullptr, map_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(map_ != MAP_FAILED);
    auto* bytes = static_cast<uint8_t*>(map_);
    CHECK(mprotect(bytes, page, PROT_NONE) == 0);
    CHECK(mprotect(bytes + page + mapped, page, PROT_NONE) == 0);
    data_ = static_cast<T*>(static_cast<void*>(bytes + page + mapped - data_bytes));
  }
  ~GuardedBuffer() { munmap(map_, map_bytes_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  T* data() { return data_; }
  size_t size() const { return n_; }
  std::span<T> span() { return {data_, n_}; }
  T& operator[](size_t i) { return data_[i]; }

 private:
  size_t n_;
  void* map_;
  size_t map_bytes_;
  T* data_;
};

inline bool same_bits(float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); }

// FNV-1a over everything the checks computed with the scalar rung: equal on every compiler and machine.
class ResultHash {
 public:
  void add(std::span<const float> values) {
    for (const float value : values) {
      hash_ = (hash_ ^ std::bit_cast<uint32_t>(value)) * 0x100000001b3;
    }
  }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325;
};

}  // namespace ruvltra::kernel_check
