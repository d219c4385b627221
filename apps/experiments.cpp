#include "experiments.h"

namespace ruvltra {

std::vector<Experiment> experiments() { return {}; }

}  // namespace ruvltra
