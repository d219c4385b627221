#include "store/table.h"

#include <sqlite3.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/fail.h"
#include "base/sha256.h"

namespace ruvltra {
namespace {

std::span<const uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

void append_u64(std::string& out, uint64_t value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);  // little endian: base/bytes.h
  out.append(bytes, sizeof bytes);
}

bool is_sum(const Statement& statement, int column) {
  return statement.column_type(column) == SQLITE_BLOB && statement.bytes(column).size() == RowSum().size();
}

RowSum sum_of(const Statement& statement, int column) {
  RowSum sum;
  const std::string_view bytes = statement.bytes(column);
  std::copy(bytes.begin(), bytes.end(), sum.begin());
  return sum;
}

}  // namespace

Value Value::of(int64_t value) {
  Value out;
  out.type = Type::kInteger;
  out.integer = value;
  return out;
}
Value Value::of(double value) {
  Value out;
  out.type = Type::kReal;
  out.real = value + 0.0;
  return out;
}
Value Value::text(std::string_view text) {
  Value out;
  out.type = Type::kText;
  out.bytes = text;
  return out;
}
Value Value::blob(std::string_view bytes) {
  Value out;
  out.type = Type::kBlob;
  out.bytes = bytes;
  return out;
}

Value default_value(const ColumnSpec& column) {
  const std::string_view type = column.type;
  if (type == "INTEGER") return Value::of(int64_t{0});
  if (type == "TEXT") return Value::text("");
  if (type == "BLOB") return Value::blob("");
  return {};
}

std::string row_bytes(std::string_view table, const Row& row) {
  std::string out;
  append_u64(out, table.size());
  out += table;
  append_u64(out, static_cast<uint64_t>(row.row));
  append_u64(out, static_cast<uint64_t>(row.seq));
  append_u64(out, row.values.size());
  for (const Value& value : row.values) {
    out += static_cast<char>(value.type);
    switch (value.type) {
      case Value::Type::kInteger:
        append_u64(out, static_cast<uint64_t>(value.integer));
        break;
      case Value::Type::kReal:
        append_u64(out, std::bit_cast<uint64_t>(value.real));
        break;
      case Value::Type::kText:
      case Value::Type::kBlob:
        append_u64(out, value.bytes.size());
        out += value.bytes;
        break;
      case Value::Type::kNull:
        break;
    }
  }
  return out;
}

RowSum row_sum(std::string_view table, const Row& row) {
  const Sha256Digest digest = sha256(as_bytes(row_bytes(table, row)));
  RowSum sum;
  std::copy_n(digest.begin(), sum.size(), sum.begin());
  return sum;
}

Result<Table> Table::attach(Database& database, const TableSpec& spec, int version) {
  Table table(spec, version);
  std::string names = "row, seq";
  for (size_t i = 0; i < table.n_columns_; ++i) names += fmt::format(", {}", spec.columns[i].name);
  names += ", sum";
  std::string marks = "?";
  for (size_t i = 1; i < table.n_columns_ + 3; ++i) marks += ", ?";
  const auto prepare = [&](Statement& statement, const std::string& sql) -> Result<void> {
    ASSIGN_OR_RETURN(statement, database.prepare(sql));
    return {};
  };
  RETURN_IF_ERROR(prepare(
      table.insert_, fmt::format("INSERT OR REPLACE INTO {} ({}) VALUES ({})", spec.name, names, marks)));
  RETURN_IF_ERROR(prepare(table.remove_, fmt::format("DELETE FROM {} WHERE row = ?", spec.name)));
  RETURN_IF_ERROR(
      prepare(table.remove_range_, fmt::format("DELETE FROM {} WHERE row BETWEEN ? AND ?", spec.name)));
  RETURN_IF_ERROR(
      prepare(table.sums_, fmt::format("SELECT sum FROM {} WHERE row BETWEEN ? AND ?", spec.name)));
  RETURN_IF_ERROR(
      prepare(table.select_,
              fmt::format("SELECT {} FROM {} WHERE row BETWEEN ? AND ? ORDER BY row", names, spec.name)));
  return table;
}

