#include "publish_faults.h"

#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "base/fail.h"
#include "random_adapter.h"
#include "sona/generation_book.h"
#include "store/faults/run_tools.h"

namespace ruvltra {
namespace {

constexpr uint64_t kKillsPerFolder = 40;
constexpr size_t kKeep = 16;
constexpr uint64_t kRollbackEvery = 7, kRollbackBy = 3;
const Scope kScope{.tenant = "publisher", .session = {}};

// A basis of the bundled model's size. What it projects on does not matter here.
Result<std::shared_ptr<const AdapterBasis>> make_basis() {
  BasisSpec spec;
  spec.model.fill(7);
  spec.n_layers = 4;
  spec.d_model = 256;
  spec.layers = {1, 2, 3};
  return random_basis(spec);
}

Result<std::shared_ptr<const Adapter>> make_adapter(const std::shared_ptr<const AdapterBasis>& basis,
                                                    uint64_t seed, uint64_t number) {
  return random_adapter(basis, seed * 1'000'003 + number);
}

bool is_rollback(uint64_t number) { return number % kRollbackEvery == 0; }
// The number whose adapter generation `number` has: its own, unless it is a rollback.
uint64_t origin(uint64_t number) { return is_rollback(number) ? origin(number - kRollbackBy) : number; }

struct Message {
  uint64_t number;
  uint64_t is_acknowledged;
  Sha256Digest content;
};

// Publishes until it is killed. A message is less than PIPE_BUF bytes: it arrives whole or not at all.
[[noreturn]] void child(const std::filesystem::path& folder, uint64_t seed,
                        const std::shared_ptr<const AdapterBasis>& basis, int pipe_end) {
  StoreParts parts;
  parts.checkpoint_pages = 20;
  auto store = open_store(folder, crash_options(), parts);
  if (!store) _exit(3);
  auto book = GenerationBook::open(**store, folder / "adapters", basis, kKeep);
  if (!book) _exit(4);
  const auto send = [pipe_end](const Message& message) {
    if (write(pipe_end, &message, sizeof message) != static_cast<ssize_t>(sizeof message)) _exit(5);
  };
  for (uint64_t number = (*book)->number(kScope) + 1;; ++number) {
    auto adapter = make_adapter(basis, seed, number);
    if (!adapter) _exit(6);
    send({number, 0, {}});
    const auto published = is_rollback(number) ? (*book)->rollback(kScope, number - kRollbackBy)
                                               : (*book)->publish(kScope, number - 1, *adapter, {});
    if (!published || published->number != number) _exit(7);
    send({number, 1, published->content});
  }
}

class PublishKills {
 public:
  PublishKills(const CrashOptions& options, std::shared_ptr<const AdapterBasis> basis)
      : options_(options), basis_(std::move(basis)), random_(options.seed) {
    report_.name = "kill -9";
  }

  Result<CrashReport> run() {
    while (report_.n < options_.n && !report_.stopped) {
      if (report_.n % kKillsPerFolder == 0) {
        RETURN_IF_ERROR(empty_folder(options_.folder));
        known_ = 0;
      }
      RETURN_IF_ERROR(kill_once());
      ++report_.n;
      tell(options_, report_, report_.n);
    }
    return std::move(report_);
  }

 private:
  uint64_t seed() const { return options_.seed + report_.n / kKillsPerFolder; }

  Result<void> kill_once() {
    // From the middle of opening to some dozens of generations later.
    const auto delay = std::chrono::microseconds(random_.below(random_.chance(4) ? 30'000 : 200'000));
    uint64_t acknowledged = known_, begun = known_;
    RETURN_IF_ERROR(kill_child(
        delay, report_, [&](int pipe_end) { child(options_.folder, seed(), basis_, pipe_end); },
        [&](int pipe_end) { return listen(pipe_end, acknowledged, begun); }));
    report_.n_acknowledged += acknowledged - known_;
    check(acknowledged, begun);
    return {};
  }

