# cmake -DINPUT=FILE -DOUTPUT=FILE.cpp -DNAME=IDENTIFIER -P embed_text.cmake
#
# Writes a source file that defines std::string_view ruvltra::embedded::NAME(), the bytes of INPUT. Every byte becomes
# a \xNN escape: any content survives, and compilers read string literals far faster than lists of numbers.
foreach(argument INPUT OUTPUT NAME)
  if(NOT ${argument})
    message(FATAL_ERROR "embed_text.cmake: -D${argument}= is missing")
  endif()
endforeach()
if(NOT NAME MATCHES "^[a-z][a-z0-9_]*$")
  message(FATAL_ERROR "embed_text.cmake: NAME: expected a snake_case identifier, found \"${NAME}\"")
endif()

file(READ "${INPUT}" digits HEX)
if(digits STREQUAL "")
  message(FATAL_ERROR "embed_text.cmake: ${INPUT}: expected text, found an empty file")
endif()
string(REPEAT "[0-9a-f]" 64 line)
string(REGEX REPLACE "(${line})" "\\1\"\n    \"" literals "${digits}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" literals "${literals}")
get_filename_component(file_name "${INPUT}" NAME)
file(WRITE "${OUTPUT}" "// ${file_name} as bytes; written by cmake/embed_text.cmake.
#include <string_view>

namespace ruvltra::embedded {
namespace {
constexpr char kBytes[] =
    \"${literals}\";
}  // namespace

std::string_view ${NAME}();
std::string_view ${NAME}() { return {kBytes, sizeof kBytes - 1}; }
}  // namespace ruvltra::embedded
")
