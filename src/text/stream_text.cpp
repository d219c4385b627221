#include "text/stream_text.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"

namespace ruvltra {

StreamText::StreamText(std::vector<std::string> stop) {
  for (std::string& text : stop) {
    if (text.empty() || !utf8_is_valid(text)) continue;
    std::vector<size_t> border(text.size(), 0);
    for (size_t i = 1, n = 0; i < text.size(); ++i) {
      while (n > 0 && text[i] != text[n]) n = border[n];
      if (text[i] == text[n]) ++n;
      if (i + 1 < text.size()) border[i + 1] = n;
    }
    stops_.push_back({std::move(text), std::move(border), 0});
  }
}

void StreamText::Stop::advance(char byte) {
  while (n_matched > 0 && text[n_matched] != byte) n_matched = border[n_matched];
  if (text[n_matched] == byte) ++n_matched;
}

std::string StreamText::advance(std::string_view text) {
  size_t n_read = held_.size();
  size_t n_open = held_.size();  // bytes at the end that may begin a stop string
  held_ += text;
  for (const char byte : text) {
    ++n_read;
    n_open = 0;
    size_t n_stop = 0;
    for (Stop& stop : stops_) {
      stop.advance(byte);
      n_open = std::max(n_open, stop.n_matched);
      if (stop.n_matched == stop.text.size()) n_stop = std::max(n_stop, stop.n_matched);
    }
    if (n_stop == 0) continue;
    stopped_ = true;
    held_.resize(n_read - n_stop);
    return std::exchange(held_, {});
  }
  std::string piece = held_.substr(0, held_.size() - n_open);
  held_.erase(0, piece.size());
  return piece;
}

std::string StreamText::push(std::string_view bytes) {
  if (stopped_) return {};
  incomplete_ += bytes;
  const size_t n_complete = incomplete_.size() - utf8_incomplete_tail(incomplete_);
  const std::string text = utf8_replace_invalid(std::string_view(incomplete_).substr(0, n_complete));
  incomplete_.erase(0, n_complete);
  return advance(text);
}

std::string StreamText::finish() {
  if (stopped_) return {};
  std::string piece = advance(utf8_replace_invalid(std::exchange(incomplete_, {})));
  return piece + std::exchange(held_, {});
}

}  // namespace ruvltra