  // Until the child's end of the pipe is closed by its death.
  Result<void> listen(int pipe_end, uint64_t& acknowledged, uint64_t& begun) {
    for (;;) {
      Message message;
      size_t done = 0;
      while (done < sizeof message) {
        const ssize_t got = ::read(pipe_end, reinterpret_cast<char*>(&message) + done, sizeof message - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(ErrorKind::kIo, "faults.pipe", "read: {}", std::strerror(errno));
        if (got == 0) return {};
        done += static_cast<size_t>(got);
      }
      if (message.is_acknowledged == 0) {
        begun = message.number;
        continue;
      }
      acknowledged = message.number;
      ASSIGN_OR_RETURN(const auto expected, make_adapter(basis_, seed(), origin(message.number)));
      if (message.content != expected->hash()) {
        ++report_.n_half;
        add_failure(report_, fmt::format("kill {}: generation {} was acknowledged with other contents",
                                         report_.n, message.number));
      }
    }
  }

  void check(uint64_t acknowledged, uint64_t begun) {
    const auto wrong = [&](uint64_t& counter, std::string text) {
      ++counter;
      add_failure(report_, fmt::format("kill {}: {}", report_.n, text));
    };
    auto store = open_timed(options_.folder, {}, report_);
    if (!store) return wrong(report_.n_refused, store.error().message);
    for (const DamagedRow& row : (*store)->damaged())
      wrong(report_.n_half, fmt::format("{} row {}: {}", row.table, row.row, row.what));
    auto book = GenerationBook::open(**store, options_.folder / "adapters", basis_, kKeep);
    if (!book) return wrong(report_.n_refused, book.error().message);
    // A row whose file is missing or not whole.
    for (const std::string& damage : (*book)->damaged()) wrong(report_.n_half, damage);
    const LiveAdapter live = (*book)->live(kScope);
    if (live.generation < acknowledged) {
      wrong(report_.n_lost,
            fmt::format("generation {} was acknowledged, {} is live", acknowledged, live.generation));
    } else if (live.generation > begun || begun > acknowledged + 1) {
      wrong(report_.n_half,
            fmt::format("generations {} to {} may be live, {} is", acknowledged, begun, live.generation));
    }
    check_history(**book, live, wrong);
    known_ = live.generation;
  }

  // The last kKeep numbers without a gap, each with its own adapter to the last bit.
  template <class Wrong>
  void check_history(GenerationBook& book, const LiveAdapter& live, const Wrong& wrong) {
    const auto history = book.history(kScope);
    if (history.size() != std::min<size_t>(live.generation, kKeep))
      wrong(report_.n_lost, fmt::format("{} generations are kept of {}", history.size(), live.generation));
    for (size_t i = 0; i < history.size(); ++i) {
      const uint64_t number = live.generation - i;
      const auto expected = make_adapter(basis_, seed(), origin(number));
      const auto found = book.adapter(kScope, history[i].number);
      if (history[i].number != number || history[i].content != (*expected)->hash()) {
        wrong(report_.n_half, fmt::format("generation {} is not what was published", number));
      } else if (!found) {
        wrong(report_.n_half, fmt::format("generation {}: {}", number, found.error().message));
      } else if (!std::ranges::equal((*found)->b(), (*expected)->b())) {
        wrong(report_.n_half, fmt::format("generation {} has other weights", number));
      } else if (i == 0 && live.adapter->hash() != (*expected)->hash()) {
        wrong(report_.n_half, fmt::format("generation {} is live with other weights", number));
      }
    }
  }

  const CrashOptions& options_;
  const std::shared_ptr<const AdapterBasis> basis_;
  FaultRandom random_;
  CrashReport report_;
  uint64_t known_ = 0;  // what was live after the last kill
};

}  // namespace

Result<CrashReport> run_publish_kills(const CrashOptions& options) {
  ASSIGN_OR_RETURN(auto basis, make_basis());
  return PublishKills(options, std::move(basis)).run();
}

Result<RaceReport> run_publish_races(const std::filesystem::path& folder, uint64_t seed, uint64_t n_rounds,
                                     uint64_t n_publishers) {
  RETURN_IF_ERROR(empty_folder(folder));
  ASSIGN_OR_RETURN(const auto basis, make_basis());
  RaceReport report{.n_rounds = n_rounds, .n_publishers = n_publishers};
  std::vector<Sha256Digest> winners;
  {
    ASSIGN_OR_RETURN(auto store, Store::open(folder, crash_options()));
    ASSIGN_OR_RETURN(auto book, GenerationBook::open(*store, folder / "adapters", basis, kKeep));
    for (uint64_t round = 0; round < n_rounds; ++round) {
      std::vector<std::shared_ptr<const Adapter>> adapters;
      for (uint64_t i = 0; i < n_publishers; ++i) {
        ASSIGN_OR_RETURN(auto adapter, make_adapter(basis, seed, round * n_publishers + i));
        adapters.push_back(std::move(adapter));
      }
      const uint64_t expected = book->number(kScope);
      std::vector<Result<GenerationRecord>> results(n_publishers, GenerationRecord{});
      std::barrier start(static_cast<ptrdiff_t>(n_publishers));
      std::vector<std::thread> publishers;
      for (size_t i = 0; i < n_publishers; ++i) {
        publishers.emplace_back([&, i] {
          start.arrive_and_wait();
          results[i] = book->publish(kScope, expected, adapters[i], {});
        });
      }
      for (std::thread& publisher : publishers) publisher.join();
      size_t n_won = 0, n_conflicts = 0, winner = 0;
      for (size_t i = 0; i < n_publishers; ++i) {
        if (results[i]) {
          ++n_won;
          winner = i;
        } else {
          n_conflicts += results[i].error().id == "store.conflict" ? 1 : 0;
        }
      }
      const LiveAdapter live = book->live(kScope);
      const bool one = n_won == 1 && n_conflicts == n_publishers - 1 && live.generation == expected + 1 &&
                       live.adapter->hash() == adapters[winner]->hash();
      report.n_one_winner += one ? 1 : 0;
      winners.push_back(adapters[winner]->hash());
    }
  }
  ASSIGN_OR_RETURN(auto store, Store::open(folder, crash_options()));
  ASSIGN_OR_RETURN(auto book, GenerationBook::open(*store, folder / "adapters", basis, kKeep));
  const auto history = book->history(kScope);
  for (size_t i = 0; i < history.size() && i < winners.size(); ++i) {
    const bool same = history[i].content == winners[winners.size() - 1 - i];
    report.n_same_after += same && book->adapter(kScope, history[i].number) ? 1 : 0;
  }
  return report;
}

}  // namespace ruvltra
