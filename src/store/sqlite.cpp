#include "store/sqlite.h"

#include <sqlite3.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/fail.h"

namespace ruvltra {
namespace {

// Longest text or blob that is ever stored or believed: a damaged length must not become an allocation.
constexpr int kMaxValueBytes = 17 << 20;

int count_wal_pages(void* counter, sqlite3*, const char*, int pages) {
  *static_cast<int*>(counter) = pages;
  return SQLITE_OK;
}

// Settings that need no file: what a hostile file could otherwise switch on.
void harden(sqlite3* db) {
  sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, nullptr);
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
  sqlite3_limit(db, SQLITE_LIMIT_LENGTH, kMaxValueBytes);
  sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 1);  // VACUUM attaches its own
  sqlite3_limit(db, SQLITE_LIMIT_WORKER_THREADS, 0);
}

}  // namespace

Error sqlite_error(sqlite3* db, int code, std::string_view doing) {
  const int system_error = db != nullptr ? sqlite3_system_errno(db) : 0;
  const char* what = db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(code);
  const int primary = code & 0xff;
  const bool full = primary == SQLITE_FULL ||
                    (primary == SQLITE_IOERR && (system_error == ENOSPC || system_error == EDQUOT));
  if (full) return {ErrorKind::kIo, "store.disk_full", fmt::format("{}: the disk is full ({})", doing, what)};
  switch (primary) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR:  // a table or column that is not what this program made
      return {ErrorKind::kInput, "store.corrupt", fmt::format("{}: the file is damaged ({})", doing, what)};
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {ErrorKind::kBusy, "store.locked",
              fmt::format("{}: in use by another program ({})", doing, what)};
    case SQLITE_TOOBIG:
      return {ErrorKind::kInput, "store.too_large",
              fmt::format("{}: expected at most {} bytes a value, found more", doing, kMaxValueBytes)};
    default:
      return {ErrorKind::kIo, "store.unavailable",
              fmt::format("{}: {} (SQLite error {}{}{})", doing, what, code, system_error != 0 ? ", " : "",
                          system_error != 0 ? std::strerror(system_error) : "")};
  }
}

bool has_wal_reset_fault(int version) {
  const int minor = version / 1'000 % 1'000, patch = version % 1'000;
  if (version < 3'007'000 || version >= 3'051'003) return false;
  return !(minor == 44 && patch >= 6) && !(minor == 50 && patch >= 7);
}

SqliteFacts sqlite_facts() {
  return {sqlite3_libversion(), has_wal_reset_fault(sqlite3_libversion_number())};
}

Statement::~Statement() { sqlite3_finalize(statement_); }
Statement::Statement(Statement&& other) noexcept : statement_(std::exchange(other.statement_, nullptr)) {}
Statement& Statement::operator=(Statement&& other) noexcept {
  std::swap(statement_, other.statement_);
  return *this;
}

void Statement::bind(int parameter, int64_t value) { sqlite3_bind_int64(statement_, parameter, value); }
void Statement::bind_real(int parameter, double value) { sqlite3_bind_double(statement_, parameter, value); }
void Statement::bind_text(int parameter, std::string_view text) {
  // A null pointer would bind NULL.
  sqlite3_bind_text64(statement_, parameter, text.empty() ? "" : text.data(), text.size(), SQLITE_STATIC,
                      SQLITE_UTF8);
}
void Statement::bind_blob(int parameter, std::span<const uint8_t> bytes) {
  if (bytes.empty()) {
    sqlite3_bind_zeroblob(statement_, parameter, 0);
  } else {
    sqlite3_bind_blob64(statement_, parameter, bytes.data(), bytes.size(), SQLITE_STATIC);
  }
}
void Statement::bind_null(int parameter) { sqlite3_bind_null(statement_, parameter); }

Result<bool> Statement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return tl::unexpected(sqlite_error(sqlite3_db_handle(statement_), code, "learn.db"));
}

void Statement::reset() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

int Statement::column_type(int column) const { return sqlite3_column_type(statement_, column); }
int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_, column); }
double Statement::real(int column) const { return sqlite3_column_double(statement_, column); }
std::string_view Statement::bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const int n = sqlite3_column_bytes(statement_, column);
  if (data == nullptr || n <= 0) return {};
  return {static_cast<const char*>(data), static_cast<size_t>(n)};
}

