// Unicode normalisation form C of untrusted text (Unicode 15, Standard Annex 15).
#pragma once

#include <string>
#include <string_view>

namespace ruvltra {

// NFC of valid UTF-8. Text that is already normal is only scanned. O(n log n) also for long runs of combining
// marks, memory at most about 16 times the longest run that has to be rewritten.
std::string to_nfc(std::string_view text);

// Whether to_nfc(text) == text can be told by a scan: false means "perhaps not".
bool is_surely_nfc(std::string_view text);

}  // namespace ruvltra
