// One line of input at a time: edited and with history on a terminal, plain otherwise.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace ruvltra {

class LineReader {
 public:
  enum class Outcome { kLine, kInterrupted, kEnd };
  // history: where lines are kept between runs (mode 0600); empty = nowhere.
  explicit LineReader(const std::filesystem::path& history);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // Reads one line without its newline. kInterrupted: Ctrl+C; the line is dropped.
  Outcome read(const std::string& prompt, std::string& line);
  // Adds an entry to the history; newlines become spaces.
  void remember(const std::string& text);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// $XDG_DATA_HOME/ruvltra/history, or ~/.local/share/ruvltra/history; empty if neither is known.
std::filesystem::path default_history_path();

}  // namespace ruvltra
