// Records for tests and the crash evaluation, all made from a number.
#pragma once

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "base/num.h"
#include "store/store.h"

namespace ruvltra {

// A folder that goes with the object.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& name) {
    static int n = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("ruvltra-" + name + "-" + std::to_string(getpid()) + "-" + std::to_string(n++));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Ids in the order of n.
inline RecordId sample_id(uint64_t n, uint8_t kind = 0) {
  RecordId id;
  for (size_t i = 0; i < 8; ++i) id.bytes[i] = static_cast<uint8_t>((n + 1) >> 8 * (7 - i));
  id.bytes[15] = kind;
  return id;
}

// Unit vectors of numbers that f16 holds exactly.
inline std::vector<float> sample_vector(uint64_t n, size_t size = kEmbeddingDim) {
  std::vector<float> values(size);
  double sum = 0;
  for (size_t i = 0; i < size; ++i) {
    values[i] = static_cast<float>(philox_uniform(n, static_cast<uint32_t>(i), 0, 77) * 2 - 1);
    sum += static_cast<double>(values[i]) * values[i];
  }
  for (float& value : values) {
    value = f16_to_f32(f32_to_f16(static_cast<float>(value / std::sqrt(sum))));
  }
  return values;
}

inline TrajectoryRecord sample_trajectory(uint64_t n, const std::string& tenant = "local",
                                          size_t n_steps = 3) {
  TrajectoryRecord record;
  record.id = sample_id(n);
  record.tenant = tenant;
  record.session = "session-" + std::to_string(n % 3);
  record.body = Trajectory("task-" + std::to_string(n));
  record.body.created_us = 1'000 + static_cast<int64_t>(n);
  record.body.agent = "coder";
  record.body.lesson = "lesson " + std::to_string(n) + " – über";
  record.body.verdict = Verdict::recovered(static_cast<int>(n % 5) + 1);
  for (size_t i = 0; i < n_steps; ++i) {
    TrajectoryStep step;
    step.kind = i % 2 == 0 ? TrajectoryStep::Kind::kState : TrajectoryStep::Kind::kAction;
    step.name = i % 2 == 0 ? "" : "action";
    step.text = "step " + std::to_string(n) + "." + std::to_string(i) + std::string(n % 97, 'x');
    step.time_us = static_cast<int64_t>(n * 100 + i);
    step.duration_us = static_cast<int64_t>(i);
    if (i % 2 == 1) step.quality = 0.25 * static_cast<double>(n % 5);
    if (i % 2 == 0) step.hooks = HookState{n, {3, 7}, sample_vector(n + i, 2 * kEmbeddingDim)};
    record.body.steps.push_back(step);
  }
  record.quality = n % 4 == 0 ? std::nullopt : std::optional<double>(1.0 / static_cast<double>(n % 4));
  record.source = QualitySource::kVerdict;
  record.generation = ~uint64_t{0} - n;
  record.generation_hash[n % 32] = 1;
  record.model_hash[n % 32] = 2;
  record.provenance = "api";
  record.ended_us = 5'000 + static_cast<int64_t>(n);
  record.split = n % 5 == 0 ? Split::kHoldout : Split::kTrain;
  return record;
}

inline PatternRecord sample_pattern(uint64_t n, const std::string& tenant = "local") {
  PatternRecord record;
  record.id = sample_id(n, 1);
  record.tenant = tenant;
  record.kind = static_cast<PatternKind>(n % 3);
  record.title = "title " + std::to_string(n);
  record.text = "text " + std::to_string(n);
  record.when = n % 2 == 0 ? "" : "task " + std::to_string(n);
  record.space = n * 0x9e3779b97f4a7c15;
  record.embedding = sample_vector(n);
  record.a = 1 + 0.1 * static_cast<double>(n % 7);
  record.b = 2;
  record.created_us = static_cast<int64_t>(n);
  record.last_used_us = static_cast<int64_t>(n) + 1;
  record.uses = static_cast<uint32_t>(n);
  record.origins = {sample_id(n), sample_id(n + 1)};
  record.provenance = "caller";
  record.pinned = n % 2 == 1;
  record.session = "session-" + std::to_string(n % 3);
  return record;
}

inline FeedbackRecord sample_feedback(uint64_t n, const std::string& tenant = "local") {
  FeedbackRecord record;
  record.id = sample_id(n, 2);
  record.tenant = tenant;
  record.feedback_id = "feedback-" + std::to_string(n);
  record.about = static_cast<FeedbackRecord::About>(n % 3);
  record.target = sample_id(n).text();
  if (n % 2 == 0) record.quality = 0.5;
  if (n % 3 != 0) record.success = n % 3 == 1;
  record.agent = "tester";
  record.correction = "it should be " + std::to_string(n);
  record.time_us = static_cast<int64_t>(n);
  return record;
}

inline DecisionRecord sample_decision(uint64_t n, const std::string& tenant = "local") {
  DecisionRecord record;
  record.id = sample_id(n, 3);
  record.tenant = tenant;
  record.session = "session-" + std::to_string(n % 3);
  record.task = "task " + std::to_string(n);
  record.context = "context";
  record.space = n;
  if (n % 2 == 0) record.embedding = sample_vector(n + 5);
  record.agent = "coder";
  record.method = "hnsw";
  record.probabilities = {{"coder", 0.75}, {"tester", 0.25}};
  record.propensity = 0.75;
  record.created_us = static_cast<int64_t>(n);
  return record;
}

}  // namespace ruvltra
