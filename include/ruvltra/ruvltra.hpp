// All of the C++ API (docs/api.md).
#pragma once

#include "ruvltra/config.h"      // IWYU pragma: export
#include "ruvltra/constraint.h"  // IWYU pragma: export
#include "ruvltra/engine.h"      // IWYU pragma: export
#include "ruvltra/error.h"       // IWYU pragma: export
#include "ruvltra/hooks.h"       // IWYU pragma: export
#include "ruvltra/learning.h"    // IWYU pragma: export
#include "ruvltra/model.h"       // IWYU pragma: export
#include "ruvltra/routing.h"     // IWYU pragma: export
#include "ruvltra/sona.h"        // IWYU pragma: export
#include "ruvltra/types.h"       // IWYU pragma: export
