#include "verbs.h"

namespace ruvltra {

// In the order of `ruvltra --help`.
void add_all_verbs(Program& program) {
  add_run_verb(program);
  add_serve_verb(program);
  add_quantize_verb(program);
  add_synth_verb(program);
  add_show_verb(program);
  add_tokenize_verb(program);
  add_eval_verb(program);
  add_bench_verb(program);
  add_version_verb(program);
  add_route_verb(program);
  add_agents_verb(program);
  add_sona_verb(program);
  add_mcp_verb(program);
  add_doctor_verb(program);
  add_completions_verb(program);
}

}  // namespace ruvltra
