#include "kernels/matmul.h"

namespace ruvltra {

void fill_avx512_matmul_k_quants(MatmulKernels& kernels);
void fill_avx512_matmul_small_quants(MatmulKernels& kernels);
void fill_avx512_matmul_floats(MatmulKernels& kernels);

void fill_avx512_matmul(MatmulKernels& kernels) {
  fill_avx512_matmul_k_quants(kernels);
  fill_avx512_matmul_small_quants(kernels);
  fill_avx512_matmul_floats(kernels);
}

}  // namespace ruvltra
