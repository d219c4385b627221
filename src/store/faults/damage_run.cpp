// Files that are not as they were written.
#include <array>
#include <map>
#include <set>

#include "base/fail.h"
#include "store/faults/fault_vfs.h"
#include "store/faults/run_tools.h"
#include "store/files.h"

namespace ruvltra {
namespace {

constexpr uint64_t kChanges = 150;
constexpr size_t kPage = 4096;

// The files of a store, to be damaged again and again.
struct Specimen {
  std::array<std::string, 3> names = {"learn.db", "learn.db-wal", "learn.seq"};
  std::array<std::string, 3> content;

  Result<void> load(const std::filesystem::path& folder) {
    for (size_t i = 0; i < names.size(); ++i) {
      ASSIGN_OR_RETURN(content[i], read_whole(folder / names[i]));
    }
    return {};
  }
  Result<void> put(const std::filesystem::path& folder) const {
    RETURN_IF_ERROR(empty_folder(folder));
    for (size_t i = 0; i < names.size(); ++i) {
      if (!content[i].empty()) RETURN_IF_ERROR(write_whole(folder / names[i], content[i]));
    }
    return {};
  }
};

class DamageRun {
 public:
  explicit DamageRun(const CrashOptions& options) : options_(options), random_(options.seed) {
    report_.name = "damaged files";
    unsynced_.vfs = quick_disk_.name();
  }

  Result<CrashReport> run() {
    RETURN_IF_ERROR(make_specimens());
    while (report_.n < options_.n && !report_.stopped) {
      RETURN_IF_ERROR(damage_once());
      ++report_.n;
      tell(options_, report_, report_.n);
    }
    return std::move(report_);
  }

 private:
  // One that was closed, and one as a kill would have left it: most of it in the WAL.
  Result<void> make_specimens() {
    RETURN_IF_ERROR(empty_folder(options_.folder));
    const std::filesystem::path folder = options_.folder / "made";
    const CrashWorkload workload(options_.seed, 0);
    {
      ASSIGN_OR_RETURN(const auto store, open_store(folder, crash_options(), {}));
      Content model;
      for (uint64_t k = 0; k < kChanges; ++k) {
        RETURN_IF_ERROR(workload.apply(*store, k));
        workload.apply(model, k);
        for (const auto& [key, line] : model) ever_[key].insert(line);
        if (k == kChanges / 3) RETURN_IF_ERROR(store->checkpoint());
      }
      RETURN_IF_ERROR(killed_.load(folder));
      ASSIGN_OR_RETURN(content_, workload.read(*store));
    }
    return closed_.load(folder);
  }

  std::string damage(Specimen& specimen) {
    size_t total = 0;
    for (const std::string& content : specimen.content) total += content.size();
    uint64_t place = random_.below(total);
    size_t which = 0;
    while (place >= specimen.content[which].size()) place -= specimen.content[which++].size();
    // A small file is rarely met by chance.
    if (random_.chance(20)) {
      which = 2;
      place = random_.below(specimen.content[which].size());
    }
    std::string& bytes = specimen.content[which];
    const uint64_t what = random_.below(10);
    if (what == 8) {
      bytes.resize(place);
      return fmt::format("{} cut at {}", specimen.names[which], place);
    }
    if (what == 9 && bytes.size() >= 2 * kPage) {
      const size_t n_pages = bytes.size() / kPage;
      const size_t a = random_.below(n_pages), b = random_.below(n_pages);
      std::swap_ranges(bytes.begin() + static_cast<std::ptrdiff_t>(a * kPage),
                       bytes.begin() + static_cast<std::ptrdiff_t>((a + 1) * kPage),
                       bytes.begin() + static_cast<std::ptrdiff_t>(b * kPage));
      return fmt::format("{} pages {} and {} swapped", specimen.names[which], a, b);
    }
    const uint64_t bit = random_.below(8);
    bytes[place] = static_cast<char>(bytes[place] ^ (1 << bit));
    return fmt::format("{} bit {} of byte {}", specimen.names[which], bit, place);
  }

  Result<void> damage_once() {
    Specimen specimen = random_.chance(2) ? killed_ : closed_;
    const std::string what = damage(specimen);
    const std::filesystem::path folder = options_.folder / "damaged";
    RETURN_IF_ERROR(specimen.put(folder));
    auto store = open_timed(folder, unsynced_, report_);
    if (!store) {
      ++report_.n_detected;
      if (!store.error().id.starts_with("store.")) add_failure(report_, what + ": " + store.error().message);
      return {};
    }
    const auto found = CrashWorkload(options_.seed, 0).read(**store);
    const bool reported = !(*store)->damaged().empty() || !found;
    // Whatever is served was written so, once: after a loss that is reported it may be an earlier state.
    bool wrong = false;
    if (found) {
      for (const auto& [key, line] : *found) {
        const auto ever = ever_.find(key);
        wrong = wrong || ever == ever_.end() || !ever->second.contains(line);
      }
    }
    const bool complete = found && *found == content_;
    if (wrong || (!complete && !reported)) {
      ++report_.n_silent;
      add_failure(report_, what + ": served other records than were written, without a word");
    } else if (reported) {
      ++report_.n_detected;
    } else {
      ++report_.n_harmless;
    }
    return {};
  }

  const CrashOptions& options_;
  FaultRandom random_;
  CrashReport report_;
  FaultVfs quick_disk_{false};
  StoreParts unsynced_;
  Specimen closed_, killed_;
  Content content_;                                    // of the last state
  std::map<std::string, std::set<std::string>> ever_;  // and of all
};

}  // namespace

Result<CrashReport> run_damage(const CrashOptions& options) { return DamageRun(options).run(); }

}  // namespace ruvltra
