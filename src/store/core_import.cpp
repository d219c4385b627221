// Import: ids that are in use by somebody else are replaced, and whatever points to them follows.
#include <algorithm>
#include <map>

#include "base/fail.h"
#include "base/sha256.h"
#include "store/core.h"

namespace ruvltra {
namespace {

// The same age, other bytes; the same again for the same tenant, so that a second import finds the first.
RecordId id_for(const RecordId& id, std::string_view tenant) {
  std::vector<uint8_t> bytes(id.bytes.begin(), id.bytes.end());
  bytes.insert(bytes.end(), tenant.begin(), tenant.end());
  const Sha256Digest digest = sha256(bytes);
  RecordId other = id;
  std::copy_n(digest.begin(), 8, other.bytes.begin() + 8);
  return other;
}

}  // namespace

Result<size_t> StoreCore::import(ImportBatch& batch, std::string_view tenant) {
  const uint32_t number = tenant_number(tenant);
  std::map<RecordId, RecordId> replaced;
  // Gives each record an id that is free or the tenant's own.
  const auto settle = [&](auto& records, const auto& map) {
    for (auto& record : records) {
      const auto taken = map.find(record.id);
      if (taken == map.end() || taken->second.tenant == number) continue;
      const RecordId other = id_for(record.id, tenant);
      replaced[record.id] = other;
      record.id = other;
    }
  };
  settle(batch.trajectories, trajectories_);
  settle(batch.patterns, patterns_);
  settle(batch.feedback, feedback_);
  settle(batch.decisions, decisions_);
  for (PatternRecord& pattern : batch.patterns) {
    for (RecordId& origin : pattern.origins) {
      if (const auto other = replaced.find(origin); other != replaced.end()) origin = other->second;
    }
  }
  for (FeedbackRecord& feedback : batch.feedback) {
    const auto target = RecordId::parse(feedback.target);
    if (!target) continue;
    if (const auto other = replaced.find(*target); other != replaced.end())
      feedback.target = other->second.text();
  }

  size_t n = 0;
  for (const TrajectoryRecord& record : batch.trajectories) {
    if (trajectories_.contains(record.id)) continue;
    RETURN_IF_ERROR(put_trajectory(record));
    ++n;
  }
  std::vector<PatternRecord> patterns;
  for (PatternRecord& record : batch.patterns) {
    record.provenance = record.provenance.empty() ? "import" : record.provenance;
    if (!patterns_.contains(record.id)) patterns.push_back(record);
  }
  RETURN_IF_ERROR(change_patterns({}, patterns));
  n += patterns.size();
  for (const FeedbackRecord& record : batch.feedback) {
    if (feedback_.contains(record.id)) continue;
    ASSIGN_OR_RETURN(const bool is_new, put_feedback(record));
    n += is_new ? 1 : 0;
  }
  for (const DecisionRecord& record : batch.decisions) {
    if (decisions_.contains(record.id)) continue;
    RETURN_IF_ERROR(put_decision(record));
    ++n;
  }
  return n;
}

}  // namespace ruvltra
