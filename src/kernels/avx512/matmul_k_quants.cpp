#include "kernels/avx512/matmul_quants.h"

namespace ruvltra {

void fill_avx512_matmul_k_quants(MatmulKernels& kernels) {
  fill_format<Q4_K>(kernels, WeightKind::kQ4_K);
  fill_format<Q5_K>(kernels, WeightKind::kQ5_K);
  fill_format<Q6_K>(kernels, WeightKind::kQ6_K);
}

}  // namespace ruvltra
