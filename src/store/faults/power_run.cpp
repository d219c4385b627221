// Power cuts, on a disk made of the calls that a store has made.
#include <algorithm>
#include <map>
#include <memory>

#include "base/fail.h"
#include "store/faults/fault_vfs.h"
#include "store/faults/run_tools.h"
#include "store/files.h"
#include "store/high_water.h"

namespace ruvltra {
namespace {

constexpr size_t kSector = 512;

// A file of which some is on the disk for certain, and the rest may or may not be.
struct DiskFile {
  std::string synced;
  bool exists_for_certain = false;
  std::vector<const DiskEvent*> loose;  // writes and truncations since the last sync, in order
  // What had this name before, as long as the folder may still say so.
  std::shared_ptr<DiskFile> before;
};

void overwrite(std::string& content, uint64_t offset, std::string_view bytes) {
  if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size(), '\0');
  content.replace(offset, bytes.size(), bytes);
}

// The disk after the first `n` events, and what a power cut may leave of it.
class Disk {
 public:
  explicit Disk(const std::map<std::string, std::string>& files) {
    for (const auto& [name, content] : files) {
      auto file = std::make_shared<DiskFile>();
      file->synced = content;
      file->exists_for_certain = true;
      files_[name] = file;
    }
  }

  void apply(const DiskEvent& event) {
    auto& file = files_[event.file];
    if (file == nullptr) file = std::make_shared<DiskFile>();
    switch (event.kind) {
      case DiskEvent::Kind::kWrite:
      case DiskEvent::Kind::kTruncate:
        file->loose.push_back(&event);
        break;
      case DiskEvent::Kind::kSync:
        for (const DiskEvent* loose : file->loose) apply_whole(file->synced, *loose);
        file->loose.clear();
        // SQLite syncs the folder together with the first sync of a WAL.
        file->exists_for_certain = true;
        file->before = nullptr;
        break;
      case DiskEvent::Kind::kDelete: {
        auto next = std::make_shared<DiskFile>();
        next->before = file;
        file = next;
        break;
      }
    }
  }

  std::map<std::string, std::string> cut(FaultRandom& random) const {
    std::map<std::string, std::string> out;
    for (const auto& [name, file] : files_) {
      const DiskFile* left = file.get();
      while (left->before != nullptr && random.chance(2)) left = left->before.get();
      const bool is_there = left->exists_for_certain || (!left->loose.empty() && random.chance(2));
      if (!is_there) continue;
      out[name] = left_of(*left, random);
    }
    return out;
  }

 private:
  static void apply_whole(std::string& content, const DiskEvent& event) {
    if (event.kind == DiskEvent::Kind::kTruncate) {
      content.resize(event.offset, '\0');
    } else {
      overwrite(content, event.offset, event.bytes);
    }
  }

  // Each sector of what was not synced is there or not, in any order, and sometimes torn.
  static std::string left_of(const DiskFile& file, FaultRandom& random) {
    std::string content = file.synced;
    // From all of it to nothing of it: both ends are what happens most.
    const uint64_t keep = random.below(5);
    std::vector<const DiskEvent*> loose = file.loose;
    if (random.chance(2)) {
      for (size_t i = loose.size(); i > 1; --i) std::swap(loose[i - 1], loose[random.below(i)]);
    }
    for (const DiskEvent* event : loose) {
      if (event->kind == DiskEvent::Kind::kTruncate) {
        if (random.below(4) < keep) content.resize(event->offset, '\0');
        continue;
      }
      for (size_t at = 0; at < event->bytes.size();) {
        const uint64_t place = event->offset + at;
        const size_t n = std::min<size_t>(kSector - place % kSector, event->bytes.size() - at);
        std::string_view part = std::string_view(event->bytes).substr(at, n);
        if (random.chance(32)) part = part.substr(0, random.below(n));  // torn
        if (random.below(4) < keep && !part.empty()) overwrite(content, place, part);
        at += n;
      }
    }
    return content;
  }

  std::map<std::string, std::shared_ptr<DiskFile>> files_;
};

// How far the workload had come when so many events had happened.
struct Mark {
  size_t n_events;
  uint64_t acknowledged, begun;
  int64_t sequence;
};

constexpr uint64_t kChanges = 240;

class PowerRun {
 public:
  explicit PowerRun(const CrashOptions& options) : options_(options), random_(options.seed) {
    report_.name = "power cut";
    unsynced_.vfs = quick_disk_.name();
  }

  Result<CrashReport> run() {
    constexpr uint64_t kImagesPerWorkload = 1'500;
    while (report_.n < options_.n && !report_.stopped) {
      const uint64_t n = std::min(kImagesPerWorkload, options_.n - report_.n);
      RETURN_IF_ERROR(record_workload(options_.seed + report_.n));
      RETURN_IF_ERROR(cut_power(n));
    }
    return std::move(report_);
  }

