// Records as lines of JSON, for export, import and people (docs/storage.md has the fields). Vectors are
// base64 of little-endian f16: exactly what is stored.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"
#include "store/records.h"

namespace ruvltra {

std::string to_jsonl(const TrajectoryRecord& record);
std::string to_jsonl(const PatternRecord& record);
std::string to_jsonl(const FeedbackRecord& record);
std::string to_jsonl(const DecisionRecord& record);

struct ImportBatch {
  std::vector<TrajectoryRecord> trajectories;
  std::vector<PatternRecord> patterns;
  std::vector<FeedbackRecord> feedback;
  std::vector<DecisionRecord> decisions;
};

// Reads every line; all records get `tenant`. Error: store.import names the line and the field. Empty lines
// are skipped; a key that this program does not know is an error.
Result<ImportBatch> parse_jsonl(std::string_view text, std::string_view tenant);

}  // namespace ruvltra
