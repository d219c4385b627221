// Files of an older schema version.
#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <cstring>

#include "store/store_test_tools.h"

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

// Schema version 1, written here by other code: it had no values, and patterns were never pinned.
class Version1 {
 public:
  explicit Version1(const fs::path& file) {
    EXPECT_EQ(sqlite3_open(file.c_str(), &db_), SQLITE_OK);
    const char* kTables[] = {
        "meta (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL, "
        "last "
        "INTEGER NOT NULL, sums BLOB NOT NULL, sum BLOB NOT NULL)",
        "trajectory (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, id BLOB NOT NULL, tenant TEXT NOT NULL, "
        "session "
        "TEXT NOT NULL, task_type TEXT NOT NULL, agent TEXT NOT NULL, verdict INTEGER NOT NULL, completion "
        "REAL, "
        "attempts INTEGER NOT NULL, said_quality REAL, said_by INTEGER NOT NULL, lesson TEXT NOT NULL, "
        "created_us "
        "INTEGER NOT NULL, quality REAL, source INTEGER NOT NULL, generation INTEGER NOT NULL, model_hash "
        "BLOB NOT "
        "NULL, generation_hash BLOB NOT NULL, provenance TEXT NOT NULL, ended_us INTEGER NOT NULL, "
        "expires_us INTEGER "
        "NOT NULL, split INTEGER NOT NULL, first_step INTEGER NOT NULL, n_steps INTEGER NOT NULL, sum BLOB "
        "NOT NULL)",
        "step (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, kind INTEGER NOT NULL, name TEXT NOT NULL, "
        "text TEXT "
        "NOT NULL, quality REAL, time_us INTEGER NOT NULL, duration_us INTEGER NOT NULL, space INTEGER NOT "
        "NULL, "
        "layers BLOB NOT NULL, hooks BLOB NOT NULL, sum BLOB NOT NULL)",
        "pattern (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, id BLOB NOT NULL, tenant TEXT NOT NULL, "
        "kind INTEGER "
        "NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, task TEXT NOT NULL, space INTEGER NOT NULL, "
        "embedding BLOB "
        "NOT NULL, a REAL, b REAL, created_us INTEGER NOT NULL, last_used_us INTEGER NOT NULL, uses INTEGER "
        "NOT NULL, "
        "origins BLOB NOT NULL, provenance TEXT NOT NULL, cluster INTEGER NOT NULL, sum BLOB NOT NULL)",
        "cluster (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, cluster INTEGER NOT NULL, space INTEGER NOT "
        "NULL, "
        "centroid BLOB NOT NULL, n_members INTEGER NOT NULL, sum BLOB NOT NULL)",
        "feedback (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, id BLOB NOT NULL, tenant TEXT NOT NULL, "
        "feedback_id "
        "TEXT NOT NULL, about INTEGER NOT NULL, target TEXT NOT NULL, quality REAL, success INTEGER NOT "
        "NULL, agent "
        "TEXT NOT NULL, correction TEXT NOT NULL, time_us INTEGER NOT NULL, sum BLOB NOT NULL)",
        "decision (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, id BLOB NOT NULL, tenant TEXT NOT NULL, "
        "task TEXT "
        "NOT NULL, context TEXT NOT NULL, space INTEGER NOT NULL, embedding BLOB NOT NULL, agent TEXT NOT "
        "NULL, method "
        "TEXT NOT NULL, probabilities BLOB NOT NULL, propensity REAL, created_us INTEGER NOT NULL, "
        "outcome_agent TEXT "
        "NOT NULL, outcome_quality REAL, output_tokens INTEGER NOT NULL, outcome_us INTEGER NOT NULL, sum "
        "BLOB NOT "
        "NULL)",
        "scope (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, tenant TEXT NOT NULL, session TEXT NOT NULL, "
        "live "
        "INTEGER NOT NULL, last INTEGER NOT NULL, sum BLOB NOT NULL)",
        "generation (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, tenant TEXT NOT NULL, session TEXT NOT "
        "NULL, number "
        "INTEGER NOT NULL, content BLOB NOT NULL, parent INTEGER NOT NULL, file TEXT NOT NULL, reason TEXT "
        "NOT NULL, "
        "report TEXT NOT NULL, created_us INTEGER NOT NULL, sum BLOB NOT NULL)",
        "tombstone (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, whose BLOB NOT NULL, time_us INTEGER NOT "
        "NULL, "
        "n_rows INTEGER NOT NULL, sum BLOB NOT NULL)",
        "quarantine (row INTEGER PRIMARY KEY, seq INTEGER NOT NULL, source TEXT NOT NULL, source_row INTEGER "
        "NOT NULL, "
        "what TEXT NOT NULL, time_us INTEGER NOT NULL, bytes BLOB NOT NULL, sum BLOB NOT NULL)"};
    for (const char* table : kTables) sql(std::string("CREATE TABLE ") + table + " STRICT");
    sql("PRAGMA application_id=1381387348; PRAGMA user_version=1");
  }
  ~Version1() { sqlite3_close(db_); }

  void sql(const std::string& text) {
    char* message = nullptr;
    EXPECT_EQ(sqlite3_exec(db_, text.c_str(), nullptr, nullptr, &message), SQLITE_OK) << text << message;
    sqlite3_free(message);
  }

