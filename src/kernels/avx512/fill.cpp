#include "kernels/table.h"

namespace ruvltra {

void fill_avx512(KernelTable&) {}

}  // namespace ruvltra
