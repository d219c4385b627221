#include "experiments.h"

namespace ruvltra {

std::vector<Experiment> experiments() { return {bank_experiment()}; }

}  // namespace ruvltra
