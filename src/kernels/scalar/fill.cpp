#include "kernels/table.h"

namespace ruvltra {

void fill_scalar_matmul(MatmulKernels& kernels);
void fill_scalar_activations(ActivationKernels& kernels);

void fill_scalar(KernelTable& table) {
  fill_scalar_matmul(table.matmul);
  fill_scalar_activations(table.activations);
}

}  // namespace ruvltra
