#include "line_reader.h"

#include <fcntl.h>
#include <histedit.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <iostream>

#include "base/utf8.h"
#include "console.h"

namespace ruvltra {
namespace {

constexpr int kHistoryLines = 1000;

// False when a stop is requested before there is input.
bool wait_for_input(int descriptor) {
  pollfd events[2] = {{descriptor, POLLIN, 0}, {stop_event(), POLLIN, 0}};
  while (poll(events, 2, -1) < 0 && errno == EINTR) {
  }
  return !stop_requested();
}

// Replaces the library's own reader, which would wait on after a signal: Ctrl+C must end the line.
int read_wide_character(EditLine* editor, wchar_t* out) {
  FILE* input = nullptr;
  el_get(editor, EL_GETFP, 0, &input);
  std::string bytes;
  for (;;) {
    char byte = 0;
    if (!wait_for_input(fileno(input))) return -1;
    const ssize_t n = ::read(fileno(input), &byte, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return static_cast<int>(n);
    bytes += byte;
    if (utf8_sequence_length(bytes) == bytes.size()) {
      size_t position = 0;
      *out = static_cast<wchar_t>(utf8_decode(bytes, position));
      return 1;
    }
    // A byte that cannot become a code point is dropped.
    if (utf8_incomplete_tail(bytes) != bytes.size()) bytes.clear();
  }
}

}  // namespace

struct LineReader::Impl {
  EditLine* editor = nullptr;
  History* history = nullptr;
  std::filesystem::path history_path;
  std::string prompt;
};

LineReader::LineReader(const std::filesystem::path& history) : impl_(std::make_unique<Impl>()) {
  if (isatty(STDIN_FILENO) == 0) return;
  // The editor works in wide characters of the locale; any UTF-8 locale does.
  const char* locale = std::setlocale(LC_CTYPE, "");
  if (locale == nullptr || std::string(locale).find("UTF-8") == std::string::npos)
    std::setlocale(LC_CTYPE, "C.UTF-8");
  FILE* screen = stdout_is_tty() ? stdout : stderr;
  impl_->editor = el_init("ruvltra", stdin, screen, stderr);
  if (impl_->editor == nullptr) return;
  impl_->history_path = history;
  el_set(impl_->editor, EL_CLIENTDATA, impl_.get());
  el_set(
      impl_->editor, EL_PROMPT, +[](EditLine* editor) {
        Impl* self = nullptr;
        el_get(editor, EL_CLIENTDATA, &self);
        return self->prompt.data();
      });
  el_set(impl_->editor, EL_EDITOR, "emacs");
  el_set(impl_->editor, EL_GETCFN, read_wide_character);
  impl_->history = history_init();
  HistEvent event;
  ::history(impl_->history, &event, H_SETSIZE, kHistoryLines);
  ::history(impl_->history, &event, H_SETUNIQUE, 1);
  if (!history.empty()) ::history(impl_->history, &event, H_LOAD, history.c_str());
  el_set(impl_->editor, EL_HIST, ::history, impl_->history);
}

LineReader::~LineReader() {
  if (impl_->editor != nullptr) el_end(impl_->editor);
  if (impl_->history == nullptr) return;
  if (!impl_->history_path.empty()) {
    std::error_code ignored;
    const auto folder = impl_->history_path.parent_path();
    if (!std::filesystem::exists(folder, ignored)) {
      std::filesystem::create_directories(folder, ignored);
      ::chmod(folder.c_str(), 0700);
    }
    // Created with the right mode before the library writes it.
    const int descriptor = ::open(impl_->history_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor >= 0) {
      ::fchmod(descriptor, 0600);
      ::close(descriptor);
      HistEvent event;
      ::history(impl_->history, &event, H_SAVE, impl_->history_path.c_str());
    }
  }
  history_end(impl_->history);
}

LineReader::Outcome LineReader::read(const std::string& prompt, std::string& line) {
  if (impl_->editor == nullptr) {
    if (std::getline(std::cin, line)) return Outcome::kLine;
    return stop_requested() ? Outcome::kInterrupted : Outcome::kEnd;
  }
  impl_->prompt = prompt;
  // Before the prompt shows: a key pressed at once must find the editor, not the terminal's own line mode.
  el_set(impl_->editor, EL_PREP_TERM, 1);
  int n = 0;
  const char* text = el_gets(impl_->editor, &n);
  if (text == nullptr || n <= 0) {
    write_out("\n");
    return stop_requested() ? Outcome::kInterrupted : Outcome::kEnd;
  }
  line.assign(text, static_cast<size_t>(n));
  if (!line.empty() && line.back() == '\n') line.pop_back();
  return Outcome::kLine;
}

void LineReader::remember(const std::string& text) {
  if (impl_->history == nullptr || text.empty()) return;
  std::string entry = text;
  std::replace(entry.begin(), entry.end(), '\n', ' ');
  HistEvent event;
  ::history(impl_->history, &event, H_ENTER, entry.c_str());
}

std::filesystem::path default_history_path() {
  const char* data = std::getenv("XDG_DATA_HOME");
  if (data != nullptr && *data != '\0') return std::filesystem::path(data) / "ruvltra" / "history";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') return {};
  return std::filesystem::path(home) / ".local/share/ruvltra/history";
}

}  // namespace ruvltra
