// Start-up choice of how the matrix kernels walk (MatmulTuning), per shape and on this machine. No choice
// changes a bit of any result.
#pragma once

#include <span>

#include "ops/context.h"
#include "ops/panel.h"

namespace ruvltra {

// Times the values of MatmulTuningChoices on the real panels, shape by shape (format, n_rows, k), and sets in
// all matrices of a shape what was clearly fastest; where nothing was, the kernels keep their own choice.
// Some milliseconds per shape; takes memory for 256 activation rows meanwhile. *Requires*: nobody else uses
// ctx or the matrices.
Result<void> autotune(const Ctx& ctx, std::span<PackedMatrix* const> matrices);

}  // namespace ruvltra
