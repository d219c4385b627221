#include "server/tool_calls.h"

#include <algorithm>

#include "base/json.h"

namespace ruvltra {
namespace {

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>";
constexpr std::string_view kSpace = " \t\r\n";

// Bytes at the end of `text` that may be the beginning of `mark`.
size_t beginning_of(std::string_view mark, std::string_view text) {
  for (size_t n = std::min(mark.size() - 1, text.size()); n > 0; --n)
    if (text.ends_with(mark.substr(0, n))) return n;
  return 0;
}

}  // namespace

void ToolCallReader::show(std::string_view text, Piece& piece) {
  if (text.empty()) return;
  const size_t last = text.find_last_not_of(kSpace);
  if (last == std::string_view::npos) {
    space_ += text;
    return;
  }
  piece.text += space_;
  piece.text += text.substr(0, last + 1);
  space_ = text.substr(last + 1);
}

bool ToolCallReader::read_call(std::string_view inside, Piece& piece) {
  const auto parsed = parse_json(inside, "tool_call");
  if (parsed && parsed->is_object() && parsed->contains("name") && (*parsed)["name"].is_string()) {
    const auto arguments = parsed->find("arguments");
    const bool absent = arguments == parsed->end() || arguments->is_null();
    if (absent || arguments->is_object()) {
      piece.calls.push_back({(*parsed)["name"].get<std::string>(), absent ? "{}" : to_json(*arguments)});
      ++n_calls_;
      space_.clear();
      return true;
    }
  }
  return false;
}

ToolCallReader::Piece ToolCallReader::push(std::string_view text) {
  Piece piece;
  held_ += text;
  while (true) {
    const std::string_view mark = in_call_ ? kClose : kOpen;
    const size_t at = held_.find(mark);
    if (at == std::string::npos) break;
    const std::string before = held_.substr(0, at);
    held_.erase(0, at + mark.size());
    if (!in_call_) {
      show(before, piece);
    } else if (!read_call(before, piece)) {
      show(std::string(kOpen) + before + std::string(kClose), piece);
    }
    in_call_ = !in_call_;
  }
  if (!in_call_) {
    const size_t n_kept = beginning_of(kOpen, held_);
    show(std::string_view(held_).substr(0, held_.size() - n_kept), piece);
    held_.erase(0, held_.size() - n_kept);
  }
  return piece;
}

ToolCallReader::Piece ToolCallReader::finish() {
  Piece piece;
  // A call that was not closed may be whole all the same.
  if (!in_call_) {
    show(held_, piece);
  } else if (!read_call(held_, piece)) {
    show(std::string(kOpen) + held_, piece);
  }
  if (n_calls_ == 0) piece.text += space_;
  held_.clear();
  space_.clear();
  in_call_ = false;
  return piece;
}

}  // namespace ruvltra
