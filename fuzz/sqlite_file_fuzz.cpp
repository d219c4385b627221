// Any bytes as the store's database file: opening it gives an error or serves rows that were checked. A
// second time all checksums and accounts are made to fit, so that the decoders meet what a hand could have
// written.
#include <sqlite3.h>

#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "store/core.h"
#include "store/jsonl.h"

using namespace ruvltra;

namespace {

// Whatever is served can be written as a line and read again.
template <class Record>
void check_served(const Result<std::vector<Record>>& records) {
  if (!records) {
    CHECK(records.error().id.starts_with("store."));
    return;
  }
  for (const Record& record : *records) CHECK(parse_jsonl(to_jsonl(record), record.tenant).has_value());
}

void open_and_read(std::span<const uint8_t> bytes) {
  const auto core = StoreCore::open_copy(bytes, "fuzz", {});
  if (!core) {
    CHECK(core.error().id.starts_with("store."));
    return;
  }
  check_served((*core)->trajectories("", {}));
  check_served((*core)->feedback("", {}));
  check_served((*core)->decisions("", {}));
  const auto patterns = (*core)->patterns({});
  if (patterns) {
    // A crafted Beta below zero is the bank's to refuse; it is served as it was written.
    for (const PatternRecord& record : *patterns) CHECK(!to_jsonl(record).empty());
  }
  static_cast<void>((*core)->clusters().has_value());
  static_cast<void>((*core)->history("a", "", 10).has_value());
  static_cast<void>((*core)->live("a", "").has_value());
  static_cast<void>((*core)->value("router").has_value());
#ifdef RUVLTRA_PLANT_BUG
  CHECK((*core)->take_damage().empty());
#endif
}

// The same file with checksums and accounts that fit its rows; empty if it is no such file.
std::vector<uint8_t> repaired(std::span<const uint8_t> bytes) {
  auto database = Database::open_copy(bytes, "fuzz");
  if (!database) return {};
  const auto version = check_schema(*database, "fuzz");
  if (!version || *version != kSchemaVersion) return {};
  std::vector<Table> tables;
  for (int id = 0; id < kTables; ++id) {
    auto table = Table::attach(*database, table_spec(static_cast<TableId>(id)), *version);
    if (!table) return {};
    tables.push_back(*std::move(table));
  }
  for (int id = kTables - 1; id >= 0; --id) {
    Table& table = tables[static_cast<size_t>(id)];
    std::vector<Row> rows;
    constexpr size_t kMaxRows = 1'000;
    const auto scanned = table.scan(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(),
                                    [&](Row& row, bool) {
                                      rows.push_back(row);
                                      return rows.size() < kMaxRows;
                                    });
    if (!scanned) return {};
    if (id == kMeta) {
      rows.clear();
      for (size_t t = 0; t < tables.size(); ++t) {
        const TableState& state = tables[t].state;
        Row row;
        row.row = static_cast<int64_t>(t) + 1;
        row.values = encode_meta({tables[t].name(), state.count, state.last, state.sums});
        rows.push_back(row);
      }
    }
    for (Row& row : rows) {
      if (!table.write(row, row.seq, nullptr)) return {};
    }
  }
  sqlite3_int64 size = 0;
  unsigned char* serialized = sqlite3_serialize(database->handle(), "main", &size, 0);
  if (serialized == nullptr) return {};
  std::vector<uint8_t> out(serialized, serialized + size);
  sqlite3_free(serialized);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(data, size);
  open_and_read(bytes);
  if (const auto fitting = repaired(bytes); !fitting.empty()) open_and_read(fitting);
  return 0;
}
