// Files: locks, permissions, copies, damage, versions, and what a deletion leaves behind.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "store/faults/workload.h"
#include "store/sqlite.h"
#include "store/store_test_tools.h"

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> all_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  return files;
}

TEST(StoreFiles, PrivateAndWithoutSharedMemory) {
  const ScratchFolder folder("files");
  const fs::path data = folder.path() / "data";
  const auto store = open_in(data);
  expect_ok(store->put_trajectory(sample_trajectory(1)));
  expect_ok(store->backup_now());
  struct stat info;
  ASSERT_EQ(stat(data.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  bool wal = false;
  for (const fs::path& file : all_files(data)) {
    ASSERT_EQ(stat(file.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u) << file;
    wal = wal || file.filename() == "learn.db-wal";
    EXPECT_NE(file.filename(), "learn.db-shm");
  }
  EXPECT_TRUE(wal);
}

TEST(StoreFiles, SettingsAreWhatTheyShouldBe) {
  const ScratchFolder folder("settings");
  const fs::path file = folder.path() / "x.db";
  write_bytes(file, "");
  auto database = Database::open_exclusive(file, nullptr);
  expect_ok(database);
  EXPECT_EQ(*database->text("PRAGMA journal_mode"), "wal");
  EXPECT_EQ(*database->text("PRAGMA locking_mode"), "exclusive");
  EXPECT_EQ(*database->number("PRAGMA synchronous"), 2);
  EXPECT_EQ(*database->number("PRAGMA secure_delete"), 1);
  EXPECT_EQ(*database->number("PRAGMA trusted_schema"), 0);
  EXPECT_EQ(*database->number("PRAGMA cell_size_check"), 1);
  EXPECT_EQ(*database->number("PRAGMA mmap_size"), 0);
  expect_ok(database->execute("CREATE TABLE t (x)"));
  // DEFENSIVE: the schema cannot be written by hand.
  expect_ok(database->execute("PRAGMA writable_schema=ON"));
  EXPECT_FALSE(database->execute("UPDATE sqlite_schema SET sql = 'x'"));
}

TEST(StoreFiles, OneOwner) {
  const ScratchFolder folder("lock");
  {
    const auto store = open_in(folder.path());
    const auto second = Store::open(folder.path());
    expect_error(second, "store.locked");
    EXPECT_NE(second.error().message.find(std::to_string(getpid())), std::string::npos);
  }
  expect_ok(Store::open(folder.path()));
}

TEST(StoreFiles, ReadersBesideTheWriterSeeTheLastCheckpoint) {
  const ScratchFolder folder("reader");
  const auto store = open_in(folder.path());
  expect_ok(store->put_trajectory(sample_trajectory(1)));
  expect_ok(store->checkpoint());
  expect_ok(store->put_trajectory(sample_trajectory(2)));
  Store::Options options;
  options.read_only = true;
  const auto reader = open_in(folder.path(), options);
  EXPECT_EQ(trajectory_ids(*reader, "").size(), 1u);
  expect_same(*reader->trajectory("local", sample_id(1)), sample_trajectory(1));
  expect_error(reader->put_trajectory(sample_trajectory(3)), "store.read_only");
  expect_error(reader->delete_data("local"), "store.read_only");
  expect_error(Store::open(folder.path() / "none", options), "store.not_found");
}

TEST(StoreFiles, BackupsAreKeptAndPutBack) {
  const ScratchFolder folder("backup");
  {
    const auto store = open_in(folder.path());
    for (uint64_t n = 0; n < 4; ++n) {
      expect_ok(store->put_trajectory(sample_trajectory(n)));
      expect_ok(store->backup_now());
    }
    expect_ok(store->put_trajectory(sample_trajectory(9)));
  }
  std::vector<fs::path> backups = all_files(folder.path() / "backups");
  std::sort(backups.begin(), backups.end());
  ASSERT_EQ(backups.size(), 2u);
  // The newest is damaged as well: the one before it is the last good one.
  std::string bytes = file_bytes(backups[1]);
  const size_t in_a_row = bytes.find("lesson 3");
  ASSERT_NE(in_a_row, std::string::npos);
  bytes[in_a_row] = static_cast<char>(bytes[in_a_row] ^ 16);
  write_bytes(backups[1], bytes);
  write_bytes(folder.path() / "learn.db",
              "this is no database, but it is a file of some length" + std::string(9'000, '.'));

  expect_error(Store::open(folder.path()), "store.corrupt");
  Store::Options options;
  options.recover = true;
  {
    const auto store = open_in(folder.path(), options);
    EXPECT_EQ(trajectory_ids(*store, "").size(), 3u);
    ASSERT_EQ(store->damaged().size(), 1u);
    EXPECT_NE(store->damaged()[0].what.find(backups[0].string()), std::string::npos);
  }
  EXPECT_TRUE(open_in(folder.path())->damaged().empty());
  const auto files = all_files(folder.path());
  EXPECT_EQ(std::count_if(files.begin(), files.end(),
                          [](const fs::path& f) { return f.string().find(".damaged") != std::string::npos; }),
            1);
}

TEST(StoreFiles, WithoutABackupItBeginsEmpty) {
  const ScratchFolder folder("nobackup");
  { expect_ok(open_in(folder.path())->put_trajectory(sample_trajectory(1))); }
  write_bytes(folder.path() / "learn.db", "");  // an empty file is a valid, empty database to SQLite
  expect_error(Store::open(folder.path()), "store.corrupt");
  expect_ok(restore_store(folder.path()));
  EXPECT_EQ(trajectory_ids(*open_in(folder.path()), "").size(), 0u);
}

// Changes go on while a copy is made, and the copy is of one moment.
TEST(StoreFiles, BackupWhileWriting) {
  const ScratchFolder folder("busybackup");
  const auto store = open_in(folder.path());
  for (uint64_t n = 0; n < 400; ++n) {
    expect_ok(store->put_trajectory_async(sample_trajectory(n), [](const Result<void>& r) { expect_ok(r); }));
  }
  for (int round = 0; round < 3; ++round) {
    std::thread writer([&] {
      for (uint64_t n = 0; n < 20; ++n) {
        expect_ok(store->put_trajectory(sample_trajectory(1'000 + 100 * static_cast<uint64_t>(round) + n)));
      }
    });
    expect_ok(store->backup(folder.path() / "copy.db"));
    writer.join();
  }
  EXPECT_GE(fs::file_size(folder.path() / "copy.db"), 400'000u);
}

TEST(StoreFiles, ADamagedRowIsSetAsideOnceAndNotServed) {
  const ScratchFolder folder("damage");
  {
    const auto store = open_in(folder.path());
    for (uint64_t n = 0; n < 20; ++n) expect_ok(store->put_trajectory(sample_trajectory(n)));
    expect_ok(store->put_patterns(std::vector{sample_pattern(1), sample_pattern(2)}));
  }
  const fs::path file = folder.path() / "learn.db";
  std::string bytes = file_bytes(file);
  const std::string lesson = "lesson 7 ";
  const size_t place = bytes.find(lesson);
  ASSERT_NE(place, std::string::npos);
  bytes[place] = 'L';
  write_bytes(file, bytes);
  {
    const auto store = open_in(folder.path());
    const auto damaged = store->damaged();
    // The trajectory, and its three steps, which have lost it.
    ASSERT_EQ(damaged.size(), 4u);
    EXPECT_EQ(damaged[0].table, "trajectory");
    EXPECT_EQ(damaged[0].row, 8);
    EXPECT_EQ(store->stats().n_quarantined, 4u);
    expect_error(store->trajectory("local", sample_id(7)), "store.not_found");
    EXPECT_EQ(trajectory_ids(*store, "").size(), 19u);
    expect_same(*store->trajectory("local", sample_id(8)), sample_trajectory(8));
  }
  EXPECT_TRUE(open_in(folder.path())->damaged().empty());  // reported once, and kept
  EXPECT_NE(file_bytes(file).find("Lesson 7 "), std::string::npos);
}

// More than SQLite keeps in memory, so that a row is read from the disk again while the store is open.
TEST(StoreFiles, DamageIsNoticedWhileItIsOpen) {
  const ScratchFolder folder("live");
  const auto store = open_in(folder.path());
  constexpr uint64_t kRecords = 1'400;
  for (uint64_t n = 0; n < kRecords; ++n) {
    TrajectoryRecord record = sample_trajectory(n, "a", 0);
    record.body.lesson += std::string(16'000, static_cast<char>('a' + n % 26));
    expect_ok(store->put_trajectory_async(record, [](const Result<void>& r) { expect_ok(r); }));
  }
  expect_ok(store->checkpoint());
  const int file = open((folder.path() / "learn.db").c_str(), O_RDWR | O_CLOEXEC);
  const std::string bytes = file_bytes(folder.path() / "learn.db");
  const size_t place = bytes.find("lesson 7 ");
  ASSERT_NE(place, std::string::npos);
  ASSERT_EQ(pwrite(file, "L", 1, static_cast<off_t>(place)), 1);
  expect_error(store->trajectory("a", sample_id(7)), "store.damaged");
  ASSERT_EQ(store->damaged().size(), 1u);
  EXPECT_EQ(store->damaged()[0].table, "trajectory");
  EXPECT_EQ(store->stats().n_quarantined, 1u);
  expect_error(store->trajectory("a", sample_id(7)), "store.not_found");
  EXPECT_EQ(trajectory_ids(*store, "a").size(), kRecords - 1);
  expect_ok(store->put_trajectory(sample_trajectory(7, "a")));
  expect_ok(store->trajectory("a", sample_id(7)));
  close(file);
}

TEST(StoreFiles, ALostRowIsNoticed) {
  const ScratchFolder folder("lost");
  {
    const auto store = open_in(folder.path());
    for (uint64_t n = 0; n < 5; ++n) expect_ok(store->put_trajectory(sample_trajectory(n)));
    expect_ok(store->put_patterns(std::vector{sample_pattern(1), sample_pattern(2)}));
  }
  run_sql(folder.path() / "learn.db", "DELETE FROM pattern WHERE row = 1");
  const auto store = open_in(folder.path());
  ASSERT_EQ(store->damaged().size(), 1u);
  EXPECT_EQ(store->damaged()[0].table, "pattern");
  EXPECT_EQ(store->damaged()[0].what, "expected 2 rows, found 1");
}

// A row that was replaced by an older copy of itself has a good checksum; the account knows better.
TEST(StoreFiles, AnOldRowIsNoticed) {
  const ScratchFolder folder("old");
  const fs::path file = folder.path() / "learn.db";
  { expect_ok(open_in(folder.path())->put_value("v", std::vector<uint8_t>{1})); }
  run_sql(file, "CREATE TABLE kept AS SELECT * FROM value");
  run_sql(file, "ATTACH '" + (folder.path() / "kept.db").string() +
                    "' AS k; CREATE TABLE k.kept AS SELECT * FROM kept; DROP TABLE main.kept");
  { expect_ok(open_in(folder.path())->put_value("v", std::vector<uint8_t>{2})); }
  run_sql(file, "ATTACH '" + (folder.path() / "kept.db").string() +
                    "' AS k; DELETE FROM value; INSERT INTO value SELECT * FROM k.kept");
  const auto store = open_in(folder.path());
  ASSERT_EQ(store->damaged().size(), 1u);
  EXPECT_EQ(store->damaged()[0].what, "the rows are not those that were last committed");
}

TEST(StoreFiles, StrangeFilesAreRefused) {
  const ScratchFolder folder("strange");
  const fs::path file = folder.path() / "learn.db";
  { open_in(folder.path()); }
  const std::string good = file_bytes(file);
  const auto refused = [&](const std::string& sql, std::string_view id) {
    write_bytes(file, good);
    run_sql(file, sql);
    expect_error(Store::open(folder.path()), id);
  };
  refused("PRAGMA user_version=" + std::to_string(kSchemaVersion + 1), "store.newer_schema");
  refused("PRAGMA user_version=2", "store.corrupt");
  refused("PRAGMA user_version=1", "store.corrupt");
  refused("PRAGMA application_id=7", "store.corrupt");
  refused("CREATE TABLE extra (x)", "store.corrupt");
  refused("CREATE TRIGGER t AFTER INSERT ON value BEGIN DELETE FROM pattern; END", "store.corrupt");
  refused("CREATE VIEW v AS SELECT 1", "store.corrupt");
  refused("DROP TABLE decision", "store.corrupt");
  refused("ALTER TABLE decision RENAME COLUMN task TO job", "store.corrupt");
  // The same columns, but any type goes into them.
  refused("DROP TABLE value; CREATE TABLE value (row INTEGER PRIMARY KEY, seq, name, bytes, sum)",
          "store.corrupt");
  fs::remove(file);
  fs::create_directory(file);
  EXPECT_FALSE(Store::open(folder.path()));
}

// Every row is intact, but the next change would overwrite one: the list of free pages names a table's page.
TEST(StoreFiles, ABrokenFreeListIsNoticed) {
  const ScratchFolder folder("freelist");
  const fs::path file = folder.path() / "learn.db";
  { expect_ok(open_in(folder.path())->put_trajectory(sample_trajectory(1))); }
  std::string bytes = file_bytes(file);
  const char kFirstFreePageAndCount[] = {0, 0, 0, 3, 0, 0, 0, 1};
  bytes.replace(32, sizeof kFirstFreePageAndCount, kFirstFreePageAndCount, sizeof kFirstFreePageAndCount);
  write_bytes(file, bytes);
  expect_error(Store::open(folder.path()), "store.corrupt");
}

// Rows that grow move their neighbours to other pages, and leave copies where those were.
TEST(StoreFiles, DeletedDataIsNotInWhatWasMoved) {
  const ScratchFolder folder("moved");
  const std::string marker = "MARKER-4712-MARKER";
  const auto store = open_in(folder.path());
  std::vector<PatternRecord> patterns;
  for (uint64_t n = 0; n < 300; ++n) {
    patterns.push_back(sample_pattern(n, n % 2 == 0 ? "stays" : "gone"));
    if (n % 2 == 1) patterns.back().text += marker;
  }
  expect_ok(store->put_patterns(patterns));
  FaultRandom random(1);
  const auto n_markers = [&] {
    const std::string bytes = file_bytes(folder.path() / "learn.db");
    size_t n = 0;
    for (size_t at = bytes.find(marker); at != std::string::npos; at = bytes.find(marker, at + 1)) ++n;
    return n;
  };
  for (int i = 0; i < 2'000 && n_markers() <= 151; ++i) {
    const uint64_t n = 2 * random.below(150);
    patterns[n].text.assign(1 + random.below(3'000), 't');
    expect_ok(store->put_patterns(std::vector{patterns[n]}));
    if (i % 20 == 19) expect_ok(store->checkpoint());
  }
  EXPECT_GT(n_markers(), 151u) << "nothing was left behind: this test sees nothing";
  const auto report = store->delete_data("gone");
  expect_ok(report);
  EXPECT_EQ(report->n_patterns, 150u);
  for (const fs::path& file : all_files(folder.path())) {
    EXPECT_EQ(file_bytes(file).find(marker), std::string::npos) << file;
  }
}

TEST(StoreFiles, DeletedDataIsNowhere) {
  const ScratchFolder folder("delete");
  const std::string marker = "MARKER-4711-MARKER";
  const auto mark = [&](auto record, auto&& place) {
    place(record) += marker;
    return record;
  };
  const auto fill = [&](Store& store, const std::string& tenant, uint64_t first) {
    for (uint64_t n = first; n < first + 60; ++n) {
      TrajectoryRecord record = sample_trajectory(n, tenant);
      if (tenant == "gone") {
        record.body.lesson += marker + std::string(n * 50, 'z') + marker;
        record.body.steps[0].text += marker;
        record.session += marker;
      }
      expect_ok(store.put_trajectory(record));
    }
    const bool marked = tenant == "gone";
    for (uint64_t n = first; n < first + 10; ++n) {
      PatternRecord pattern = sample_pattern(n, tenant);
      FeedbackRecord feedback = sample_feedback(n, tenant);
      DecisionRecord decision = sample_decision(n, tenant);
      if (marked) {
        pattern = mark(pattern, [](PatternRecord& r) -> std::string& { return r.text; });
        feedback = mark(feedback, [](FeedbackRecord& r) -> std::string& { return r.correction; });
        decision = mark(decision, [](DecisionRecord& r) -> std::string& { return r.task; });
      }
      expect_ok(store.put_patterns(std::vector{pattern}));
      expect_ok(store.put_feedback(feedback));
      expect_ok(store.put_decision(decision));
      expect_ok(
          store.put_value("tenant/" + tenant + "/v" + std::to_string(n),
                          std::vector<uint8_t>(marker.begin(), marked ? marker.end() : marker.begin())));
    }
    GenerationRecord generation;
    generation.tenant = tenant;
    generation.report = marked ? marker : "";
    expect_ok(store.publish(generation, 0));
  };
  const auto n_files_with = [&] {
    int n = 0;
    for (const fs::path& file : all_files(folder.path())) {
      const std::string bytes = file_bytes(file);
      n += bytes.find(marker) != std::string::npos || bytes.find("gone") != std::string::npos;
    }
    return n;
  };
  const auto store = open_in(folder.path());
  fill(*store, "stays", 0);
  fill(*store, "gone", 500);
  fill(*store, "also", 1'000);
  expect_ok(store->replace_clusters(std::vector{ClusterRecord{0, 1, sample_vector(1), 2}},
                                    std::vector<std::pair<PatternId, int32_t>>{{sample_id(3, 1), 0}}));
  expect_ok(store->backup_now());
  expect_ok(store->checkpoint());
  expect_ok(store->put_trajectory(sample_trajectory(560, "gone")));
  write_bytes(folder.path() / "learn.db.damaged-1", marker);
  EXPECT_GE(n_files_with(), 3);

  const auto report = store->delete_data("gone");
  expect_ok(report);
  EXPECT_EQ(report->n_trajectories, 61u);
  EXPECT_EQ(report->n_patterns, 10u);
  EXPECT_EQ(report->n_feedback, 10u);
  EXPECT_EQ(report->n_decisions, 10u);
  EXPECT_EQ(report->n_generations, 1u);
  EXPECT_EQ(n_files_with(), 0);
  EXPECT_EQ(all_files(folder.path() / "backups").size(), 1u);
  EXPECT_EQ(trajectory_ids(*store, "gone").size(), 0u);
  EXPECT_TRUE(store->clusters()->empty());
  EXPECT_EQ(store->pattern(sample_id(3, 1))->cluster, -1);
  for (uint64_t n = 0; n < 60; ++n) {
    expect_same(*store->trajectory("stays", sample_id(n)), sample_trajectory(n, "stays"));
  }
  EXPECT_TRUE(store->verify()->empty());

  // A session: its trajectories, and what was made of them.
  const size_t n_before = trajectory_ids(*store, "stays").size();
  const auto session = store->delete_data("stays", "session-1");
  expect_ok(session);
  EXPECT_EQ(session->n_trajectories, 20u);
  EXPECT_GT(session->n_patterns, 0u);
  EXPECT_LT(session->n_patterns, 10u);
  EXPECT_EQ(trajectory_ids(*store, "stays").size(), n_before - 20);
  EXPECT_EQ(trajectory_ids(*store, "also").size(), 60u);
}

TEST(StoreFiles, ExportAndImport) {
  const ScratchFolder folder("jsonl");
  const auto from = open_in(folder.path() / "from");
  std::vector<PatternRecord> patterns;
  for (uint64_t n = 0; n < 7; ++n) {
    expect_ok(from->put_trajectory(sample_trajectory(n, "a")));
    patterns.push_back(sample_pattern(n, "a"));
    expect_ok(from->put_feedback(sample_feedback(n, "a")));
    DecisionRecord decision = sample_decision(n, "a");
    if (n % 2 == 0) decision.outcome_quality = 1.0 / 3;
    expect_ok(from->put_decision(decision));
  }
  expect_ok(from->put_patterns(patterns));
  expect_ok(from->put_trajectory(sample_trajectory(100, "b")));
  const auto lines_of = [](Store& store, const std::string& tenant) {
    std::string text;
    const auto n = store.export_jsonl(tenant, [&](std::string_view line) -> Result<void> {
      text += line;
      text += '\n';
      return {};
    });
    expect_ok(n);
    EXPECT_EQ(static_cast<size_t>(std::count(text.begin(), text.end(), '\n')), *n);
    return text;
  };
  const std::string text = lines_of(*from, "a");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 28);
  EXPECT_EQ(lines_of(*from, "").size() > text.size(), true);

  const auto to = open_in(folder.path() / "to");
  EXPECT_EQ(*to->import_jsonl(text, "a"), 28u);
  EXPECT_EQ(lines_of(*to, "a"), text);
  EXPECT_EQ(*to->import_jsonl(text, "a"), 0u);  // the same again is nothing new

  // Somebody else's: other ids of the same age, and what points to them follows.
  EXPECT_EQ(*to->import_jsonl(text, "c"), 28u);
  EXPECT_EQ(*to->import_jsonl(text, "c"), 0u);
  const auto ids = trajectory_ids(*to, "c");
  ASSERT_EQ(ids.size(), 7u);
  EXPECT_NE(ids[0], sample_id(0));
  expect_error(to->trajectory("c", sample_id(0)), "store.not_found");
  size_t n_pointing = 0;
  expect_ok(to->each_pattern([&](const PatternRecord& record) {
    if (record.tenant == "c" && record.origins[0] == ids[0]) ++n_pointing;
    return true;
  }));
  EXPECT_EQ(n_pointing, 1u);
  expect_same(*to->trajectory("a", sample_id(3)), sample_trajectory(3, "a"));
}

TEST(StoreFiles, ImportChecksEveryLineFirst) {
  const ScratchFolder folder("import");
  const auto store = open_in(folder.path());
  const std::string good = to_jsonl(sample_trajectory(1)) + "\n" + to_jsonl(sample_pattern(1)) + "\n\n";
  const auto refused = [&](const std::string& line, const std::string& part) {
    const auto result = store->import_jsonl(good + line, "a");
    expect_error(result, "store.import");
    const std::string message = result ? "" : result.error().message;
    EXPECT_NE(message.find(part), std::string::npos) << message;
    EXPECT_EQ(store->stats().n_trajectories, 0u);
  };
  const auto with = [](std::string line, const std::string& from, const std::string& to) {
    const size_t place = line.find(from);
    EXPECT_NE(place, std::string::npos) << from;
    return line.replace(place, from.size(), to);
  };
  const std::string pattern = to_jsonl(sample_pattern(2));
  const std::string trajectory = to_jsonl(sample_trajectory(2));
  refused("nonsense", "line 4");
  refused("[]", "expected an object");
  refused("{\"kind\":\"adapter\"}", "kind");
  refused(with(pattern, "\"uses\":2", "\"uses\":-2"), "uses");
  refused(with(pattern, "\"uses\":2", "\"uses\":4294967296"), "uses");
  refused(with(pattern, "\"uses\":2", "\"uses\":\"2\""), "uses");
  refused(with(pattern, "\"uses\"", "\"misused\""), "misused");
  refused(with(pattern, "\"a\":1.2", "\"a\":0"), "a, b");
  refused(with(pattern, "avoid", "void"), "pattern_kind");
  refused(with(pattern, "\"embedding\":\"", "\"embedding\":\"AAAA"), "embedding");
  refused(with(pattern, "\"embedding\":\"", "\"embedding\":\"!"), "embedding");
  const std::string zeros(684, 'A');  // in base64, of 512 bytes, but for the padding
  const size_t place = pattern.find("\"embedding\":\"") + 13;
  const std::string own = pattern.substr(place, pattern.find('"', place) - place);
  refused(with(pattern, own, zeros.substr(0, 682) + "A="), "embedding: expected a unit vector");
  refused(with(pattern, "\"session\":\"session-2\"", "\"session\":2"), "session");
  refused(with(to_jsonl(sample_feedback(2)), "feedback-2", std::string(129, 'f')), "feedback_id");
  refused(with(pattern, "\"id\":\"00", "\"id\":\"0g"), "id");
  refused(with(trajectory, "\"layers\":[3,7]", "\"layers\":[3]"), "hooks");
  refused(with(trajectory, "\"split\":\"train\"", "\"split\":\"test\""), "split");
  refused(with(trajectory, "recovered", "covered"), "verdict");
  EXPECT_EQ(*store->import_jsonl(good, "a"), 2u);
  // Written before there were sessions.
  EXPECT_EQ(*store->import_jsonl(with(pattern, "\"session\":\"session-2\",", ""), "a"), 1u);
  EXPECT_EQ(store->pattern(sample_id(2, 1))->session, "");
}

}  // namespace
}  // namespace ruvltra
