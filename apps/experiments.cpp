#include "experiments.h"

#include "eval_bank_crash.h"

namespace ruvltra {

std::vector<Experiment> experiments() { return {bank_crash_experiment()}; }

}  // namespace ruvltra
