// The kernel table: one function pointer per operation, filled once per ISA. Contracts of the groups stand in
// matmul.h, activations.h, rows.h, attention.h and vectors.h beside this file; the arithmetic is that of
// docs/kernels.md section 1, so every ISA gives the same bits.
//
// Files under kernels/<isa>/ are compiled with that ISA's flags. They use raw pointers, C headers and
// anonymous namespaces, allocate and throw nothing, and export only their fill functions
// (tools/check_symbols.py).
#pragma once

#include "kernels/activations.h"
#include "kernels/attention.h"
#include "kernels/matmul.h"
#include "kernels/rows.h"
#include "kernels/vectors.h"

namespace ruvltra {

struct KernelTable {
  const char* isa = "";  // highest rung filled in
  MatmulKernels matmul;
  ActivationKernels activations;
  RowKernels rows;
  AttentionKernels attention;
  VectorKernels vectors;
};

}  // namespace ruvltra
