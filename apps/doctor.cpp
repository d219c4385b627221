#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/cgroup.h"
#include "base/fail.h"
#include "base/json.h"
#include "console.h"
#include "kernels/dispatch.h"
#include "load.h"
#include "model/memory.h"
#include "store/sqlite.h"
#include "text/chat_template.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  ModelOptions model;
  int port = 8080;
  bool json = false;
  const CLI::Option* model_option = nullptr;
};

enum class Status { kOk, kWarn, kFail };
const char* status_name(Status status) {
  return status == Status::kOk ? "ok" : status == Status::kWarn ? "warn" : "fail";
}

struct Check {
  std::string id;
  Status status = Status::kOk;
  std::string detail;
  std::string remedy;  // empty if there is nothing to do
};

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The flags of /proc/cpuinfo that matter for inference.
std::string interesting_cpu_flags() {
  static constexpr const char* kFlags[] = {"avx",         "f16c",        "fma",      "avx2",
                                           "avx_vnni",    "avx512f",     "avx512bw", "avx512vl",
                                           "avx512_vnni", "avx512_bf16", "amx_int8"};
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line);
    std::string found;
    for (std::string word; words >> word;) {
      for (const char* flag : kFlags) {
        if (word == flag) found += (found.empty() ? "" : " ") + word;
      }
    }
    return found;
  }
  return "";
}

Check check_cpu(const Options& options) {
  const auto table = kernel_table(options.model.isa);
  if (!table) return {"cpu", Status::kFail, table.error().message, "leave --isa and RUVLTRA_ISA out"};
  const std::string detail = fmt::format("uses {} of {}; flags: {}", (*table)->isa,
                                         fmt::join(supported_isas(), ", "), interesting_cpu_flags());
  if (std::string_view((*table)->isa) != "scalar") return {"cpu", Status::kOk, detail, ""};
  return {"cpu", Status::kWarn, detail, "scalar kernels are many times slower; use a CPU with AVX2 and FMA"};
}

Check check_threads(const Options& options) {
  const int cores = physical_cores();
  const int threads = resolve_threads(options.model.threads);
  const std::string detail = fmt::format("{} threads on {} physical cores", threads, cores);
  if (threads > cores) {
    return {"threads", Status::kWarn, detail,
            fmt::format("more threads than cores slow generation down; use -t {}", cores)};
  }
  if (const auto quota = cgroup_limits().cpus; quota && std::ceil(*quota) < threads) {
    return {"threads", Status::kWarn, fmt::format("{}, but the container allows {:.1f}", detail, *quota),
            fmt::format("use -t {} or raise the container's CPU limit", std::ceil(*quota))};
  }
  return {"threads", Status::kOk, detail, ""};
}

Check check_huge_pages() {
  const std::string line = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  const size_t begin = line.find('[');
  const size_t end = line.find(']');
  if (begin == std::string::npos || end == std::string::npos) {
    return {"huge_pages", Status::kWarn, "the kernel offers no transparent huge pages",
            "a kernel with them reads weights faster"};
  }
  const std::string mode = line.substr(begin + 1, end - begin - 1);
  if (mode == "always") return {"huge_pages", Status::kOk, "transparent huge pages: always", ""};
  return {"huge_pages", Status::kWarn, "transparent huge pages: " + mode,
          "echo always > /sys/kernel/mm/transparent_hugepage/enabled"};
}

Check check_numa() {
  const std::string nodes = first_line("/sys/devices/system/node/online");
  if (nodes.empty() || nodes == "0") return {"numa", Status::kOk, "one memory node", ""};
  return {"numa", Status::kWarn, "memory nodes: " + nodes,
          "numactl --interleave=all ruvltra ..., or bind to one node"};
}

// The library that keeps what is learned (docs/storage.md).
Check check_sqlite() {
  const SqliteFacts facts = sqlite_facts();
  if (!facts.has_wal_reset_fault) return {"sqlite", Status::kOk, "SQLite " + facts.version, ""};
  return {
      "sqlite", Status::kOk,
      fmt::format("SQLite {}; versions up to 3.51.2 can lose commits when two connections write or "
                  "checkpoint at once: the store has exactly one, with an exclusive lock, and cannot meet it",
                  facts.version),
      ""};
}

