#include "kernels/table.h"

namespace ruvltra {

void fill_scalar_matmul(MatmulKernels& kernels);
void fill_scalar_activations(ActivationKernels& kernels);
void fill_scalar_rows(RowKernels& kernels);
void fill_scalar_attention(AttentionKernels& kernels);
void fill_scalar_vectors(VectorKernels& kernels);

void fill_scalar(KernelTable& table) {
  fill_scalar_matmul(table.matmul);
  fill_scalar_activations(table.activations);
  fill_scalar_rows(table.rows);
  fill_scalar_attention(table.attention);
  fill_scalar_vectors(table.vectors);
}

}  // namespace ruvltra
