// Reads a GGUF header through a small window, so that a header of many megabytes is never held twice.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/fail.h"
#include "base/file.h"
#include "gguf/layout.h"
#include "gguf/reader.h"

namespace ruvltra {

// A forward cursor over the first bytes of a file or over memory. Every read names the field it is for.
class HeaderCursor {
 public:
  // `file` and `source` outlive the cursor.
  HeaderCursor(const InputFile& file, const std::string& source);
  HeaderCursor(std::span<const uint8_t> bytes, const std::string& source);
  HeaderCursor(const HeaderCursor&) = delete;
  HeaderCursor& operator=(const HeaderCursor&) = delete;

  const std::string& source() const { return source_; }
  uint64_t position() const { return window_begin_ + view_.position(); }
  // Bytes that may still be read: up to the end of the file or the limit on headers, whichever is nearer.
  uint64_t remaining() const { return limit_ - position(); }

  // What messages name between the file and the field, such as a key.
  void set_subject(std::string subject) { subject_ = std::move(subject); }

  template <class T>
  Result<T> read(std::string_view field) {
    RETURN_IF_ERROR(require(sizeof(T), field));
    return *view_.read<T>();
  }

  // Appends `count` numbers. *Requires*: count * sizeof(T) <= remaining().
  template <class T>
  Result<void> read_numbers(uint64_t count, std::string_view field, std::vector<T>& out) {
    out.reserve(count);
    while (out.size() < count) {
      RETURN_IF_ERROR(require(sizeof(T), field));
      while (out.size() < count) {
        const auto number = view_.read<T>();
        if (!number) break;
        out.push_back(*number);
      }
    }
    return {};
  }

  // A 64-bit length and that many bytes.
  Result<std::string> read_string(std::string_view field);

  // The error for `n_bytes` that do not fit into remaining(); `id` if the file is too short for them.
  tl::unexpected<Error> out_of_bounds(std::string_view id, std::string_view field, uint64_t n_bytes) const;

  // "FILE: SUBJECT: FIELD", the beginning of every message.
  std::string place(std::string_view field) const;

 private:
  // Makes the next n_bytes (at most kWindowBytes) contiguous in view_.
  Result<void> require(uint64_t n_bytes, std::string_view field) {
    if (view_.remaining() >= n_bytes) return {};
    return refill(n_bytes, field);
  }
  Result<void> refill(uint64_t n_bytes, std::string_view field);

  static constexpr uint64_t kWindowBytes = uint64_t{256} << 10;
  const std::string& source_;
  std::string subject_;
  const InputFile* file_ = nullptr;
  uint64_t end_;    // of the file
  uint64_t limit_;  // min(end_, kGgufMaxHeaderBytes)
  std::vector<uint8_t> window_;
  uint64_t window_begin_ = 0;
  ByteView view_;
};

// Same checks and errors as parse_gguf_header.
Result<GgufHeader> read_gguf_header(const InputFile& file);

}  // namespace ruvltra
