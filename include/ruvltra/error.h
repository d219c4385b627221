// Errors as values. Bad input, files, requests and I/O return Result<T>; bugs abort through base/check.h.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace ruvltra {

// What kind of failure it is; decides the exit code or HTTP status, never the text.
enum class ErrorKind {
  kInput,        // a file or request holds something invalid
  kUsage,        // a flag, parameter or configuration value is wrong
  kIo,           // the operating system refused: open, read, write, sync
  kMemory,       // the declared limit does not allow it: "needs X, have Y"
  kUnsupported,  // valid, but not something this build can do
  kCancelled,    // stopped on request
  kBusy,         // not now: a queue is full, or the engine is shutting down
};

struct Error {
  ErrorKind kind = ErrorKind::kInput;
  // Stable dotted name, a string literal such as "gguf.tensor_overlap". Tests and clients match on it.
  std::string_view id;
  // One line for people: file, field, expected, found.
  std::string message;
};

template <class T>
using Result = tl::expected<T, Error>;

}  // namespace ruvltra
