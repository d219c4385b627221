// What the learner measured, as the document that clients read (docs/learning.md).
#pragma once

#include "base/json.h"
#include "ruvltra/learning.h"

namespace ruvltra {

Json learning_report_json(const LearningReport& report);

}  // namespace ruvltra
