// The terminal: results on stdout, everything else on stderr, Ctrl+C, and progress. No verb writes by other
// means.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/progress.h"
#include "ruvltra/error.h"

namespace ruvltra {

// Exit codes of the program; there are no others.
enum Exit { kExitOk = 0, kExitFailure = 1, kExitUsage = 2, kExitInterrupted = 130 };
int exit_code(const Error& error);

// --- stdout

// Writes text and flushes it. False if the reader has gone away (| head): stop producing, then return
// kExitOk.
bool write_out(std::string_view text);
template <class... Args>
bool print(fmt::format_string<Args...> format, Args&&... args) {
  return write_out(fmt::format(format, std::forward<Args>(args)...));
}
// False once a write to stdout failed for another reason than a closed pipe, such as a full disk.
bool output_complete();
bool stdout_is_tty();
// Text in another colour, where stdout is a terminal and NO_COLOR (no-color.org) is not set; else as it is.
std::string in_colour(std::string_view text);

// --- stdin

// Everything up to its end. Errors: stdin.read; kCancelled after Ctrl+C.
Result<std::string> read_input();

// --- stderr

void print_error(const Error& error);          // ruvltra: error: ... (one line)
void print_warning(std::string_view message);  // ruvltra: warning: ... (one line)
void print_note(std::string_view text);        // one plain line
bool stderr_is_tty();

// --- Ctrl+C

// The first SIGINT, SIGTERM or SIGHUP sets a flag that long work polls; a second one ends the program with
// 130 at once.
void install_signal_handlers();
bool stop_requested();
void clear_stop_request();     // a dialogue goes on after Ctrl+C ...
bool termination_requested();  // ... but not after SIGTERM or SIGHUP
// Readable once a stop was requested: for poll(), so that no signal slips in between a check and a wait.
int stop_event();

// --- progress

// One redrawn line with percent, rate and remaining time when stderr is a tty and progress is wanted;
// otherwise one line every 10 seconds. Pass progress.callback() as a base/log.h Progress: it also asks to
// stop after Ctrl+C.
class ProgressBar {
 public:
  enum class Unit { kBytes, kTokens, kItems };
  ProgressBar(std::string title, Unit unit, bool wanted);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  bool update(uint64_t done, uint64_t total);  // false = stop requested
  // A full line (a per-tensor report, say) that does not collide with the bar.
  void line(std::string_view text);
  Progress callback() {
    return [this](uint64_t done, uint64_t total) { return update(done, total); };
  }

 private:
  using Clock = std::chrono::steady_clock;
  void erase();
  const std::string title_;
  const Unit unit_;
  const bool redraw_;
  const bool wanted_;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point shown_ = begin_;
  bool drawn_ = false;
};

// "1.9 GB", "512 KB"; decimal units.
std::string format_bytes(uint64_t n_bytes);
// "4.2 s", "3 min 05 s"
std::string format_seconds(double seconds);
// "3.09 B", "8.4 M"
std::string format_count(uint64_t n);

}  // namespace ruvltra