Database::~Database() {
  if (db_ == nullptr) return;
  // Given up after an error: nothing more is written, and the next connection recovers from the WAL.
  sqlite3_db_config(db_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_close_v2(db_);
}
Database::Database(Database&& other) noexcept
    : db_(std::exchange(other.db_, nullptr)), wal_pages_(std::move(other.wal_pages_)) {}
Database& Database::operator=(Database&& other) noexcept {
  std::swap(db_, other.db_);
  std::swap(wal_pages_, other.wal_pages_);
  return *this;
}

Result<Database> Database::open_exclusive(const std::filesystem::path& file, const char* vfs) {
  Database database;
  constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(file.c_str(), &database.db_, kFlags, vfs);
  if (code != SQLITE_OK) return tl::unexpected(sqlite_error(database.db_, code, file.string()));
  harden(database.db_);
  // EXCLUSIVE before WAL: then there is no shared-memory index, no second connection can join, and the fault
  // of SQLite 3.7.0 .. 3.51.2 that needs two of them cannot happen.
  ASSIGN_OR_RETURN(const std::string locking, database.text("PRAGMA locking_mode=EXCLUSIVE"));
  if (locking != "exclusive" || sqlite3_threadsafe() == 0) {
    return fail(ErrorKind::kUnsupported, "store.topology",
                "SQLite {}: expected a connection of its own, found locking mode {}, threads {}",
                sqlite3_libversion(), ruvltra::quoted(locking), sqlite3_threadsafe());
  }
  for (const char* sql : {"PRAGMA locking_mode=EXCLUSIVE", "PRAGMA cell_size_check=ON", "PRAGMA mmap_size=0",
                          "PRAGMA secure_delete=ON", "PRAGMA trusted_schema=OFF", "PRAGMA temp_store=MEMORY",
                          "PRAGMA cache_size=-16384", "PRAGMA auto_vacuum=NONE"}) {
    RETURN_IF_ERROR(database.execute(sql));
  }
  ASSIGN_OR_RETURN(const std::string mode, database.text("PRAGMA journal_mode=WAL"));
  if (mode != "wal") {
    return fail(ErrorKind::kUnsupported, "store.no_wal", "{}: journal mode: expected wal, found {}",
                file.string(), ruvltra::quoted(mode));
  }
  for (const char* sql : {"PRAGMA synchronous=FULL", "PRAGMA wal_autocheckpoint=0"}) {
    RETURN_IF_ERROR(database.execute(sql));
  }
  database.wal_pages_ = std::make_unique<int>(0);
  sqlite3_wal_hook(database.db_, count_wal_pages, database.wal_pages_.get());
  return database;
}

Result<Database> Database::open_copy(std::span<const uint8_t> bytes, const std::filesystem::path& name) {
  // Bytes 18 and 19 of the header ask for a WAL, which a copy in memory does not have.
  constexpr size_t kWriteVersion = 18, kReadVersion = 19, kHeader = 100;
  if (bytes.size() < kHeader) {
    return fail("store.corrupt", "{}: expected a database of at least {} bytes, found {}", name.string(),
                kHeader, bytes.size());
  }
  Database database;
  const int code =
      sqlite3_open_v2(":memory:", &database.db_,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
  if (code != SQLITE_OK) return tl::unexpected(sqlite_error(database.db_, code, name.string()));
  auto* copy = static_cast<uint8_t*>(sqlite3_malloc64(bytes.size()));
  if (copy == nullptr) {
    return fail(ErrorKind::kMemory, "store.unavailable", "{}: no memory for {} bytes", name.string(),
                bytes.size());
  }
  std::memcpy(copy, bytes.data(), bytes.size());
  copy[kWriteVersion] = copy[kReadVersion] = 1;
  const auto size = static_cast<sqlite3_int64>(bytes.size());
  const int taken = sqlite3_deserialize(database.db_, "main", copy, size, size,
                                        SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE);
  if (taken != SQLITE_OK) return tl::unexpected(sqlite_error(database.db_, taken, name.string()));
  harden(database.db_);
  for (const char* sql : {"PRAGMA cell_size_check=ON", "PRAGMA trusted_schema=OFF"}) {
    RETURN_IF_ERROR(database.execute(sql));
  }
  return database;
}

Result<void> Database::execute(const char* sql) {
  const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return tl::unexpected(sqlite_error(db_, code, "learn.db"));
  return {};
}

Result<Statement> Database::prepare(const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(db_, sql.c_str(), static_cast<int>(sql.size()) + 1,
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return tl::unexpected(sqlite_error(db_, code, "learn.db"));
  return Statement(statement);
}

Result<int64_t> Database::number(const char* sql) {
  ASSIGN_OR_RETURN(Statement statement, prepare(sql));
  ASSIGN_OR_RETURN(const bool found, statement.step());
  return found ? statement.integer(0) : 0;
}

Result<std::string> Database::text(const char* sql) {
  ASSIGN_OR_RETURN(Statement statement, prepare(sql));
  ASSIGN_OR_RETURN(const bool found, statement.step());
  return found ? std::string(statement.bytes(0)) : std::string();
}

Result<void> Database::checkpoint(bool truncate) {
  const int mode = truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
  int pages = 0, done = 0;
  const int code = sqlite3_wal_checkpoint_v2(db_, nullptr, mode, &pages, &done);
  if (code != SQLITE_OK) return tl::unexpected(sqlite_error(db_, code, "learn.db: checkpoint"));
  if (pages == done) *wal_pages_ = 0;
  return {};
}

bool Database::in_transaction() const { return sqlite3_get_autocommit(db_) == 0; }

Result<void> Database::close() {
  if (db_ == nullptr) return {};
  const int code = sqlite3_close_v2(std::exchange(db_, nullptr));
  if (code != SQLITE_OK) return tl::unexpected(sqlite_error(nullptr, code, "learn.db: close"));
  return {};
}

}  // namespace ruvltra