// Whether `ruvltra serve` could listen on this machine's own address.
Check check_port(int port) {
  const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return {"port", Status::kWarn, "no IPv4 sockets here", "ruvltra serve --host ::1"};
  const int yes = 1;  // as the server does: connections of one that has ended do not count
  setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool bound = bind(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  const int why = errno;
  close(probe);
  if (bound) return {"port", Status::kOk, fmt::format("{} is free for ruvltra serve", port), ""};
  return {"port", Status::kWarn, fmt::format("{}: {}", port, std::strerror(why)),
          why == EADDRINUSE ? "a server runs already, or use ruvltra serve --port with another one"
                            : "use ruvltra serve --port with one above 1023"};
}

// Everything about the file that would stop a run, in the order a run would meet it.
Result<std::string> inspect_model(const Options& options, const GgufFile& file) {
  ASSIGN_OR_RETURN(const ModelShape shape, ModelShape::from_file(file));
  RETURN_IF_ERROR(check_tensors(shape, file.path().string(), file.tensors()));
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::load(file.metadata()));
  RETURN_IF_ERROR(ChatTemplate::of_model(file.metadata(), tokenizer));
  std::string detail = fmt::format("{}: {} parameters, {}", file.path().string(),
                                   format_count(shape.n_parameters()), quantisation_name(file));
  if (has_random_weights(file.metadata())) detail += ", random weights";
  if (options.model_option->count() == 0) return detail;
  ProgressBar bar("verifying", ProgressBar::Unit::kBytes, !options.model.no_progress);
  ASSIGN_OR_RETURN(const std::string sha256, verify_file(file, bar.callback()));
  return detail + ", SHA-256 " + sha256;
}

Check check_memory_of(const Options& options, const GgufFile& file) {
  const auto shape = ModelShape::from_file(file);
  if (!shape) return {"memory", Status::kFail, shape.error().message, "see the model check"};
  const auto n_context = resolve_context(options.model.ctx, *shape, file.path().string());
  if (!n_context) return {"memory", Status::kFail, n_context.error().message, "use a smaller --ctx"};
  const MemoryNeed need = memory_need(*shape, file.tensors(), KvType::kF16, *n_context, kPrefillRows);
  const auto available = available_memory();
  const std::string detail =
      fmt::format("needs {} for a context of {}, {} available", format_bytes(need.total()), *n_context,
                  available ? format_bytes(*available) : "an unknown amount");
  if (const auto fits = check_memory(need, 0, file.path().string()); !fits) {
    return {"memory", Status::kFail, detail, "use a smaller --ctx or a smaller quantisation, or free memory"};
  }
  return {"memory", Status::kOk, detail, ""};
}

std::vector<Check> model_checks(const Options& options) {
  const auto failed = [](const Error& error) {
    const char* remedy =
        error.id.starts_with("file.") || error.id == "model.not_found"
            ? "give an existing file with -m"
            : "fetch or convert the file again; ruvltra show FILE --verify repeats this check";
    return Check{"model", Status::kFail, error.message, remedy};
  };
  const auto path = resolve_model(options.model.model);
  if (!path) return {failed(path.error())};
  const auto file = GgufFile::open(*path);
  if (!file) return {failed(file.error())};
  const auto detail = inspect_model(options, *file);
  const Check model = detail ? Check{"model", Status::kOk, *detail, ""} : failed(detail.error());
  return {model, check_memory_of(options, *file)};
}

Result<int> doctor(const Options& options) {
  std::vector<Check> checks = {check_cpu(options), check_threads(options), check_numa(),
                               check_huge_pages(), check_sqlite(),         check_port(options.port)};
  for (Check& check : model_checks(options)) checks.push_back(std::move(check));
  bool ok = true;
  for (const Check& check : checks) ok = ok && check.status != Status::kFail;
  if (stop_requested()) return fail(ErrorKind::kCancelled, "doctor.cancelled", "stopped");

  if (options.json) {
    Json document;
    document["ok"] = ok;
    document["checks"] = Json::array();
    for (const Check& check : checks) {
      document["checks"].push_back({{"id", check.id},
                                    {"status", status_name(check.status)},
                                    {"detail", check.detail},
                                    {"remedy", check.remedy.empty() ? Json(nullptr) : Json(check.remedy)}});
    }
    print("{}\n", to_json(document));
  } else {
    for (const Check& check : checks) {
      print("{:<5} {:<11} {}\n", status_name(check.status), check.id, check.detail);
      if (!check.remedy.empty()) print("{:<17} -> {}\n", "", check.remedy);
    }
  }
  return ok ? kExitOk : kExitFailure;
}

}  // namespace

void add_doctor_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb("doctor", "Check this machine and a model file, with remedies",
                                   "  ruvltra doctor\n"
                                   "  ruvltra doctor -m model.gguf --ctx 32768\n"
                                   "  ruvltra doctor --json\n",
                                   [options] { return doctor(*options); });
  add_model_path_option(app, options->model.model);
  options->model_option = app.get_option("--model");
  app.add_option("-c,--ctx", options->model.ctx,
                 "Context the memory is checked for; 0 = min(8192, what the file says)")
      ->check(in_range(0, 1 << 20))
      ->type_name("N");
  add_threads_option(app, options->model.threads);
  add_isa_option(app, options->model.isa);
  app.add_option("--port", options->port, "Port that ruvltra serve would listen on")
      ->check(in_range(1, 65535))
      ->type_name("N");
  app.add_flag("--json", options->json, "One JSON document");
  add_progress_option(app, options->model.no_progress);
}

}  // namespace ruvltra
