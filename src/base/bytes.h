// Reading bytes nobody vouches for: checked integers, checked extents, and a cursor that cannot run past its
// end. Every parser goes through this file; nothing else turns input bytes into numbers.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace ruvltra {

static_assert(std::endian::native == std::endian::little, "file formats here are little endian");

// Arithmetic on sizes taken from a file: nullopt on overflow.
[[nodiscard]] inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}
[[nodiscard]] inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}
// `alignment` is a power of two.
[[nodiscard]] inline std::optional<uint64_t> checked_align_up(uint64_t value, uint64_t alignment) {
  const auto sum = checked_add(value, alignment - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(alignment - 1);
}

// A byte range known to lie within [0, limit).
class Extent {
 public:
  [[nodiscard]] static std::optional<Extent> within(uint64_t offset, uint64_t length, uint64_t limit) {
    const auto end = checked_add(offset, length);
    if (!end || *end > limit) return std::nullopt;
    return Extent(offset, length);
  }
  uint64_t offset() const { return offset_; }
  uint64_t length() const { return length_; }
  uint64_t end() const { return offset_ + length_; }

 private:
  Extent(uint64_t offset, uint64_t length) : offset_(offset), length_(length) {}
  uint64_t offset_;
  uint64_t length_;
};

// A cursor over bytes. Each read either succeeds whole or returns nullopt and leaves the position as it was.
class ByteView {
 public:
  explicit ByteView(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  template <class T>
  [[nodiscard]] std::optional<T> read() {
    static_assert(std::is_trivially_copyable_v<T>);
    if (remaining() < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  [[nodiscard]] std::optional<std::span<const uint8_t>> take(uint64_t n) {
    if (remaining() < n) return std::nullopt;
    const auto part = bytes_.subspan(position_, n);
    position_ += n;
    return part;
  }

  [[nodiscard]] std::optional<std::string_view> take_text(uint64_t n) {
    const auto part = take(n);
    if (!part) return std::nullopt;
    return std::string_view(reinterpret_cast<const char*>(part->data()), part->size());
  }

 private:
  std::span<const uint8_t> bytes_;
  uint64_t position_ = 0;
};

}  // namespace ruvltra
