// SQLite with errors as values. Everything else of store/ uses these two classes; nothing else calls its C
// functions except the backup and the fault tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "ruvltra/error.h"

struct sqlite3;
struct sqlite3_stmt;

namespace ruvltra {

// store.disk_full, store.corrupt, store.locked, store.too_large, else store.unavailable.
Error sqlite_error(sqlite3* db, int code, std::string_view doing);

// SQLite 3.7.0 to 3.51.2 can lose committed transactions of a WAL when two connections write or checkpoint at
// once (repaired in 3.51.3, and in 3.44.6 and 3.50.7 for their branches). `version` as
// sqlite3_libversion_number() gives it: 3040001 for 3.40.1.
bool has_wal_reset_fault(int version);
struct SqliteFacts {
  std::string version;
  bool has_wal_reset_fault = false;
};
SqliteFacts sqlite_facts();  // of the library in use

// A prepared statement. Parameters and columns are counted from 1 and from 0, as in SQLite.
class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  ~Statement();
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&& other) noexcept;

  // The bytes of text and blobs must stay until reset().
  void bind(int parameter, int64_t value);
  void bind_real(int parameter, double value);
  void bind_text(int parameter, std::string_view text);
  void bind_blob(int parameter, std::span<const uint8_t> bytes);
  void bind_null(int parameter);

  Result<bool> step();  // true: there is a row
  void reset();         // ends the read; parameters become NULL

  int column_type(int column) const;  // SQLITE_INTEGER, ...
  int64_t integer(int column) const;
  double real(int column) const;
  std::string_view bytes(int column) const;  // text or blob; until the next step() or reset()

 private:
  sqlite3_stmt* statement_ = nullptr;
};

// Resets a statement at the end of its use: a statement left in the middle holds a read transaction open,
// and a checkpoint cannot pass it.
class StatementUse {
 public:
  explicit StatementUse(Statement& statement) : statement_(statement) {}
  ~StatementUse() { statement_.reset(); }
  StatementUse(const StatementUse&) = delete;
  StatementUse& operator=(const StatementUse&) = delete;
  Statement* operator->() const { return &statement_; }

 private:
  Statement& statement_;
};

// One connection.  Thread safety: none; owned by one thread at a time.
class Database {
 public:
  Database() = default;
  ~Database();
  Database(Database&& other) noexcept;
  Database& operator=(Database&& other) noexcept;

  // The only connection of this file, WAL, every commit synced (docs/storage.md lists the settings and why).
  // `vfs` names another SQLite VFS, for fault tests; null: the system's.
  static Result<Database> open_exclusive(const std::filesystem::path& file, const char* vfs);
  // A private copy of a database file's bytes in memory.
  static Result<Database> open_copy(std::span<const uint8_t> bytes, const std::filesystem::path& name);

  Result<void> execute(const char* sql);
  Result<Statement> prepare(const std::string& sql);
  // The first column of the first row; 0 and "" if there is none.
  Result<int64_t> number(const char* sql);
  Result<std::string> text(const char* sql);

  // Writes the WAL's pages into the file. `truncate` empties the WAL as well; else what a reader still needs
  // stays.
  Result<void> checkpoint(bool truncate);
  int wal_pages() const { return wal_pages_ ? *wal_pages_ : 0; }
  bool in_transaction() const;
  sqlite3* handle() const { return db_; }
  bool is_open() const { return db_ != nullptr; }
  // With a last checkpoint, which removes the WAL. The destructor alone leaves the files as they are.
  Result<void> close();

 private:
  sqlite3* db_ = nullptr;
  std::unique_ptr<int> wal_pages_;
};

}  // namespace ruvltra
