#include "store/schema.h"

#include <algorithm>
#include <map>

#include "base/check.h"
#include "base/fail.h"

namespace ruvltra {
namespace {

// One row per table, and one for the store as a whole under kMeta: how many rows there must be, the last
// sequence number, and the XOR of their checksums.
constexpr ColumnSpec kMetaColumns[] = {
    {"name", "TEXT"}, {"count", "INTEGER"}, {"last", "INTEGER"}, {"sums", "BLOB"}};

// The steps of a trajectory are the rows first_step .. first_step + n_steps - 1 of `step`.
constexpr ColumnSpec kTrajectoryColumns[] = {{"id", "BLOB"},
                                             {"tenant", "TEXT"},
                                             {"session", "TEXT"},
                                             {"task_type", "TEXT"},
                                             {"agent", "TEXT"},
                                             {"verdict", "INTEGER"},
                                             {"completion", "REAL"},
                                             {"attempts", "INTEGER"},
                                             {"said_quality", "REAL"},
                                             {"said_by", "INTEGER"},
                                             {"lesson", "TEXT"},
                                             {"created_us", "INTEGER"},
                                             {"quality", "REAL"},
                                             {"source", "INTEGER"},
                                             {"generation", "INTEGER"},
                                             {"model_hash", "BLOB"},
                                             {"generation_hash", "BLOB"},
                                             {"provenance", "TEXT"},
                                             {"ended_us", "INTEGER"},
                                             {"expires_us", "INTEGER"},
                                             {"split", "INTEGER"},
                                             {"first_step", "INTEGER"},
                                             {"n_steps", "INTEGER"}};

constexpr ColumnSpec kStepColumns[] = {
    {"kind", "INTEGER"},  {"name", "TEXT"},       {"text", "TEXT"},
    {"quality", "REAL"},  {"time_us", "INTEGER"}, {"duration_us", "INTEGER"},
    {"space", "INTEGER"}, {"layers", "BLOB"},     {"hooks", "BLOB"}};

constexpr ColumnSpec kPatternColumns[] = {
    {"id", "BLOB"},          {"tenant", "TEXT"},  {"kind", "INTEGER"},       {"title", "TEXT"},
    {"text", "TEXT"},        {"task", "TEXT"},    {"space", "INTEGER"},      {"embedding", "BLOB"},
    {"a", "REAL"},           {"b", "REAL"},       {"created_us", "INTEGER"}, {"last_used_us", "INTEGER"},
    {"uses", "INTEGER"},     {"origins", "BLOB"}, {"provenance", "TEXT"},    {"cluster", "INTEGER"},
    {"pinned", "INTEGER", 2}, {"session", "TEXT", 3}};

constexpr ColumnSpec kClusterColumns[] = {
    {"cluster", "INTEGER"}, {"space", "INTEGER"}, {"centroid", "BLOB"}, {"n_members", "INTEGER"}};

constexpr ColumnSpec kFeedbackColumns[] = {
    {"id", "BLOB"},         {"tenant", "TEXT"},    {"feedback_id", "TEXT"}, {"about", "INTEGER"},
    {"target", "TEXT"},     {"quality", "REAL"},   {"success", "INTEGER"},  {"agent", "TEXT"},
    {"correction", "TEXT"}, {"time_us", "INTEGER"}};

constexpr ColumnSpec kDecisionColumns[] = {{"id", "BLOB"},
                                           {"tenant", "TEXT"},
                                           {"task", "TEXT"},
                                           {"context", "TEXT"},
                                           {"space", "INTEGER"},
                                           {"embedding", "BLOB"},
                                           {"agent", "TEXT"},
                                           {"method", "TEXT"},
                                           {"probabilities", "BLOB"},
                                           {"propensity", "REAL"},
                                           {"created_us", "INTEGER"},
                                           {"outcome_agent", "TEXT"},
                                           {"outcome_quality", "REAL"},
                                           {"output_tokens", "INTEGER"},
                                           {"outcome_us", "INTEGER"},
                                           {"session", "TEXT", 3}};

constexpr ColumnSpec kScopeColumns[] = {
    {"tenant", "TEXT"}, {"session", "TEXT"}, {"live", "INTEGER"}, {"last", "INTEGER"}};

constexpr ColumnSpec kGenerationColumns[] = {
    {"tenant", "TEXT"},  {"session", "TEXT"},   {"number", "INTEGER"},
    {"content", "BLOB"}, {"parent", "INTEGER"}, {"file", "TEXT"},
    {"reason", "TEXT"},  {"report", "TEXT"},    {"created_us", "INTEGER"}};

// That something was deleted, and when: the SHA-256 of whose it was, not the name.
constexpr ColumnSpec kTombstoneColumns[] = {{"whose", "BLOB"}, {"time_us", "INTEGER"}, {"n_rows", "INTEGER"}};

// The bytes of a damaged row as they were read, in the encoding that its checksum is made of.
constexpr ColumnSpec kQuarantineColumns[] = {{"source", "TEXT"},
                                             {"source_row", "INTEGER"},
                                             {"what", "TEXT"},
                                             {"time_us", "INTEGER"},
                                             {"bytes", "BLOB"}};

constexpr ColumnSpec kValueColumns[] = {{"name", "TEXT"}, {"bytes", "BLOB"}};

const TableSpec kTableSpecs[kTables] = {
    {"meta", kMetaColumns},           {"trajectory", kTrajectoryColumns}, {"step", kStepColumns},
    {"pattern", kPatternColumns},     {"cluster", kClusterColumns},       {"feedback", kFeedbackColumns},
    {"decision", kDecisionColumns},   {"scope", kScopeColumns},           {"generation", kGenerationColumns},
    {"tombstone", kTombstoneColumns}, {"quarantine", kQuarantineColumns}, {"value", kValueColumns, 2}};

}  // namespace

const TableSpec& table_spec(TableId id) {
  CHECK(id >= 0 && id < kTables);
  return kTableSpecs[id];
}

size_t n_columns(const TableSpec& table, int version) {
  return static_cast<size_t>(std::count_if(table.columns.begin(), table.columns.end(),
                                           [version](const ColumnSpec& c) { return c.since <= version; }));
}

std::string create_sql(const TableSpec& table, int version) {
  std::string sql = fmt::format("CREATE TABLE {} (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL", table.name);
  for (const ColumnSpec& column : table.columns.first(n_columns(table, version))) {
    const bool nullable = std::string_view(column.type) == "REAL";
    sql += fmt::format(", {} {}{}", column.name, column.type, nullable ? "" : " NOT NULL");
  }
  return sql + ", sum BLOB NOT NULL) STRICT";
}

Result<bool> is_blank(Database& database) {
  ASSIGN_OR_RETURN(const int64_t application, database.number("PRAGMA application_id"));
  ASSIGN_OR_RETURN(const int64_t version, database.number("PRAGMA user_version"));
  ASSIGN_OR_RETURN(const int64_t n_objects, database.number("SELECT count(*) FROM sqlite_schema"));
  ASSIGN_OR_RETURN(const int64_t n_pages, database.number("PRAGMA page_count"));
  return application == 0 && version == 0 && n_objects == 0 && n_pages <= 1;
}

Result<void> create_schema(Database& database, int version) {
  for (const TableSpec& table : kTableSpecs) {
    if (table.since > version) continue;
    RETURN_IF_ERROR(database.execute(create_sql(table, version).c_str()));
  }
  RETURN_IF_ERROR(database.execute(fmt::format("PRAGMA application_id={}", kApplicationId).c_str()));
  return database.execute(fmt::format("PRAGMA user_version={}", version).c_str());
}

Result<int> check_schema(Database& database, std::string_view file) {
  ASSIGN_OR_RETURN(const int64_t application, database.number("PRAGMA application_id"));
  if (application != kApplicationId) {
    return fail("store.corrupt", "{}: expected a store of ruvltra (application id {:#x}), found {:#x}", file,
                kApplicationId, application);
  }
  ASSIGN_OR_RETURN(const int64_t version, database.number("PRAGMA user_version"));
  if (version > kSchemaVersion) {
    return fail(ErrorKind::kUnsupported, "store.newer_schema",
                "{}: schema version: expected at most {}, found {}; a newer ruvltra made this file", file,
                kSchemaVersion, version);
  }
  if (version < 1) {
    return fail("store.corrupt", "{}: schema version: expected 1 to {}, found {}", file, kSchemaVersion,
                version);
  }
  std::map<std::string, std::string> expected;
  for (const TableSpec& table : kTableSpecs) {
    if (table.since <= version) expected[table.name] = create_sql(table, static_cast<int>(version));
  }
  ASSIGN_OR_RETURN(Statement statement,
                   database.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid"));
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, statement.step());
    if (!more) break;
    const std::string name(statement.bytes(1));
    const auto found = expected.find(name);
    if (statement.bytes(0) != "table" || found == expected.end() || statement.bytes(2) != name ||
        statement.bytes(3) != found->second) {
      return fail("store.corrupt", "{}: schema version {}: unexpected {} {}", file, version,
                  ruvltra::quoted(statement.bytes(0)), ruvltra::quoted(name));
    }
    expected.erase(found);
  }
  if (!expected.empty()) {
    return fail("store.corrupt", "{}: schema version {}: table {} is missing", file, version,
                expected.begin()->first);
  }
  return static_cast<int>(version);
}

}  // namespace ruvltra
