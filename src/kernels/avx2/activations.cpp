#include "kernels/activations.h"

namespace ruvltra {

void fill_avx2_activations(ActivationKernels&) {}

}  // namespace ruvltra
