// Making ids and reading the clock for records (include/ruvltra/learning.h says what an id is).
#pragma once

#include <cstdint>

#include "ruvltra/learning.h"

namespace ruvltra {

// A new id, later than every id this process has made before.  Thread safety: from any thread.
RecordId new_record_id();
int64_t now_us();  // microseconds since the epoch

}  // namespace ruvltra
