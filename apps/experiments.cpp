#include "experiments.h"

namespace ruvltra {

std::vector<Experiment> experiments() { return {hnsw_file_experiment(), sona_grad_experiment(), sona_teacher_experiment()}; }

}  // namespace ruvltra
