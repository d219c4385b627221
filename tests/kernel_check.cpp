// Checks every entry of the kernel tables on every ISA of this machine; the exit code is the verdict.
//   kernel_check             all checks, then the planted faults
//   kernel_check --planted   only the planted faults
//   kernel_check --bench [--json]   speed instead of checks
// The line "results" is a hash of all matrix products: equal for every compiler and machine.
#include <chrono>
#include <string_view>

#include "kernel_check_attention.h"
#include "kernel_check_bench.h"
#include "kernel_check_matmul.h"
#include "kernel_check_planted.h"

namespace ruvltra::kernel_check {
namespace {

struct Options {
  bool planted_only = false;
  bool bench = false;
  bool json = false;
};

bool check_all(const KernelTable& scalar) {
  bool ok = true;
  ResultHash hash;
  for (const std::string_view isa : supported_isas()) {
    const KernelTable& table = **kernel_table(isa);
    Report report;
    const auto start = std::chrono::steady_clock::now();
    check_activations(scalar, table, report);
    check_rows(scalar, table, report);
    check_attention(scalar, table, report);
    for (const FormatInfo& info : kFormats) {
      for (const bool exact : {false, true}) {
        check_matmul(scalar, table, info, exact, report, isa == "scalar" ? &hash : nullptr);
      }
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    fmt::print("{}: {} checks, {} failures, {:.1f} s\n", isa, report.n_checks(), report.n_failures(),
               elapsed.count());
    ok &= report.n_failures() == 0;
  }
  fmt::print("results {:016x}\n", hash.value());
  return ok;
}

int run(const Options& options) {
  const KernelTable& scalar = **kernel_table("scalar");
  if (options.bench) return bench(options.json);
  bool ok = options.planted_only || check_all(scalar);
  ok &= catches_planted_faults(scalar);
  ok &= catches_planted_attention_faults(scalar);
  fmt::print("{}\n", ok ? "PASS" : "FAIL");
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace ruvltra::kernel_check

int main(int argc, char** argv) {
  ruvltra::kernel_check::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "--planted") {
      options.planted_only = true;
    } else if (arg == "--bench") {
      options.bench = true;
    } else if (arg == "--json") {
      options.json = true;
    } else {
      fmt::print(stderr, "kernel_check: expected --planted, --bench or --json, found {}\n", arg);
      return 2;
    }
  }
  return ruvltra::kernel_check::run(options);
}
