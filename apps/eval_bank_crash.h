// `ruvltra eval bank-crash`: whether the durable store keeps its word (docs/storage.md).
#pragma once

#include "experiments.h"

namespace ruvltra {

Experiment bank_crash_experiment();

}  // namespace ruvltra
