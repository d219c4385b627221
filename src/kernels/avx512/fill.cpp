#include "kernels/table.h"

namespace ruvltra {

void fill_avx512_matmul(MatmulKernels& kernels);
void fill_avx512_attention(AttentionKernels& kernels);
void fill_avx512_vectors(VectorKernels& kernels);

void fill_avx512(KernelTable& table) {
  fill_avx512_matmul(table.matmul);
  fill_avx512_attention(table.attention);
  fill_avx512_vectors(table.vectors);
}

}  // namespace ruvltra
