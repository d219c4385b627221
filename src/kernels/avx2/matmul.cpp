#include "kernels/matmul.h"

namespace ruvltra {

void fill_avx2_matmul(MatmulKernels&) {}

}  // namespace ruvltra
