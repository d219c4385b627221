#include "kernels/dispatch.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <array>

#include "base/fail.h"

namespace ruvltra {

// One fill function per group and ISA folder; a null entry keeps the lower rung.
void fill_scalar(KernelTable& table);
#if defined(RUVLTRA_HAVE_avx2)
void fill_avx2(KernelTable& table);
#endif
#if defined(RUVLTRA_HAVE_avx512)
void fill_avx512(KernelTable& table);
#endif
#if defined(RUVLTRA_HAVE_neon)
void fill_neon(KernelTable& table);
#endif

namespace {

struct Rung {
  const char* isa;
  bool supported;
  void (*fill)(KernelTable&);
};

#if defined(__x86_64__)
// __builtin_cpu_supports also asks XGETBV whether the operating system saves the wide registers. clang 14
// does not know "f16c" there, hence CPUID.
bool cpu_has_avx2() {
  unsigned eax, ebx, ecx = 0, edx;
  const bool has_f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  __builtin_cpu_init();
  return has_f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool cpu_has_avx512() {
  return cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

#if defined(__aarch64__)
bool cpu_has_dot_product() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#endif

struct Tables {
  std::array<KernelTable, 4> table;
  std::array<std::string_view, 4> isa;
  size_t count = 0;

  Tables() {
    add({"scalar", true, fill_scalar});
#if defined(RUVLTRA_HAVE_avx2)
    add({"avx2", cpu_has_avx2(), fill_avx2});
#endif
#if defined(RUVLTRA_HAVE_avx512)
    add({"avx512", cpu_has_avx512(), fill_avx512});
#endif
#if defined(RUVLTRA_HAVE_neon)
    add({"neon", cpu_has_dot_product(), fill_neon});
#endif
  }

  void add(const Rung& rung) {
    if (!rung.supported) return;
    if (count > 0) table[count] = table[count - 1];
    rung.fill(table[count]);
    table[count].isa = rung.isa;
    isa[count++] = rung.isa;
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

constexpr std::string_view kKnownIsas[] = {"scalar", "avx2", "avx512", "neon"};

}  // namespace

std::span<const std::string_view> supported_isas() { return {tables().isa.data(), tables().count}; }

Result<const KernelTable*> kernel_table(std::string_view isa) {
  const Tables& all = tables();
  if (isa.empty()) return &all.table[all.count - 1];
  for (size_t i = 0; i < all.count; ++i) {
    if (all.isa[i] == isa) return &all.table[i];
  }
  const std::string found = fmt::format("{}", fmt::join(supported_isas(), ", "));
  for (const std::string_view known : kKnownIsas) {
    if (known == isa) {
      return fail(ErrorKind::kUsage, "isa.unsupported", "isa: this CPU and build support {}, found {}", found,
                  quoted(isa));
    }
  }
  return fail(ErrorKind::kUsage, "isa.unknown", "isa: expected one of {}, found {}", found, quoted(isa));
}

}  // namespace ruvltra
