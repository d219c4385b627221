#include "kernels/table.h"

namespace ruvltra {

void fill_neon_matmul(MatmulKernels& kernels);

void fill_neon(KernelTable& table) { fill_neon_matmul(table.matmul); }

}  // namespace ruvltra
