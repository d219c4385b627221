#include "store/faults/run_tools.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>

#include "base/fail.h"
#include "base/file.h"

namespace ruvltra {

void Ledger::advance_to(uint64_t k) {
  for (; k_ < k; ++k_) workload_.apply(content_, k_);
}

void Ledger::check(Store& store, uint64_t acknowledged, uint64_t begun, const std::string& where,
                   CrashReport& report) {
  const auto found = workload_.read(store);
  if (!found) {
    report.n_duplicate += found.error().id == "store.duplicate" ? 1 : 0;
    add_failure(report, fmt::format("{}: {}", where, found.error().message));
    return;
  }
  const uint64_t first = std::max(acknowledged, k_);
  advance_to(first);
  const Content must_have = content_;
  for (;;) {
    if (*found == content_) return;
    if (k_ >= begun) break;
    advance_to(k_ + 1);
  }
  // Neither the state after the last acknowledgement nor a later one.
  uint64_t n_missing = 0;
  for (const auto& [key, line] : must_have) n_missing += found->contains(key) ? 0 : 1;
  (n_missing > 0 ? report.n_lost : report.n_half) += std::max<uint64_t>(n_missing, 1);
  add_failure(report, fmt::format("{}: {}: expected the state after {} to {} changes, {} records are missing",
                                  where, workload_.tenant(), first, begun, n_missing));
}

void add_failure(CrashReport& report, std::string text) {
  constexpr size_t kShown = 20;
  if (report.failures.size() < kShown) report.failures.push_back(std::move(text));
}

Store::Options crash_options() {
  Store::Options options;
  options.backup_hours = 0;
  options.group_ms = 1;
  return options;
}

Result<std::unique_ptr<Store>> open_timed(const std::filesystem::path& folder, const StoreParts& parts,
                                          CrashReport& report) {
  const auto begin = std::chrono::steady_clock::now();
  auto store = open_store(folder, crash_options(), parts);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  report.worst_open_ms = std::max(report.worst_open_ms, took.count());
  return store;
}

Result<void> empty_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  if (!error) std::filesystem::create_directories(folder, error);
  if (error) {
    return fail(ErrorKind::kIo, "faults.folder", "{}: cannot make it: {}", folder.string(), error.message());
  }
  return {};
}

Result<std::string> read_whole(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return std::string();
  return read_text_file(file, uint64_t{1} << 32);
}

Result<void> write_whole(const std::filesystem::path& file, std::string_view bytes) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out) return fail(ErrorKind::kIo, "faults.write", "{}: cannot write", file.string());
  return {};
}

bool tell(const CrashOptions& options, CrashReport& report, uint64_t done) {
  if (!options.progress || options.progress(done, options.n)) return true;
  report.stopped = true;
  return false;
}

Result<void> kill_child(std::chrono::microseconds delay, CrashReport& report,
                        const std::function<void(int)>& child,
                        const std::function<Result<void>(int)>& listen) {
  int ends[2];
  if (pipe(ends) != 0) return fail(ErrorKind::kIo, "faults.pipe", "pipe: {}", std::strerror(errno));
  const pid_t pid = fork();
  if (pid < 0) return fail(ErrorKind::kIo, "faults.fork", "fork: {}", std::strerror(errno));
  if (pid == 0) {
    ::close(ends[0]);
    child(ends[1]);
    _exit(1);
  }
  ::close(ends[1]);
  std::thread killer([pid, delay] {
    std::this_thread::sleep_for(delay);
    kill(pid, SIGKILL);
  });
  const Result<void> heard = listen(ends[0]);
  killer.join();
  ::close(ends[0]);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (!WIFSIGNALED(status)) {
    add_failure(report,
                fmt::format("kill {}: the child ended by itself with {}", report.n, WEXITSTATUS(status)));
  }
  return heard;
}

}  // namespace ruvltra
