#include "experiments.h"

namespace ruvltra {

std::vector<Experiment> experiments() { return {hnsw_file_experiment(), bank_crash_experiment()}; }

}  // namespace ruvltra