Result<void> Table::write(Row& row, int64_t seq, const RowSum* replaced) {
  CHECK(row.values.size() == n_columns_);
  row.seq = seq;
  row.sum = row_sum(spec_->name, row);
  StatementUse insert(insert_);
  insert->bind(1, row.row);
  insert->bind(2, row.seq);
  int parameter = 3;
  for (const Value& value : row.values) {
    switch (value.type) {
      case Value::Type::kNull:
        insert->bind_null(parameter);
        break;
      case Value::Type::kInteger:
        insert->bind(parameter, value.integer);
        break;
      case Value::Type::kReal:
        insert->bind_real(parameter, value.real);
        break;
      case Value::Type::kText:
        insert->bind_text(parameter, value.bytes);
        break;
      case Value::Type::kBlob:
        insert->bind_blob(parameter, as_bytes(value.bytes));
        break;
    }
    ++parameter;
  }
  insert->bind_blob(parameter, row.sum);
  RETURN_IF_ERROR(insert->step());
  if (replaced != nullptr) {
    xor_into(state.sums, *replaced);
  } else {
    ++state.count;
  }
  xor_into(state.sums, row.sum);
  state.last = seq;
  state.next_row = std::max(state.next_row, row.row + 1);
  return {};
}

void Table::count(const Row& row) {
  ++state.count;
  xor_into(state.sums, row.sum);
  state.last = std::max(state.last, row.seq);
  state.next_row = std::max(state.next_row, row.row + 1);
}

Result<void> Table::drop(int64_t row) {
  StatementUse remove(remove_);
  remove->bind(1, row);
  RETURN_IF_ERROR(remove->step());
  return {};
}

Result<void> Table::erase(int64_t row, const RowSum& sum) {
  RETURN_IF_ERROR(drop(row));
  xor_into(state.sums, sum);
  --state.count;
  return {};
}

Result<bool> Table::erase_range(int64_t first, int64_t n) {
  if (n == 0) return true;
  int64_t n_found = 0;
  {
    StatementUse sums(sums_);
    sums->bind(1, first);
    sums->bind(2, first + n - 1);
    for (;;) {
      ASSIGN_OR_RETURN(const bool more, sums->step());
      if (!more) break;
      ++n_found;
      if (is_sum(sums_, 0)) xor_into(state.sums, sum_of(sums_, 0));
    }
  }
  StatementUse remove(remove_range_);
  remove->bind(1, first);
  remove->bind(2, first + n - 1);
  RETURN_IF_ERROR(remove->step());
  state.count -= n_found;
  return n_found == n;
}

Result<void> Table::clear() {
  StatementUse remove(remove_range_);
  remove->bind(1, std::numeric_limits<int64_t>::min());
  remove->bind(2, std::numeric_limits<int64_t>::max());
  RETURN_IF_ERROR(remove->step());
  state.count = 0;
  state.sums = {};
  return {};
}

// The row under the statement; false if its checksum does not fit.
bool Table::take(const Statement& statement, Row& out) const {
  out.row = statement.integer(0);
  out.seq = statement.integer(1);
  out.values.resize(n_columns_);
  for (size_t i = 0; i < n_columns_; ++i) {
    const int column = static_cast<int>(i) + 2;
    Value& value = out.values[i];
    value = Value();
    switch (statement.column_type(column)) {
      case SQLITE_INTEGER:
        value.type = Value::Type::kInteger;
        value.integer = statement.integer(column);
        break;
      case SQLITE_FLOAT:
        value.type = Value::Type::kReal;
        value.real = statement.real(column);
        break;
      case SQLITE_TEXT:
        value.type = Value::Type::kText;
        value.bytes = statement.bytes(column);
        break;
      case SQLITE_BLOB:
        value.type = Value::Type::kBlob;
        value.bytes = statement.bytes(column);
        break;
      default:
        break;
    }
  }
  const int last = static_cast<int>(n_columns_) + 2;
  out.sum = {};
  if (is_sum(statement, last)) out.sum = sum_of(statement, last);
  const bool in_range = out.row >= 1 && out.row <= kMaxNumber && out.seq >= 0 && out.seq <= kMaxNumber;
  return in_range && is_sum(statement, last) && statement.column_type(1) == SQLITE_INTEGER &&
         out.sum == row_sum(spec_->name, out);
}

Result<Table::Found> Table::read(int64_t row, Row& out) {
  StatementUse select(select_);
  select->bind(1, row);
  select->bind(2, row);
  ASSIGN_OR_RETURN(const bool found, select->step());
  if (!found) return Found::kMissing;
  return take(select_, out) && out.row == row ? Found::kIntact : Found::kDamaged;
}

Result<void> Table::scan(int64_t first, int64_t last, const std::function<bool(Row&, bool)>& visit) {
  StatementUse select(select_);
  select->bind(1, first);
  select->bind(2, last);
  Row row;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, select->step());
    if (!more) return {};
    const bool intact = take(select_, row);
    if (!visit(row, intact)) return {};
  }
}

}  // namespace ruvltra
