// Making and passing on errors.
#pragma once

#include <fmt/format.h>

#include "ruvltra/error.h"

namespace ruvltra {

// return fail("gguf.bad_magic", "{}: magic: expected \"GGUF\", found \"{}\"", path, found);
template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail(std::string_view id, fmt::format_string<Args...> format,
                                         Args&&... args) {
  return tl::unexpected<Error>(
      Error{ErrorKind::kInput, id, fmt::format(format, std::forward<Args>(args)...)});
}

template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail(ErrorKind kind, std::string_view id,
                                         fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{kind, id, fmt::format(format, std::forward<Args>(args)...)});
}

// Text from a file made safe for one line of a message: control bytes and invalid UTF-8 escaped, long text
// cut.
std::string quoted(std::string_view text, size_t max_bytes = 64);

}  // namespace ruvltra

#define RUVLTRA_CONCAT_INNER(a, b) a##b
#define RUVLTRA_CONCAT(a, b) RUVLTRA_CONCAT_INNER(a, b)

// ASSIGN_OR_RETURN(auto file, File::open(path));
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_IMPL(RUVLTRA_CONCAT(result_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_IMPL(result, declaration, expression)                     \
  auto result = (expression);                                                      \
  if (!result) return tl::unexpected<::ruvltra::Error>(std::move(result).error()); \
  declaration = std::move(*result)

#define RETURN_IF_ERROR(expression)                                                    \
  do {                                                                                 \
    auto status_ = (expression);                                                       \
    if (!status_) return tl::unexpected<::ruvltra::Error>(std::move(status_).error()); \
  } while (false)
