#include "kernels/table.h"

namespace ruvltra {

void fill_avx2_matmul(MatmulKernels& kernels);
void fill_avx2_activations(ActivationKernels& kernels);
void fill_avx2_rows(RowKernels& kernels);
void fill_avx2_attention(AttentionKernels& kernels);
void fill_avx2_vectors(VectorKernels& kernels);

void fill_avx2(KernelTable& table) {
  fill_avx2_matmul(table.matmul);
  fill_avx2_activations(table.activations);
  fill_avx2_rows(table.rows);
  fill_avx2_attention(table.attention);
  fill_avx2_vectors(table.vectors);
}

}  // namespace ruvltra
