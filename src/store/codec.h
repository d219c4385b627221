// Records as rows and back. Encoding checks what a caller gave (store.bad_record names the field); decoding
// checks ranges and lengths again, for a checksum does not vouch for the program that wrote it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"
#include "store/records.h"
#include "store/table.h"

namespace ruvltra {

// A record may take so much in its row, all texts together.
inline constexpr size_t kMaxRecordBytes = size_t{16} << 20;
inline constexpr size_t kMaxSteps = 100'000;

// Little-endian f16. Error: store.bad_record if a value is not finite or beyond 65504.
Result<std::string> encode_f16(std::span<const float> values, std::string_view field);
std::vector<float> decode_f16(std::string_view bytes);

// Where the steps of a trajectory are.
struct StepRange {
  int64_t first = 0;
  int64_t n = 0;
};

Result<std::vector<Value>> encode(const TrajectoryRecord& record, StepRange steps);
Result<std::vector<Value>> encode(const TrajectoryStep& step);
Result<std::vector<Value>> encode(const PatternRecord& record);
Result<std::vector<Value>> encode(const ClusterRecord& record);
Result<std::vector<Value>> encode(const FeedbackRecord& record);
Result<std::vector<Value>> encode(const DecisionRecord& record);
Result<std::vector<Value>> encode(const GenerationRecord& record);

// The steps are added by the caller. Error of all: store.corrupt.
Result<TrajectoryRecord> decode_trajectory(const Row& row, StepRange& steps);
Result<TrajectoryStep> decode_step(const Row& row);
Result<PatternRecord> decode_pattern(const Row& row);
Result<ClusterRecord> decode_cluster(const Row& row);
Result<FeedbackRecord> decode_feedback(const Row& row);
Result<DecisionRecord> decode_decision(const Row& row);
Result<GenerationRecord> decode_generation(const Row& row);

struct ScopeRow {
  std::string tenant, session;
  uint64_t live = 0, last = 0;
};
std::vector<Value> encode_scope(const ScopeRow& scope);
Result<ScopeRow> decode_scope(const Row& row);

struct MetaRow {
  std::string name;
  int64_t count = 0, last = 0;
  RowSum sums = {};
};
std::vector<Value> encode_meta(const MetaRow& meta);
Result<MetaRow> decode_meta(const Row& row);

struct NamedValue {
  std::string name, bytes;
};
std::vector<Value> encode_value(std::string_view name, std::string_view bytes);
Result<NamedValue> decode_value(const Row& row);

// What the vector of a pattern says to an index: the same while only its counts change.
uint64_t vector_hash(const PatternRecord& record);

}  // namespace ruvltra
