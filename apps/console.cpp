#include "console.h"

#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/fail.h"

namespace ruvltra {
namespace {

// A signal handler can reach nothing but globals.
std::atomic<bool> stop_{false};
std::atomic<bool> terminate_{false};
int stop_event_ = -1;
static_assert(std::atomic<bool>::is_always_lock_free);

bool output_closed_ = false;
bool output_failed_ = false;

void on_stop_signal(int signal) {
  if (signal != SIGINT) terminate_.store(true);
  if (stop_.exchange(true)) _exit(kExitInterrupted);
  const int saved = errno;
  eventfd_write(stop_event_, 1);
  errno = saved;
}

// Writes all of `text`; errno tells why not.
bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(descriptor, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::string one_line(std::string_view text) {
  std::string line(text);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return line;
}

void write_stderr(std::string_view prefix, std::string_view text) {
  write_all(STDERR_FILENO, fmt::format("{}{}\n", prefix, text));
}

int terminal_columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

int exit_code(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kUsage:
      return kExitUsage;
    case ErrorKind::kCancelled:
      return kExitInterrupted;
    default:
      return kExitFailure;
  }
}

bool write_out(std::string_view text) {
  if (output_closed_ || output_failed_) return false;
  if (write_all(STDOUT_FILENO, text)) return true;
  if (errno == EPIPE) {
    output_closed_ = true;
  } else {
    output_failed_ = true;
    print_error(
        Error{ErrorKind::kIo, "stdout.write", fmt::format("stdout: write failed: {}", std::strerror(errno))});
  }
  return false;
}

Result<std::string> read_input() {
  std::string text;
  std::vector<char> piece(size_t{1} << 16);
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (stop_requested()) return fail(ErrorKind::kCancelled, "stdin.cancelled", "stopped");
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(ErrorKind::kIo, "stdin.read", "stdin: read failed: {}", std::strerror(errno));
    if (n == 0) return text;
    text.append(piece.data(), static_cast<size_t>(n));
  }
}

bool output_complete() { return !output_failed_; }
std::string in_colour(std::string_view text) {
  const char* no_color = std::getenv("NO_COLOR");
  if (!stdout_is_tty() || (no_color != nullptr && *no_color != 0)) return std::string(text);
  return fmt::format("\x1b[36m{}\x1b[0m", text);
}

bool stdout_is_tty() { return isatty(STDOUT_FILENO) != 0; }
bool stderr_is_tty() { return isatty(STDERR_FILENO) != 0; }

void print_error(const Error& error) { write_stderr("ruvltra: error: ", one_line(error.message)); }
void print_warning(std::string_view message) { write_stderr("ruvltra: warning: ", one_line(message)); }
void print_note(std::string_view text) { write_stderr("", text); }

void install_signal_handlers() {
  stop_event_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  // A closed pipe shows up as EPIPE, so that work which also writes files can finish them.
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

bool stop_requested() { return stop_.load(std::memory_order_relaxed); }
void clear_stop_request() {
  eventfd_t ignored;
  eventfd_read(stop_event_, &ignored);
  stop_.store(false);
}
int stop_event() { return stop_event_; }
bool termination_requested() { return terminate_.load(); }

ProgressBar::ProgressBar(std::string title, Unit unit, bool wanted)
    : title_(std::move(title)), unit_(unit), redraw_(stderr_is_tty()), wanted_(wanted) {}

ProgressBar::~ProgressBar() { erase(); }

void ProgressBar::erase() {
  if (drawn_) write_all(STDERR_FILENO, "\r\x1b[K");
  drawn_ = false;
}

void ProgressBar::line(std::string_view text) {
  erase();
  print_note(text);
}

bool ProgressBar::update(uint64_t done, uint64_t total) {
  const auto now = Clock::now();
  const auto interval = redraw_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10'000);
  if (!wanted_ || now - shown_ < interval || total == 0) return !stop_requested();
  shown_ = now;

  const double elapsed = std::chrono::duration<double>(now - begin_).count();
  const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const double rate = static_cast<double>(done) / elapsed;
  std::string text = fmt::format("{} {:3.0f} %", title_, 100 * share);
  switch (unit_) {
    case Unit::kBytes:
      text += fmt::format("  {}/s", format_bytes(static_cast<uint64_t>(rate)));
      break;
    case Unit::kTokens:
      text += fmt::format("  {:.1f} tok/s", rate);
      break;
    case Unit::kItems:
      text += fmt::format("  {}/{}", done, total);
      break;
  }
  if (share > 0.01) text += fmt::format("  {} left", format_seconds(elapsed / share - elapsed));
  if (redraw_) {
    constexpr int kBarColumns = 24;
    const int filled = static_cast<int>(share * kBarColumns);
    if (static_cast<int>(text.size()) + kBarColumns + 4 < terminal_columns()) {
      text = fmt::format("[{:#>{}}{:.>{}}] ", "", filled, "", kBarColumns - filled) + text;
    }
    write_all(STDERR_FILENO, "\r" + text + "\x1b[K");
    drawn_ = true;
  } else {
    print_note(text);
  }
  return !stop_requested();
}

std::string format_bytes(uint64_t n_bytes) {
  static constexpr const char* kUnits[] = {"B", "KB", "MB", "GB", "TB"};
  double value = static_cast<double>(n_bytes);
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", n_bytes)
                   : fmt::format("{:.{}f} {}", value,
                                 value < 10    ? 2
                                 : value < 100 ? 1
                                               : 0,
                                 kUnits[unit]);
}

std::string format_seconds(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<uint64_t>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

std::string format_count(uint64_t n) {
  const double value = static_cast<double>(n);
  if (n >= 1'000'000'000) return fmt::format("{:.2f} B", value / 1e9);
  if (n >= 1'000'000) return fmt::format("{:.2f} M", value / 1e6);
  if (n >= 1'000) return fmt::format("{:.1f} K", value / 1e3);
  return fmt::format("{}", n);
}

}  // namespace ruvltra
