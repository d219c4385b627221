#include "kernels/table.h"

namespace ruvltra {

void fill_avx2_matmul(MatmulKernels& kernels);
void fill_avx2_activations(ActivationKernels& kernels);

void fill_avx2(KernelTable& table) {
  fill_avx2_matmul(table.matmul);
  fill_avx2_activations(table.activations);
}

}  // namespace ruvltra
