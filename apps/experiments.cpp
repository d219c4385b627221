#include "experiments.h"

namespace ruvltra {

std::vector<Experiment> experiments() { return {hnsw_file_experiment()}; }

}  // namespace ruvltra
