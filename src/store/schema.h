// The tables of learn.db, version by version (docs/storage.md). Every table has the same frame:
//
//   row INTEGER PRIMARY KEY, seq INTEGER, <columns>, sum BLOB   (STRICT)
//
// `seq` is the store's sequence number when the row was written, `sum` the checksum of all the rest. There
// are no indices, triggers or views: a lookup goes through maps in memory that are made when the file is
// opened and every row is checked.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "ruvltra/error.h"
#include "store/sqlite.h"

namespace ruvltra {

inline constexpr int kSchemaVersion = 3;
inline constexpr int64_t kApplicationId = 0x52564c54;  // "RVLT"

enum TableId : int {
  kMeta,
  kTrajectory,
  kStep,
  kPattern,
  kCluster,
  kFeedback,
  kDecision,
  kScope,
  kGeneration,
  kTombstone,
  kQuarantine,
  kValue,
  kTables
};

struct ColumnSpec {
  const char* name;
  const char* type;  // INTEGER, REAL, TEXT, BLOB; NULL is allowed in REAL only
  int since = 1;     // the schema version that brought it
};

struct TableSpec {
  const char* name;
  std::span<const ColumnSpec> columns;  // between seq and sum
  int since = 1;
};

const TableSpec& table_spec(TableId id);
// Columns of a table in a version of the schema: those with since <= version come first.
size_t n_columns(const TableSpec& table, int version);
std::string create_sql(const TableSpec& table, int version);

// A file that SQLite has just made, with nothing in it. Such a file is left behind where the making of a
// store was cut short.
Result<bool> is_blank(Database& database);
// Makes the tables of `version`. *Requires*: a transaction.
Result<void> create_schema(Database& database, int version);
// The version of the file, once it is certain that it is a store: its tables are word for word what this
// program would have made. Errors: store.corrupt, store.newer_schema.
Result<int> check_schema(Database& database, std::string_view file);

}  // namespace ruvltra
