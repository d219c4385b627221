#include "experiments.h"

namespace ruvltra {

std::vector<Experiment> experiments() {
  return {bank_experiment(), hnsw_file_experiment(), route_experiment()};
}

}  // namespace ruvltra
