#include "experiments.h"

namespace ruvltra {

std::vector<Experiment> experiments() {
  return {hnsw_file_experiment(),     bank_crash_experiment(),  bank_experiment(),
          route_experiment(),         sona_grad_experiment(),   sona_teacher_experiment(),
          sona_style_experiment(),    sona_forget_experiment(), sona_boundary_experiment(),
          sona_quality_experiment(),  sona_null_experiment(),   sona_poison_experiment(),
          sona_rollback_experiment(), schema_experiment()};
}

}  // namespace ruvltra