 private:
  Result<void> record_workload(uint64_t seed) {
    RETURN_IF_ERROR(empty_folder(options_.folder));
    seed_ = seed;
    marks_.clear();
    FaultVfs vfs(false);
    StoreParts parts;
    parts.vfs = vfs.name();
    parts.checkpoint_pages = 40;
    { ASSIGN_OR_RETURN(const auto store, open_store(options_.folder, crash_options(), parts)); }
    files_.clear();
    const StoreFiles names{options_.folder};
    ASSIGN_OR_RETURN(files_["learn.db"], read_whole(names.database()));
    vfs.record(true);
    const CrashWorkload workload(seed, 0);
    uint64_t k = 0;
    while (k < kChanges) {
      // Closed and opened again three times in between.
      ASSIGN_OR_RETURN(const auto store, open_store(options_.folder, crash_options(), parts));
      for (const uint64_t end = k + kChanges / 4; k < end; ++k) {
        marks_.push_back({vfs.n_events(), k, k + 1, static_cast<int64_t>(store->stats().sequence)});
        RETURN_IF_ERROR(workload.apply(*store, k));
        marks_.push_back({vfs.n_events(), k + 1, k + 1, static_cast<int64_t>(store->stats().sequence)});
        if (k % 50 == 49) RETURN_IF_ERROR(store->checkpoint());
        if (k % 100 == 99) RETURN_IF_ERROR(store->delete_data("nobody"));  // rewrites the whole file
      }
    }
    report_.n_acknowledged += kChanges;
    events_ = vfs.take_events();
    return {};
  }

  Result<void> cut_power(uint64_t n) {
    std::vector<size_t> moments;
    std::vector<size_t> syncs;
    for (size_t i = 0; i < events_.size(); ++i) {
      if (events_[i].kind == DiskEvent::Kind::kSync) syncs.push_back(i);
    }
    for (uint64_t i = 0; i < n; ++i) {
      // Half of them just before or after a sync.
      const bool at_sync = random_.chance(2) && !syncs.empty();
      moments.push_back(at_sync ? syncs[random_.below(syncs.size())] + random_.below(2)
                                : random_.below(events_.size() + 1));
    }
    std::sort(moments.begin(), moments.end());
    Disk disk(files_);
    size_t applied = 0, mark = 0;
    Ledger ledger(seed_, 0);
    for (const size_t moment : moments) {
      for (; applied < moment; ++applied) disk.apply(events_[applied]);
      while (mark + 1 < marks_.size() && marks_[mark + 1].n_events <= moment) ++mark;
      RETURN_IF_ERROR(check_image(disk, marks_[mark], moment, ledger));
      ++report_.n;
      if (!tell(options_, report_, report_.n)) break;
    }
    return {};
  }

  Result<void> check_image(const Disk& disk, const Mark& mark, size_t moment, Ledger& ledger) {
    const std::filesystem::path folder = options_.folder / "image";
    RETURN_IF_ERROR(empty_folder(folder));
    for (const auto& [name, content] : disk.cut(random_)) {
      RETURN_IF_ERROR(write_whole(folder / name, content));
    }
    // Not synced either: nothing, or any number up to the last one.
    if (random_.chance(2)) {
      ASSIGN_OR_RETURN(HighWater high_water, HighWater::open(folder / "learn.seq"));
      const auto last = static_cast<uint64_t>(mark.sequence);
      high_water.write(static_cast<int64_t>(random_.chance(2) ? last : random_.below(last + 1)));
    }
    const std::string where =
        fmt::format("seed {}, image after {} of {} calls", seed_, moment, events_.size());
    auto store = open_timed(folder, unsynced_, report_);
    if (!store) {
      ++report_.n_refused;
      add_failure(report_, where + ": " + store.error().message);
      return {};
    }
    for (const DamagedRow& row : (*store)->damaged()) {
      ++report_.n_half;
      add_failure(report_, fmt::format("{}: {} row {}: {}", where, row.table, row.row, row.what));
    }
    ledger.advance_to(mark.acknowledged);
    Ledger after = ledger;
    after.check(**store, mark.acknowledged, mark.begun, where, report_);
    // And it goes on from there.
    if (const auto next = after.workload().apply(**store, after.k()); !next) {
      add_failure(report_, where + ": next change: " + next.error().message);
    }
    return {};
  }

  const CrashOptions& options_;
  FaultRandom random_;
  CrashReport report_;
  FaultVfs quick_disk_{false};  // what happens to an image on the real disk does not matter
  StoreParts unsynced_;
  uint64_t seed_ = 0;
  std::map<std::string, std::string> files_;
  std::vector<DiskEvent> events_;
  std::vector<Mark> marks_;
};

}  // namespace

Result<CrashReport> run_power_cuts(const CrashOptions& options) { return PowerRun(options).run(); }

}  // namespace ruvltra
