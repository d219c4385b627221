// Fields of a request's JSON body. Absent and null leave what is there; the wrong type or a value out of
// range is the error request.field (usage), which begins with the field's name.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/fail.h"
#include "base/json.h"
#include "ruvltra/error.h"

namespace ruvltra {

// The member, or null if it is absent.
const Json& member(const Json& object, std::string_view name);

Result<void> read_number(const Json& object, std::string_view name, double low, double high, double& out);
Result<void> read_number(const Json& object, std::string_view name, double low, double high, float& out);
Result<void> read_integer(const Json& object, std::string_view name, int64_t low, int64_t high, int64_t& out);
Result<void> read_integer(const Json& object, std::string_view name, int64_t low, int64_t high, int& out);
Result<void> read_bool(const Json& object, std::string_view name, bool& out);
// At most max_bytes long.
Result<void> read_string(const Json& object, std::string_view name, std::string& out,
                         size_t max_bytes = size_t{4} << 20);

template <class... Args>
[[nodiscard]] tl::unexpected<Error> bad_field(std::string_view name, fmt::format_string<Args...> format,
                                              Args&&... args) {
  return fail(ErrorKind::kUsage, "request.field", "{}: {}", name,
              fmt::format(format, std::forward<Args>(args)...));
}
// "a string", "an object", ...: what was found instead.
std::string_view type_of(const Json& value);

// The field an error of a request is about: what stands before its colon, if that is a name; else empty.
std::string field_of(const Error& error);

}  // namespace ruvltra
