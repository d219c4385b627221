#include "kernels/table.h"

namespace ruvltra {
void fill_avx2(KernelTable&) {}
}  // namespace ruvltra
