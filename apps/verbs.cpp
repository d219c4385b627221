#include "verbs.h"

namespace ruvltra {

// In the order of `ruvltra --help`.
void add_all_verbs(Program& program) { add_version_verb(program); }

}  // namespace ruvltra
