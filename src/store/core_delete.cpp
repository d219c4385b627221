// Deleting what belongs to somebody, and what could still show it.
#include <set>

#include "base/fail.h"
#include "base/sha256.h"
#include "store/core.h"
#include "store/core_undo.h"

namespace ruvltra {
namespace {

void append_prefixed(std::vector<uint8_t>& out, std::string_view text) {
  const uint64_t n = text.size();
  for (size_t i = 0; i < sizeof n; ++i) out.push_back(static_cast<uint8_t>(n >> 8 * i));
  out.insert(out.end(), text.begin(), text.end());
}

// Says that this was deleted without saying whose it was.
Sha256Digest tombstone_of(std::string_view tenant, const std::optional<std::string>& session) {
  std::vector<uint8_t> bytes;
  append_prefixed(bytes, "ruvltra-tombstone-v1");
  append_prefixed(bytes, tenant);
  bytes.push_back(session ? 1 : 0);
  if (session) append_prefixed(bytes, *session);
  return sha256(bytes);
}

}  // namespace

Result<std::vector<TrajectoryId>> StoreCore::trajectories_of(uint32_t tenant,
                                                             const std::optional<std::string>& session) {
  std::vector<TrajectoryId> ids;
  for (const auto& [id, entry] : trajectories_) {
    if (entry.tenant != tenant) continue;
    if (session) {
      ASSIGN_OR_RETURN(const Row row, fetch(kTrajectory, entry));
      StepRange steps;
      ASSIGN_OR_RETURN(const TrajectoryRecord record, decode_trajectory(row, steps));
      if (record.session != *session) continue;
    }
    ids.push_back(id);
  }
  return ids;
}

Result<void> StoreCore::forget_clusters() {
  RETURN_IF_ERROR(table(kCluster).clear());
  assign(clusters_, std::map<int32_t, Entry>());
  std::vector<PatternId> ids;
  for (const auto& [id, entry] : patterns_) ids.push_back(id);
  for (const PatternId& id : ids) {
    ASSIGN_OR_RETURN(const Row row, fetch(kPattern, patterns_.find(id)->second));
    ASSIGN_OR_RETURN(PatternRecord record, decode_pattern(row));
    if (record.cluster == -1) continue;
    record.cluster = -1;
    RETURN_IF_ERROR(put_pattern(record));
  }
  return {};
}

Result<void> StoreCore::erase_scope(const ScopeKey& key, DeleteReport& report) {
  const Scope scope = scopes_.find(key)->second;
  for (const auto& [number, entry] : scope.generations) {
    RETURN_IF_ERROR(table(kGeneration).erase(entry.row, entry.sum));
    ++report.n_generations;
  }
  RETURN_IF_ERROR(table(kScope).erase(scope.entry.row, scope.entry.sum));
  leave(scopes_, key);
  return {};
}

Result<DeleteReport> StoreCore::delete_data(std::string_view tenant,
                                            const std::optional<std::string>& session) {
  DeleteReport report;
  const auto number = find_tenant(tenant);
  std::set<RecordId> trajectories;
  std::set<std::string> targets;
  if (number) {
    ASSIGN_OR_RETURN(const auto ids, trajectories_of(*number, session));
    for (const TrajectoryId& id : ids) {
      RETURN_IF_ERROR(erase_trajectory(id));
      trajectories.insert(id);
      targets.insert(id.text());
    }
    report.n_trajectories = ids.size();

    // Of a session: what was stored in it, or made, wholly or partly, from one of its trajectories.
    const auto is_of = [&](const auto& record) { return !session->empty() && record.session == *session; };
    std::vector<PatternId> patterns;
    for (const auto& [id, entry] : patterns_) {
      if (entry.tenant != *number) continue;
      if (session) {
        ASSIGN_OR_RETURN(const Row row, fetch(kPattern, entry));
        ASSIGN_OR_RETURN(const PatternRecord record, decode_pattern(row));
        bool made_from = is_of(record);
        for (const RecordId& origin : record.origins) made_from = made_from || trajectories.contains(origin);
        if (!made_from) continue;
      }
      patterns.push_back(id);
    }
    for (const PatternId& id : patterns) RETURN_IF_ERROR(erase_pattern(id));
    report.n_patterns = patterns.size();
    // Centroids are means of everybody's vectors.
    if (!patterns.empty()) RETURN_IF_ERROR(forget_clusters());

    std::vector<DecisionId> decisions;
    for (const auto& [id, entry] : decisions_) {
      if (entry.tenant != *number) continue;
      if (session) {
        ASSIGN_OR_RETURN(const Row row, fetch(kDecision, entry));
        ASSIGN_OR_RETURN(const DecisionRecord record, decode_decision(row));
        if (!is_of(record)) continue;
      }
      decisions.push_back(id);
      targets.insert(id.text());
    }
    for (const DecisionId& id : decisions) RETURN_IF_ERROR(erase_decision(id));
    report.n_decisions = decisions.size();

    std::vector<RecordId> feedback;
    for (const auto& [id, entry] : feedback_) {
      if (entry.tenant != *number) continue;
      if (session) {
        ASSIGN_OR_RETURN(const Row row, fetch(kFeedback, entry));
        ASSIGN_OR_RETURN(const FeedbackRecord record, decode_feedback(row));
        if (!targets.contains(record.target)) continue;
      }
      feedback.push_back(id);
    }
    for (const RecordId& id : feedback) RETURN_IF_ERROR(erase_feedback(id));
    report.n_feedback = feedback.size();
  }

  std::vector<ScopeKey> scopes;
  for (const auto& [key, scope] : scopes_) {
    if (key.first == tenant && (!session || key.second == *session)) scopes.push_back(key);
  }
  for (const ScopeKey& key : scopes) RETURN_IF_ERROR(erase_scope(key, report));

  std::vector<std::string> values;
  const std::string prefix =
      session ? fmt::format("tenant/{}/session/{}/", tenant, *session) : fmt::format("tenant/{}/", tenant);
  for (auto it = values_.lower_bound(prefix); it != values_.end() && it->first.starts_with(prefix); ++it) {
    values.push_back(it->first);
  }
  for (const std::string& name : values) {
    const Entry entry = values_.find(name)->second;
    RETURN_IF_ERROR(table(kValue).erase(entry.row, entry.sum));
    leave(values_, name);
  }

  // A damaged row may have been anybody's.
  RETURN_IF_ERROR(table(kQuarantine).clear());
  const size_t n_rows = report.n_trajectories + report.n_patterns + report.n_feedback + report.n_decisions +
                        report.n_generations + values.size();
  if (n_rows == 0) return report;
  const Sha256Digest whose = tombstone_of(tenant, session);
  Row row;
  row.row = table(kTombstone).state.next_row;
  row.values = {Value::blob({reinterpret_cast<const char*>(whose.data()), whose.size()}), Value::of(now_us()),
                Value::of(static_cast<int64_t>(n_rows))};
  RETURN_IF_ERROR(write(kTombstone, row, nullptr));
  return report;
}

}  // namespace ruvltra
