// The model's pass over given text, for those who learn from it.
#pragma once

#include <memory>

#include "api/model_parts.h"
#include "sona/learning_pace.h"
#include "sona/teacher_forced.h"

namespace ruvltra {

// Passes go between the engine's steps, a few rows at a time, and rest as `pace` says. The parts must outlive
// it. Errors of a call: request.too_long (beyond the model's context), memory.exhausted,
// engine.stopped.
TeacherForced teacher_forced(ModelParts& parts, std::shared_ptr<const LearningPace> pace);

}  // namespace ruvltra
