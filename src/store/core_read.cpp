// Reads: by id through the maps, lists in the order of ids. Every row's checksum is verified each time.
#include "base/fail.h"
#include "store/core.h"

namespace ruvltra {
namespace {

constexpr size_t kListRows = 256;
constexpr size_t kListBytes = size_t{4} << 20;

tl::unexpected<Error> not_found(const char* what, const RecordId& id) {
  return fail("store.not_found", "{} {}: there is none", what, id.text());
}

size_t weight(const TrajectoryRecord& record) {
  size_t n = 512;
  for (const TrajectoryStep& step : record.body.steps) {
    n += step.text.size() + (step.hooks ? step.hooks->values.size() * sizeof(float) : 64);
  }
  return n;
}
size_t weight(const PatternRecord& record) { return 2048 + record.text.size(); }
size_t weight(const FeedbackRecord& record) { return 256 + record.correction.size(); }
size_t weight(const DecisionRecord& record) { return 2048 + record.task.size() + record.context.size(); }

// Entries after `after`; damaged ones are left out. `fetch` makes a record of an entry.
template <class Record, class Map, class Fetch>
Result<std::vector<Record>> list(const Map& map, std::string_view tenant, std::optional<uint32_t> number,
                                 const RecordId& after, Fetch fetch) {
  std::vector<Record> records;
  size_t n_bytes = 0;
  if (tenant.empty()) number.reset();
  if (!tenant.empty() && !number) return records;
  for (auto it = map.upper_bound(after); it != map.end(); ++it) {
    if (number && it->second.tenant != *number) continue;
    Result<Record> record = fetch(it->second);
    if (!record && record.error().id == "store.damaged") continue;
    if (!record) return tl::unexpected(std::move(record).error());
    n_bytes += weight(*record);
    records.push_back(*std::move(record));
    if (records.size() >= kListRows || n_bytes >= kListBytes) break;
  }
  return records;
}

}  // namespace

Result<Row> StoreCore::fetch(TableId id, const Entry& entry) {
  Row row;
  ASSIGN_OR_RETURN(const Table::Found found, table(id).read(entry.row, row));
  if (found == Table::Found::kIntact && row.sum == entry.sum) return row;
  suspect_ = true;
  return fail("store.damaged", "{} row {}: {}", table(id).name(), entry.row,
              found == Table::Found::kMissing ? "missing" : "its checksum does not fit");
}

Result<TrajectoryRecord> StoreCore::fetch_trajectory(const TrajectoryEntry& entry) {
  ASSIGN_OR_RETURN(const Row row, fetch(kTrajectory, entry));
  StepRange steps;
  ASSIGN_OR_RETURN(TrajectoryRecord record, decode_trajectory(row, steps));
  bool whole = true;
  Result<void> decoded;
  RETURN_IF_ERROR(table(kStep).scan(steps.first, steps.first + steps.n - 1, [&](Row& step_row, bool intact) {
    whole = intact;
    if (!intact) return false;
    auto step = decode_step(step_row);
    if (!step) {
      decoded = tl::unexpected(step.error());
      return false;
    }
    record.body.steps.push_back(*std::move(step));
    return true;
  }));
  if (whole && decoded && record.body.steps.size() == static_cast<size_t>(steps.n)) return record;
  suspect_ = true;
  return fail("store.damaged", "trajectory {}: a step is damaged", record.id.text());
}

Result<TrajectoryRecord> StoreCore::trajectory(std::string_view tenant, const TrajectoryId& id) {
  const auto found = trajectories_.find(id);
  if (found == trajectories_.end() || tenants_[found->second.tenant] != tenant) {
    return not_found("trajectory", id);
  }
  return fetch_trajectory(found->second);
}

Result<PatternRecord> StoreCore::pattern(const PatternId& id) {
  const auto found = patterns_.find(id);
  if (found == patterns_.end()) return not_found("pattern", id);
  ASSIGN_OR_RETURN(const Row row, fetch(kPattern, found->second));
  return decode_pattern(row);
}

Result<DecisionRecord> StoreCore::decision(std::string_view tenant, const DecisionId& id) {
  const auto found = decisions_.find(id);
  if (found == decisions_.end() || tenants_[found->second.tenant] != tenant) return not_found("decision", id);
  ASSIGN_OR_RETURN(const Row row, fetch(kDecision, found->second));
  return decode_decision(row);
}

Result<std::vector<TrajectoryRecord>> StoreCore::trajectories(std::string_view tenant, RecordId after) {
  return list<TrajectoryRecord>(trajectories_, tenant, find_tenant(tenant), after,
                                [this](const TrajectoryEntry& entry) { return fetch_trajectory(entry); });
}

Result<std::vector<PatternRecord>> StoreCore::patterns(RecordId after) {
  return list<PatternRecord>(patterns_, "", {}, after,
                             [this](const PatternEntry& entry) -> Result<PatternRecord> {
                               ASSIGN_OR_RETURN(const Row row, fetch(kPattern, entry));
                               return decode_pattern(row);
                             });
}

Result<std::vector<FeedbackRecord>> StoreCore::feedback(std::string_view tenant, RecordId after) {
  return list<FeedbackRecord>(feedback_, tenant, find_tenant(tenant), after,
                              [this](const Entry& entry) -> Result<FeedbackRecord> {
                                ASSIGN_OR_RETURN(const Row row, fetch(kFeedback, entry));
                                return decode_feedback(row);
                              });
}

Result<std::vector<DecisionRecord>> StoreCore::decisions(std::string_view tenant, RecordId after) {
  return list<DecisionRecord>(decisions_, tenant, find_tenant(tenant), after,
                              [this](const DecisionEntry& entry) -> Result<DecisionRecord> {
                                ASSIGN_OR_RETURN(const Row row, fetch(kDecision, entry));
                                return decode_decision(row);
                              });
}

Result<std::vector<ClusterRecord>> StoreCore::clusters() {
  std::vector<ClusterRecord> records;
  for (const auto& [number, entry] : clusters_) {
    const auto row = fetch(kCluster, entry);
    if (!row && row.error().id == "store.damaged") continue;
    if (!row) return tl::unexpected(row.error());
    ASSIGN_OR_RETURN(ClusterRecord record, decode_cluster(*row));
    records.push_back(std::move(record));
  }
  return records;
}

Result<std::optional<GenerationRecord>> StoreCore::live(std::string_view tenant, std::string_view session) {
  const auto scope = scopes_.find({std::string(tenant), std::string(session)});
  if (scope == scopes_.end()) return std::nullopt;
  const auto entry = scope->second.generations.find(scope->second.live);
  if (entry == scope->second.generations.end()) {
    return fail("store.damaged", "generation {}: its row was damaged", scope->second.live);
  }
  ASSIGN_OR_RETURN(const Row row, fetch(kGeneration, entry->second));
  return decode_generation(row);
}

Result<std::vector<GenerationRecord>> StoreCore::history(std::string_view tenant, std::string_view session,
                                                         size_t n) {
  std::vector<GenerationRecord> records;
  const auto scope = scopes_.find({std::string(tenant), std::string(session)});
  if (scope == scopes_.end()) return records;
  const auto& generations = scope->second.generations;
  for (auto it = generations.rbegin(); it != generations.rend() && records.size() < n; ++it) {
    const auto row = fetch(kGeneration, it->second);
    if (!row && row.error().id == "store.damaged") continue;
    if (!row) return tl::unexpected(row.error());
    ASSIGN_OR_RETURN(GenerationRecord record, decode_generation(*row));
    records.push_back(std::move(record));
  }
  return records;
}

std::vector<std::pair<std::string, std::string>> StoreCore::scopes() const {
  std::vector<ScopeKey> keys;
  for (const auto& [key, scope] : scopes_) keys.push_back(key);
  return keys;
}

Result<std::optional<std::vector<uint8_t>>> StoreCore::value(std::string_view name) {
  const auto found = values_.find(name);
  if (found == values_.end()) return std::nullopt;
  ASSIGN_OR_RETURN(const Row row, fetch(kValue, found->second));
  ASSIGN_OR_RETURN(const NamedValue value, decode_value(row));
  return std::vector<uint8_t>(value.bytes.begin(), value.bytes.end());
}

}  // namespace ruvltra
