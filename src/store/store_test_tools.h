// What the tests of store/ share.
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "store/faults/samples.h"
#include "store/jsonl.h"
#include "store/store_parts.h"

namespace ruvltra {

inline std::unique_ptr<Store> open_in(const std::filesystem::path& folder, Store::Options options = {},
                                      const StoreParts& parts = {}) {
  options.backup_hours = 0;
  auto store = open_store(folder, options, parts);
  EXPECT_TRUE(store) << (store ? "" : store.error().message);
  return store ? *std::move(store) : nullptr;
}

template <class T>
void expect_ok(const Result<T>& result) {
  ASSERT_TRUE(result) << result.error().id << ": " << result.error().message;
}
template <class T>
void expect_error(const Result<T>& result, std::string_view id) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().id, id) << result.error().message;
}

// Equal records have equal lines: the JSONL holds every field but the cluster.
template <class Record>
void expect_same(const Record& found, const Record& expected) {
  EXPECT_EQ(to_jsonl(found), to_jsonl(expected));
}

inline std::vector<TrajectoryId> trajectory_ids(Store& store, const std::string& tenant) {
  std::vector<TrajectoryId> ids;
  expect_ok(store.each_trajectory(tenant, [&](const TrajectoryRecord& record) {
    ids.push_back(record.id);
    return true;
  }));
  return ids;
}

inline std::string file_bytes(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}
inline void write_bytes(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// SQL by another hand than the store's, on a store that is closed.
inline void run_sql(const std::filesystem::path& file, const std::string& sql) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(file.c_str(), &db), SQLITE_OK);
  char* message = nullptr;
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &message), SQLITE_OK) << message;
  sqlite3_free(message);
  sqlite3_close(db);
}

}  // namespace ruvltra
