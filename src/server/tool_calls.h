// Function calls inside an answer, as Qwen2.5 writes them:
//   <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/types.h"

namespace ruvltra {

// Reads an answer as it comes. What is no call stays text, and so does a call that cannot be parsed: nothing
// is dropped but the white space around calls.
class ToolCallReader {
 public:
  struct Piece {
    std::string text;             // to be shown now
    std::vector<ToolCall> calls;  // complete
  };
  Piece push(std::string_view text);
  // Of an answer's end: what was held back.
  Piece finish();
  size_t n_calls() const { return n_calls_; }

 private:
  bool read_call(std::string_view inside, Piece& piece);  // false if it is none
  void show(std::string_view text, Piece& piece);

  std::string held_;
  std::string space_;  // white space that is shown only if text follows
  bool in_call_ = false;
  size_t n_calls_ = 0;
};

}  // namespace ruvltra
