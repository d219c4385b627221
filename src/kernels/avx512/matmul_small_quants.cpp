#include "kernels/avx512/matmul_quants.h"

namespace ruvltra {

void fill_avx512_matmul_small_quants(MatmulKernels& kernels) {
  fill_format<Q4_0>(kernels, WeightKind::kQ4_0);
  fill_format<Q5_0>(kernels, WeightKind::kQ5_0);
  fill_format<Q5_1>(kernels, WeightKind::kQ5_1);
  fill_format<Q8_0>(kernels, WeightKind::kQ8_0);
}

}  // namespace ruvltra
