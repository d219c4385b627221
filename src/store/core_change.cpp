// The changes. Each is one savepoint inside a group (core_commit.cpp): an error undoes it whole.
#include <algorithm>
#include <limits>

#include "base/fail.h"
#include "base/utf8.h"
#include "store/core.h"
#include "store/core_undo.h"

namespace ruvltra {

namespace {

tl::unexpected<Error> taken_by_another(const char* what, const RecordId& id) {
  return fail("store.conflict", "{} {}: the id is in use already", what, id.text());
}

}  // namespace

// --- Trajectories

Result<void> StoreCore::put_trajectory(const TrajectoryRecord& record) {
  const uint32_t tenant = tenant_number(record.tenant);
  const auto found = trajectories_.find(record.id);
  if (found != trajectories_.end() && found->second.tenant != tenant) {
    return taken_by_another("trajectory", record.id);
  }
  if (found != trajectories_.end()) RETURN_IF_ERROR(erase_trajectory(record.id));

  TrajectoryEntry entry;
  entry.tenant = tenant;
  entry.expires_us = record.expires_us;
  entry.steps = {table(kStep).state.next_row, static_cast<int64_t>(record.body.steps.size())};
  Row row;
  row.row = table(kTrajectory).state.next_row;
  ASSIGN_OR_RETURN(row.values, encode(record, entry.steps));
  RETURN_IF_ERROR(write(kTrajectory, row, nullptr));
  for (const TrajectoryStep& step : record.body.steps) {
    Row step_row;
    step_row.row = table(kStep).state.next_row;
    ASSIGN_OR_RETURN(step_row.values, encode(step));
    RETURN_IF_ERROR(write(kStep, step_row, nullptr));
  }
  entry.row = row.row;
  entry.sum = row.sum;
  enter(trajectories_, record.id, entry);
  while (trajectories_.size() > options_.trajectory_capacity) {
    RETURN_IF_ERROR(erase_trajectory(trajectories_.begin()->first));
  }
  return {};
}

// By value: the id may be the key of the entry that goes.
Result<void> StoreCore::erase_trajectory(TrajectoryId id) {
  const TrajectoryEntry entry = trajectories_.find(id)->second;
  RETURN_IF_ERROR(table(kTrajectory).erase(entry.row, entry.sum));
  ASSIGN_OR_RETURN(const bool whole, table(kStep).erase_range(entry.steps.first, entry.steps.n));
  suspect_ = suspect_ || !whole;
  leave(trajectories_, id);
  return {};
}

Result<size_t> StoreCore::expire_trajectories(int64_t now) {
  std::vector<TrajectoryId> expired;
  for (const auto& [id, entry] : trajectories_) {
    if (entry.expires_us != 0 && entry.expires_us <= now) expired.push_back(id);
  }
  for (const TrajectoryId& id : expired) RETURN_IF_ERROR(erase_trajectory(id));
  return expired.size();
}

// --- Patterns

Result<void> StoreCore::put_pattern(const PatternRecord& record) {
  const uint32_t tenant = tenant_number(record.tenant);
  const auto found = patterns_.find(record.id);
  const bool replaces = found != patterns_.end();
  if (replaces && found->second.tenant != tenant) return taken_by_another("pattern", record.id);
  PatternEntry entry;
  entry.tenant = tenant;
  Row row;
  row.row = replaces ? found->second.row : table(kPattern).state.next_row;
  ASSIGN_OR_RETURN(row.values, encode(record));
  entry.vector = vector_hash(record);
  RETURN_IF_ERROR(write(kPattern, row, replaces ? &found->second.sum : nullptr));
  entry.row = row.row;
  entry.sum = row.sum;
  assign(pattern_vectors_, pattern_vectors_ ^ entry.vector ^ (replaces ? found->second.vector : 0));
  enter(patterns_, record.id, entry);
  return {};
}

Result<void> StoreCore::erase_pattern(PatternId id) {
  const auto found = patterns_.find(id);
  if (found == patterns_.end()) return {};
  RETURN_IF_ERROR(table(kPattern).erase(found->second.row, found->second.sum));
  assign(pattern_vectors_, pattern_vectors_ ^ found->second.vector);
  leave(patterns_, id);
  return {};
}

Result<void> StoreCore::change_patterns(std::span<const PatternId> remove,
                                        std::span<const PatternRecord> put) {
  for (const PatternId& id : remove) RETURN_IF_ERROR(erase_pattern(id));
  for (const PatternRecord& record : put) RETURN_IF_ERROR(put_pattern(record));
  if (patterns_.size() > options_.pattern_capacity && !put.empty()) {
    return fail("store.full", "patterns: expected at most {}, found {} after this change",
                options_.pattern_capacity, patterns_.size());
  }
  return {};
}

Result<void> StoreCore::replace_clusters(std::span<const ClusterRecord> clusters,
                                         std::span<const std::pair<PatternId, int32_t>> members) {
  RETURN_IF_ERROR(table(kCluster).clear());
  assign(clusters_, std::map<int32_t, Entry>());
  for (const ClusterRecord& cluster : clusters) {
    if (clusters_.contains(cluster.cluster)) {
      return fail("store.bad_record", "clusters: number {} is given twice", cluster.cluster);
    }
    Row row;
    row.row = table(kCluster).state.next_row;
    ASSIGN_OR_RETURN(row.values, encode(cluster));
    RETURN_IF_ERROR(write(kCluster, row, nullptr));
    enter(clusters_, cluster.cluster, Entry{row.row, row.sum, 0});
  }
  for (const auto& [id, cluster] : members) {
    const auto found = patterns_.find(id);
    if (found == patterns_.end()) continue;  // removed since the clustering was begun
    if (cluster != -1 && !clusters_.contains(cluster)) {
      return fail("store.bad_record", "clusters: pattern {} is of cluster {}, which is not given", id.text(),
                  cluster);
    }
    ASSIGN_OR_RETURN(const Row row, fetch(kPattern, found->second));
    ASSIGN_OR_RETURN(PatternRecord record, decode_pattern(row));
    if (record.cluster == cluster) continue;
    record.cluster = cluster;
    RETURN_IF_ERROR(put_pattern(record));
  }
  return {};
}

// --- Feedback and decisions

Result<bool> StoreCore::put_feedback(const FeedbackRecord& record) {
  const uint32_t tenant = tenant_number(record.tenant);
  const FeedbackKey key{tenant, record.feedback_id};
  if (!record.feedback_id.empty()) {
    if (const auto known = feedback_ids_.find(key); known != feedback_ids_.end()) {
      ASSIGN_OR_RETURN(const Row row, fetch(kFeedback, feedback_.find(known->second)->second));
      ASSIGN_OR_RETURN(FeedbackRecord before, decode_feedback(row));
      const bool same = before.about == record.about && before.target == record.target &&
                        before.quality == record.quality && before.success == record.success &&
                        before.agent == record.agent && before.correction == record.correction;
      if (same) return false;
      return fail("store.conflict", "feedback {}: expected what was sent before under this id, found another",
                  ruvltra::quoted(record.feedback_id));
    }
  }
  if (feedback_.contains(record.id)) return taken_by_another("feedback", record.id);
  Row row;
  row.row = table(kFeedback).state.next_row;
  ASSIGN_OR_RETURN(row.values, encode(record));
  RETURN_IF_ERROR(write(kFeedback, row, nullptr));
  FeedbackEntry entry;
  entry.row = row.row;
  entry.sum = row.sum;
  entry.tenant = tenant;
  entry.feedback_id = record.feedback_id;
  enter(feedback_, record.id, entry);
  if (!record.feedback_id.empty()) enter(feedback_ids_, key, record.id);
  while (feedback_.size() > options_.feedback_capacity) {
    RETURN_IF_ERROR(erase_feedback(feedback_.begin()->first));
  }
  return true;
}

Result<void> StoreCore::erase_feedback(RecordId id) {
  const FeedbackEntry entry = feedback_.find(id)->second;
  RETURN_IF_ERROR(table(kFeedback).erase(entry.row, entry.sum));
  leave(feedback_ids_, FeedbackKey(entry.tenant, entry.feedback_id));
  leave(feedback_, id);
  return {};
}

Result<void> StoreCore::put_decision(const DecisionRecord& record) {
  const uint32_t tenant = tenant_number(record.tenant);
  const auto found = decisions_.find(record.id);
  const bool replaces = found != decisions_.end();
  if (replaces && found->second.tenant != tenant) return taken_by_another("decision", record.id);
  Row row;
  row.row = replaces ? found->second.row : table(kDecision).state.next_row;
  ASSIGN_OR_RETURN(row.values, encode(record));
  RETURN_IF_ERROR(write(kDecision, row, replaces ? &found->second.sum : nullptr));
  DecisionEntry entry;
  entry.row = row.row;
  entry.sum = row.sum;
  entry.tenant = tenant;
  entry.created_us = record.created_us;
  enter(decisions_, record.id, entry);
  while (decisions_.size() > options_.decision_capacity) {
    RETURN_IF_ERROR(erase_decision(decisions_.begin()->first));
  }
  return {};
}

Result<void> StoreCore::erase_decision(DecisionId id) {
  const DecisionEntry entry = decisions_.find(id)->second;
  RETURN_IF_ERROR(table(kDecision).erase(entry.row, entry.sum));
  leave(decisions_, id);
  return {};
}

Result<size_t> StoreCore::expire_decisions(int64_t before_us) {
  std::vector<DecisionId> expired;
  for (const auto& [id, entry] : decisions_) {
    if (entry.created_us < before_us) expired.push_back(id);
  }
  for (const DecisionId& id : expired) RETURN_IF_ERROR(erase_decision(id));
  return expired.size();
}

// --- Generations and values

Result<GenerationRecord> StoreCore::publish(GenerationRecord next, uint64_t expected) {
  constexpr size_t kKept = 1'024;
  const ScopeKey key{next.tenant, next.session};
  const auto found = scopes_.find(key);
  Scope scope = found == scopes_.end() ? Scope() : found->second;
  if (scope.live != expected) {
    return fail("store.conflict", "generation: expected {} to be live, found {}", expected, scope.live);
  }
  next.number = scope.last + 1;
  if (next.created_us == 0) next.created_us = now_us();
  const uint32_t tenant = tenant_number(next.tenant);

  ScopeRow scope_record{next.tenant, next.session, next.number, next.number};
  Row scope_row;
  scope_row.row = scope.entry.row != 0 ? scope.entry.row : table(kScope).state.next_row;
  scope_row.values = encode_scope(scope_record);
  RETURN_IF_ERROR(write(kScope, scope_row, scope.entry.row != 0 ? &scope.entry.sum : nullptr));
  Row row;
  row.row = table(kGeneration).state.next_row;
  ASSIGN_OR_RETURN(row.values, encode(next));
  RETURN_IF_ERROR(write(kGeneration, row, nullptr));

  scope.entry = {scope_row.row, scope_row.sum, tenant};
  scope.live = scope.last = next.number;
  scope.generations[next.number] = {row.row, row.sum, tenant};
  while (scope.generations.size() > kKept) {
    const Entry& oldest = scope.generations.begin()->second;
    RETURN_IF_ERROR(table(kGeneration).erase(oldest.row, oldest.sum));
    scope.generations.erase(scope.generations.begin());
  }
  enter(scopes_, key, std::move(scope));
  return next;
}

Result<void> StoreCore::put_value(std::string_view name, std::span<const uint8_t> bytes) {
  if (bytes.size() > kMaxRecordBytes) {
    return fail("store.too_large", "value {}: expected at most {} bytes, found {}", ruvltra::quoted(name),
                kMaxRecordBytes, bytes.size());
  }
  if (!utf8_is_valid(name)) {
    return fail("store.bad_record", "value: name: expected UTF-8, found {}", ruvltra::quoted(name));
  }
  const auto found = values_.find(name);
  const bool replaces = found != values_.end();
  Row row;
  row.row = replaces ? found->second.row : table(kValue).state.next_row;
  row.values = encode_value(name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  RETURN_IF_ERROR(write(kValue, row, replaces ? &found->second.sum : nullptr));
  enter(values_, std::string(name), Entry{row.row, row.sum, 0});
  return {};
}

}  // namespace ruvltra
