// Rows with checksums, and the account of a table: how many rows it has, the last sequence number, and the
// XOR of all checksums. SQLite itself does not notice most flipped bits, nor a lost row.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"
#include "store/schema.h"
#include "store/sqlite.h"

namespace ruvltra {

struct Value {
  enum class Type : uint8_t { kNull, kInteger, kReal, kText, kBlob };
  Type type = Type::kNull;
  int64_t integer = 0;
  double real = 0;
  std::string bytes;  // of text and blobs

  static Value of(int64_t value);
  static Value of(double value);  // -0 becomes 0, as SQLite would make it
  static Value text(std::string_view text);
  static Value blob(std::string_view bytes);
  bool operator==(const Value&) const = default;
};

Value default_value(const ColumnSpec& column);  // of a column that a migration adds: 0, "" or NULL

// Row and sequence numbers of a file are believed up to here, so that counting on from them cannot overflow.
inline constexpr int64_t kMaxNumber = int64_t{1} << 62;

using RowSum = std::array<uint8_t, 16>;
inline void xor_into(RowSum& sum, const RowSum& other) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] ^= other[i];
}

struct Row {
  int64_t row = 0, seq = 0;
  std::vector<Value> values;  // in the order of the table's columns
  RowSum sum = {};
};

// What the checksum is made of: length-prefixed table name, row, seq, and each value with its type and
// length.
std::string row_bytes(std::string_view table, const Row& row);
RowSum row_sum(std::string_view table, const Row& row);  // the first 16 bytes of SHA-256

struct TableState {
  int64_t count = 0, last = 0;  // last: sequence number
  int64_t next_row = 1;
  RowSum sums = {};
};

// Thread safety: none.
class Table {
 public:
  // `version` of the schema decides about the columns.
  static Result<Table> attach(Database& database, const TableSpec& spec, int version);

  const char* name() const { return spec_->name; }
  // Writes row.row, replacing the row with the checksum `replaced` if there is one; sets row.seq and row.sum.
  Result<void> write(Row& row, int64_t seq, const RowSum* replaced);
  Result<void> erase(int64_t row, const RowSum& sum);
  Result<void> drop(int64_t row);  // one that the account does not include
  void count(const Row& row);      // includes a row that was read
  // All rows from `first` on, `n` of them; false if some were missing.
  Result<bool> erase_range(int64_t first, int64_t n);
  Result<void> clear();

  enum class Found { kIntact, kDamaged, kMissing };
  Result<Found> read(int64_t row, Row& out);
  // Rows first .. last in order; false from `visit` ends it.
  Result<void> scan(int64_t first, int64_t last, const std::function<bool(Row& row, bool intact)>& visit);

  TableState state;

 private:
  Table(const TableSpec& spec, int version) : spec_(&spec), n_columns_(n_columns(spec, version)) {}
  bool take(const Statement& statement, Row& out) const;
  const TableSpec* spec_;
  size_t n_columns_;
  Statement insert_, remove_, remove_range_, sums_, select_;
};

}  // namespace ruvltra
