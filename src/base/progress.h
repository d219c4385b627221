// How long work reports how far it is; the library itself never prints.
#pragma once

#include <cstdint>
#include <functional>

namespace ruvltra {

// done of total units of work (bytes unless said otherwise). Returning false asks to stop: the worker then
// returns Error{kCancelled}.
using Progress = std::function<bool(uint64_t done, uint64_t total)>;

}  // namespace ruvltra
