// kill -9.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <thread>

#include "base/fail.h"
#include "store/faults/run_tools.h"

namespace ruvltra {
namespace {

constexpr int kWriters = 3;
constexpr uint64_t kKillsPerFolder = 40;

struct Message {
  uint32_t writer;
  uint32_t what;  // kBegun or kAcknowledged
  uint64_t k;
};
constexpr uint32_t kBegun = 0, kAcknowledged = 1;

// Writes until it is killed. Each message is less than PIPE_BUF bytes: it arrives whole or not at all.
[[noreturn]] void child(const std::filesystem::path& folder, uint64_t seed,
                        const std::array<uint64_t, kWriters>& first, int pipe_end) {
  StoreParts parts;
  parts.checkpoint_pages = 60;
  parts.idle_checkpoint = std::chrono::milliseconds(5);
  auto store = open_store(folder, crash_options(), parts);
  if (!store) _exit(3);
  const auto send = [pipe_end](const Message& message) {
    if (write(pipe_end, &message, sizeof message) != static_cast<ssize_t>(sizeof message)) _exit(4);
  };
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      const CrashWorkload workload(seed, w);
      for (uint64_t k = first[static_cast<size_t>(w)];; ++k) {
        send({static_cast<uint32_t>(w), kBegun, k});
        if (!workload.apply(**store, k)) _exit(5);
        send({static_cast<uint32_t>(w), kAcknowledged, k});
        if (w == 0 && k % 61 == 60 && !(*store)->backup_now()) _exit(6);
        if (w == 1 && k % 53 == 52 && !(*store)->checkpoint()) _exit(7);
      }
    });
  }
  for (auto& writer : writers) writer.join();
  _exit(0);
}

// What the child said, until its end of the pipe is closed by its death.
class Listener {
 public:
  Listener(int pipe_end, int ledger, const std::array<uint64_t, kWriters>& first)
      : pipe_end_(pipe_end), ledger_(ledger), acknowledged(first), begun(first) {}

  Result<uint64_t> listen() {
    uint64_t n = 0;
    std::array<Message, 256> messages;
    for (;;) {
      const ssize_t got = read_some(messages.data(), sizeof messages);
      if (got < 0) return fail(ErrorKind::kIo, "faults.pipe", "read: {}", std::strerror(errno));
      if (got == 0) break;
      const size_t count = static_cast<size_t>(got) / sizeof(Message);
      for (size_t i = 0; i < count; ++i) {
        const Message& message = messages[i];
        if (message.writer >= kWriters) return fail("faults.pipe", "a message of writer {}", message.writer);
        auto& place = message.what == kBegun ? begun : acknowledged;
        place[message.writer] = message.k + 1;
        n += message.what == kAcknowledged ? 1 : 0;
      }
      if (write(ledger_, messages.data(), static_cast<size_t>(got)) != got || fdatasync(ledger_) != 0) {
        return fail(ErrorKind::kIo, "faults.ledger", "write: {}", std::strerror(errno));
      }
    }
    return n;
  }

 private:
  // Fills whole messages.
  ssize_t read_some(void* out, size_t size) {
    size_t done = 0;
    while (done == 0 || done % sizeof(Message) != 0) {
      const ssize_t got = ::read(pipe_end_, static_cast<char*>(out) + done, size - done);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return done == 0 ? got : static_cast<ssize_t>(done);
      done += static_cast<size_t>(got);
    }
    return static_cast<ssize_t>(done);
  }

  int pipe_end_, ledger_;

 public:
  std::array<uint64_t, kWriters> acknowledged, begun;
};

class KillRun {
 public:
  explicit KillRun(const CrashOptions& options) : options_(options), random_(options.seed) {
    report_.name = "kill -9";
  }

  Result<CrashReport> run() {
    while (report_.n < options_.n && !report_.stopped) {
      if (report_.n % kKillsPerFolder == 0) RETURN_IF_ERROR(begin_folder());
      RETURN_IF_ERROR(kill_once());
      ++report_.n;
      tell(options_, report_, report_.n);
    }
    if (ledger_ >= 0) ::close(ledger_);
    return std::move(report_);
  }

 private:
  Result<void> begin_folder() {
    RETURN_IF_ERROR(empty_folder(options_.folder));
    ledgers_.clear();
    for (int w = 0; w < kWriters; ++w) ledgers_.emplace_back(seed(), w);
    if (ledger_ >= 0) ::close(ledger_);
    // Beside the data directory, not in it.
    std::filesystem::path file = options_.folder;
    file += ".ledger";
    ledger_ = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (ledger_ < 0) {
      return fail(ErrorKind::kIo, "faults.ledger", "{}: {}", file.string(), std::strerror(errno));
    }
    return {};
  }
  uint64_t seed() const { return options_.seed + report_.n / kKillsPerFolder; }

  Result<void> kill_once() {
    std::array<uint64_t, kWriters> first;
    for (size_t w = 0; w < first.size(); ++w) first[w] = ledgers_[w].k();
    // From the middle of opening to some hundred commits later.
    const auto delay = std::chrono::microseconds(random_.below(random_.chance(4) ? 30'000 : 160'000));
    std::optional<Listener> listener;
    RETURN_IF_ERROR(kill_child(
        delay, report_, [&](int pipe_end) { child(options_.folder, seed(), first, pipe_end); },
        [&](int pipe_end) -> Result<void> {
          listener.emplace(pipe_end, ledger_, first);
          ASSIGN_OR_RETURN(const uint64_t n, listener->listen());
          report_.n_acknowledged += n;
          return {};
        }));
    check(*listener);
    return {};
  }

  void check(const Listener& listener) {
    const std::string where = fmt::format("kill {}", report_.n);
    auto store = open_timed(options_.folder, {}, report_);
    if (!store) {
      ++report_.n_refused;
      return add_failure(report_, where + ": " + store.error().message);
    }
    for (const DamagedRow& row : (*store)->damaged()) {
      ++report_.n_half;
      add_failure(report_, fmt::format("{}: {} row {}: {}", where, row.table, row.row, row.what));
    }
    for (size_t w = 0; w < ledgers_.size(); ++w) {
      ledgers_[w].check(**store, listener.acknowledged[w], listener.begun[w], where, report_);
    }
  }

  const CrashOptions& options_;
  FaultRandom random_;
  CrashReport report_;
  std::vector<Ledger> ledgers_;
  int ledger_ = -1;
};

}  // namespace

Result<CrashReport> run_kills(const CrashOptions& options) { return KillRun(options).run(); }

}  // namespace ruvltra
