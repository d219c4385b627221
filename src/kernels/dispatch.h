// Choosing a kernel table at run time.
#pragma once

#include <span>
#include <string_view>

#include "kernels/table.h"
#include "ruvltra/error.h"

namespace ruvltra {

// ISA names this build and this CPU (and its operating system) support, lowest first: "scalar", "avx2", ...
std::span<const std::string_view> supported_isas();

// The table for `isa`, or for the best supported one if empty. Errors: isa.unknown, isa.unsupported (usage
// errors).
Result<const KernelTable*> kernel_table(std::string_view isa = {});

}  // namespace ruvltra
