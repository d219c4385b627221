// Checks every entry of the kernel tables on every ISA of this machine; the exit code is the verdict.
//   kernel_check             all checks, then the planted faults
//   kernel_check --planted   only the planted faults
//   kernel_check --formats Q4_K,Q8_0   only the matrix products of these formats
//   kernel_check --bench [--json] [--isa NAME] [--formats LIST] [--tuning FROM,COLUMNS,CHUNK,AHEAD]
//                            speed instead of checks; --tuning takes the fields of MatmulTuning, 0 = default
//   kernel_check --bench-attention   speed of attention
// The line "results" is a hash of all matrix products: equal for every compiler and machine.
#include <algorithm>
#include <chrono>
#include <string_view>
#include <vector>

#include "kernel_check_attention.h"
#include "kernel_check_attention_bench.h"
#include "kernel_check_bench.h"
#include "kernel_check_matmul.h"
#include "kernel_check_planted.h"
#include "kernel_check_vectors.h"

namespace ruvltra::kernel_check {
namespace {

struct Options {
  std::vector<std::string_view> formats;  // empty: everything
  bool planted_only = false;
  bool bench = false;
  bool bench_attention = false;
  bool json = false;
  std::string_view isa;  // empty: the best
  MatmulTuning tuning;
};

std::vector<std::string_view> split(std::string_view list) {
  std::vector<std::string_view> parts;
  for (size_t end = list.find(','); end != std::string_view::npos; end = list.find(',')) {
    parts.push_back(list.substr(0, end));
    list.remove_prefix(end + 1);
  }
  parts.push_back(list);
  return parts;
}

bool is_format(std::string_view name) {
  return std::any_of(kFormats.begin(), kFormats.end(),
                     [&](const FormatInfo& info) { return format_of(info.type).name == name; });
}

bool check_all(const KernelTable& scalar, std::span<const std::string_view> formats) {
  const bool everything = formats.empty();
  bool ok = true;
  ResultHash hash;
  for (const std::string_view isa : supported_isas()) {
    const KernelTable& table = **kernel_table(isa);
    Report report;
    const auto start = std::chrono::steady_clock::now();
    if (everything) {
      check_activations(scalar, table, report);
      check_rows(scalar, table, report);
      check_attention(scalar, table, report);
      check_vectors(scalar, table, report);
    }
    for (const FormatInfo& info : kFormats) {
      if (!everything && std::ranges::count(formats, format_of(info.type).name) == 0) continue;
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
  if (options.bench) return bench(options.json, options.isa, options.formats, options.tuning);
  if (options.bench_attention) return bench_attention();
  bool ok = options.planted_only || check_all(scalar, options.formats);
  if (options.formats.empty()) {
    ok &= catches_planted_faults(scalar);
    ok &= catches_planted_attention_faults(scalar);
    ok &= catches_planted_vector_faults(scalar);
  }
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
    } else if (arg == "--formats" && i + 1 < argc) {
      options.formats = ruvltra::kernel_check::split(argv[++i]);
      for (const std::string_view name : options.formats) {
        if (ruvltra::kernel_check::is_format(name)) continue;
        fmt::print(stderr, "kernel_check: expected names of formats such as Q4_K,Q8_0, found {}\n", name);
        return 2;
      }
    } else if (arg == "--bench") {
      options.bench = true;
    } else if (arg == "--bench-attention") {
      options.bench_attention = true;
    } else if (arg == "--isa" && i + 1 < argc) {
      options.isa = argv[++i];
    } else if (arg == "--tuning" && i + 1 < argc) {
      ruvltra::MatmulTuning& tuning = options.tuning;
      if (std::sscanf(argv[++i], "%u,%u,%u,%u", &tuning.unpacked_from, &tuning.column_block, &tuning.chunk,
                      &tuning.prefetch_bytes) != 4) {
        fmt::print(stderr, "kernel_check: expected four numbers such as 0,96,1024,0, found {}\n", argv[i]);
        return 2;
      }
    } else if (arg == "--json") {
      options.json = true;
    } else {
      fmt::print(
          stderr,
          "kernel_check: expected --planted, --formats LIST, --bench, --bench-attention, --json, --isa NAME "
          "or --tuning FROM,COLUMNS,CHUNK,AHEAD, found {}\n",
          arg);
      return 2;
    }
  }
  return ruvltra::kernel_check::run(options);
}
