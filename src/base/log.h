// The library never prints: it hands lines to whoever opened it.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace ruvltra {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
using LogSink = std::function<void(LogLevel, std::string_view)>;

// done of total units of work (bytes unless said otherwise). Returning false asks to stop: the worker then
// returns Error{kCancelled}.
using Progress = std::function<bool(uint64_t done, uint64_t total)>;

}  // namespace ruvltra