  // A value of a row, in the encoding of docs/storage.md and as SQL.
  struct Cell {
    std::string bytes, sql;
  };
  static std::string u64(uint64_t value) {
    std::string out;
    for (int i = 0; i < 8; ++i) out += static_cast<char>(value >> 8 * i);
    return out;
  }
  static std::string hex(const std::string& bytes) {
    std::string out = "x'";
    for (const char c : bytes) {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(c));
      out += digits;
    }
    return out + "'";
  }
  static Cell integer(int64_t value) {
    return {std::string(1, '\1') + u64(static_cast<uint64_t>(value)), std::to_string(value)};
  }
  static Cell real(double value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return {std::string(1, '\2') + u64(bits), std::to_string(value)};
  }
  static Cell text(const std::string& value) {
    return {std::string(1, '\3') + u64(value.size()) + value, "'" + value + "'"};
  }
  static Cell blob(const std::string& value) {
    return {std::string(1, '\4') + u64(value.size()) + value, hex(value)};
  }

  // Returns the checksum.
  std::string insert(const std::string& table, int64_t row, int64_t seq, const std::vector<Cell>& cells) {
    std::string bytes = u64(table.size()) + table + u64(static_cast<uint64_t>(row)) +
                        u64(static_cast<uint64_t>(seq)) + u64(cells.size());
    std::string values = std::to_string(row) + ", " + std::to_string(seq);
    for (const Cell& cell : cells) {
      bytes += cell.bytes;
      values += ", " + cell.sql;
    }
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
    const std::string sum(reinterpret_cast<const char*>(digest), 16);
    sql("INSERT INTO " + table + " VALUES (" + values + ", " + hex(sum) + ")");
    return sum;
  }

 private:
  sqlite3* db_ = nullptr;
};

std::string xor_of(const std::vector<std::string>& sums) {
  std::string out(16, '\0');
  for (const std::string& sum : sums) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(out[i] ^ sum[i]);
  }
  return out;
}

constexpr const char* kNames[] = {"meta",       "trajectory", "step",      "pattern",
                                  "cluster",    "feedback",   "decision",  "scope",
                                  "generation", "tombstone",  "quarantine"};

// Three patterns, of which the second is damaged if asked for.
void make_version_1(const fs::path& file, bool damaged) {
  Version1 made(file);
  std::vector<std::string> sums;
  for (int64_t n = 1; n <= 3; ++n) {
    const std::string id(reinterpret_cast<const char*>(sample_id(static_cast<uint64_t>(n), 1).bytes.data()),
                         16);
    using V = Version1;
    sums.push_back(
        made.insert("pattern", n, 10 + n,
                    {V::blob(id), V::text("local"), V::integer(2), V::text("title"), V::text("text"),
                     V::text("task"), V::integer(5), V::blob(""), V::real(2.5), V::real(1), V::integer(7),
                     V::integer(8), V::integer(9), V::blob(""), V::text("caller"), V::integer(-1)}));
  }
  for (int64_t t = 0; t < 11; ++t) {
    const bool is_pattern = std::string_view(kNames[t]) == "pattern";
    made.insert("meta", t + 1, 13,
                {Version1::text(kNames[t]), Version1::integer(is_pattern ? 3 : 0),
                 Version1::integer(is_pattern || t == 0 ? 13 : 0),
                 Version1::blob(is_pattern ? xor_of(sums) : std::string(16, '\0'))});
  }
  if (damaged) made.sql("UPDATE pattern SET text = 'test' WHERE row = 2");
}

TEST(StoreMigration, FromVersion1) {
  const ScratchFolder folder("migrate");
  const fs::path file = folder.path() / "learn.db";
  make_version_1(file, false);
  for (int round = 0; round < 2; ++round) {
    const auto store = open_in(folder.path());
    EXPECT_TRUE(store->damaged().empty());
    EXPECT_EQ(store->stats().n_patterns, 3u);
    EXPECT_GE(store->stats().sequence, 13u);
    const auto pattern = store->pattern(sample_id(2, 1));
    expect_ok(pattern);
    EXPECT_EQ(pattern->a, 2.5);
    EXPECT_EQ(pattern->uses, 9u);
    EXPECT_EQ(pattern->when, "task");
    EXPECT_EQ(pattern->kind, PatternKind::kAvoid);
    EXPECT_FALSE(pattern->pinned);
    EXPECT_EQ(pattern->session, "");
    expect_ok(store->put_value("new", std::vector<uint8_t>{1}));
  }
  sqlite3* db = nullptr;
  sqlite3_open(file.c_str(), &db);
  sqlite3_stmt* statement = nullptr;
  sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &statement, nullptr);
  ASSERT_EQ(sqlite3_step(statement), SQLITE_ROW);
  EXPECT_EQ(sqlite3_column_int(statement, 0), 3);
  sqlite3_finalize(statement);
  sqlite3_close(db);
}

// A copy in memory is migrated there; the file stays what it was.
TEST(StoreMigration, AReaderLeavesTheFileAlone) {
  const ScratchFolder folder("migrateread");
  make_version_1(folder.path() / "learn.db", false);
  const std::string before = file_bytes(folder.path() / "learn.db");
  Store::Options options;
  options.read_only = true;
  EXPECT_EQ(open_in(folder.path(), options)->stats().n_patterns, 3u);
  EXPECT_EQ(file_bytes(folder.path() / "learn.db"), before);
}

TEST(StoreMigration, ADamagedRowDoesNotBecomeAGoodOne) {
  const ScratchFolder folder("migratebad");
  make_version_1(folder.path() / "learn.db", true);
  {
    const auto store = open_in(folder.path());
    ASSERT_EQ(store->damaged().size(), 1u);
    EXPECT_EQ(store->damaged()[0].row, 2);
    EXPECT_EQ(store->stats().n_patterns, 2u);
    EXPECT_EQ(store->stats().n_quarantined, 1u);
  }
  EXPECT_TRUE(open_in(folder.path())->damaged().empty());
}

}  // namespace
}  // namespace ruvltra
