// The clients of `bench --sim`.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <utility>

#include "base/fail.h"
#include "base/num.h"
#include "base/sha256.h"
#include "bench_run.h"
#include "bench_sim.h"
#include "console.h"
#include "model/kv_pool.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kNap = std::chrono::milliseconds(20);  // between two looks at Ctrl+C and the memory

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

// What a random number is for.
enum Draw : uint32_t { kPromptLength, kOutputLength, kShares, kArrival, kToken };
constexpr uint32_t kSharedPrefix = 0xFFFFFFFF;  // in place of a request's number

int uniform_length(const std::vector<int>& range, double u) {
  return range.front() + static_cast<int>(u * (range.back() - range.front() + 1));
}

void append_tokens(std::vector<TokenId>& tokens, size_t n, uint64_t seed, uint32_t request, size_t n_vocab) {
  for (uint32_t t = 0; t < n; ++t) {
    const double u = philox_uniform(seed, t, request, kToken);
    tokens.push_back(static_cast<TokenId>(u * static_cast<double>(n_vocab)));
  }
}

tl::unexpected<Error> cancelled() {
  return fail(ErrorKind::kCancelled, "bench.cancelled", "bench: stopped on request");
}

// Requests on their way, read by this thread alone: it sleeps until the engine rings.
class Clients {
 public:
  struct Open {
    size_t index = 0;  // of the request
    Stream stream;
    Clock::time_point arrived;
    std::vector<Clock::time_point> last_token;  // of every answer; the arrival before the first
    double first_token = 0;                     // seconds from the arrival
    size_t n_timed = 0;
  };
  // `waited`: seconds since the answer's token before, or since the arrival.
  using OnToken = std::function<void(Open&, const Event&, double waited)>;
  using OnEnd = std::function<void(Open&)>;

  explicit Clients(Engine& engine) : engine_(engine) {}

  size_t n_open() const { return open_.size(); }

  Result<void> ask(Request request, size_t index, Clock::time_point arrived) {
    const auto n = static_cast<size_t>(request.params.n);
    auto stream = engine_.stream(std::move(request), [bell = bell_] { bell->ring(); });
    if (!stream) return tl::unexpected<Error>(stream.error());
    open_.push_back({index, std::move(*stream), arrived, std::vector(n, arrived), 0, 0});
    return {};
  }

  // Takes what has arrived. The first answer that was not completed ends it as an error.
  Result<void> take(const OnToken& on_token, const OnEnd& on_end) {
    for (auto open = open_.begin(); open != open_.end();) {
      while (const auto event = open->stream.poll()) {
        const auto now = Clock::now();
        if (event->token) {
          auto& last = open->last_token[static_cast<size_t>(event->choice)];
          on_token(*open, *event, seconds_between(last, now));
          last = now;
        } else if (event->generation->error) {
          return tl::unexpected<Error>(*event->generation->error);
        }
      }
      if (!open->stream.finished()) {
        ++open;
        continue;
      }
      if (on_end) on_end(*open);
      open = open_.erase(open);
    }
    return {};
  }

  // Until something has arrived, or `wake`. Error: bench.cancelled.
  Result<void> wait(Clock::time_point wake) {
    std::unique_lock lock(bell_->mutex);
    bell_->news.wait_until(lock, std::min(wake, Clock::now() + kNap), [&] { return bell_->rung; });
    bell_->rung = false;
    if (stop_requested()) return cancelled();
    return {};
  }

 private:
  struct Bell {
    std::mutex mutex;
    std::condition_variable news;
    bool rung = false;
    void ring() {
      {
        const std::lock_guard lock(mutex);
        rung = true;
      }
      news.notify_one();
    }
  };

  Engine& engine_;
  std::shared_ptr<Bell> bell_ = std::make_shared<Bell>();
  std::list<Open> open_;
};

// The row's clock, and what is due of the workload.
class Arrivals {
 public:
  Arrivals(const std::vector<SimRequest>& workload, int n_clients, double rate)
      : workload_(workload), n_clients_(static_cast<size_t>(n_clients)), rate_(rate) {}

  bool exhausted() const { return next_ == workload_.size(); }
  bool is_due(const Clients& clients) const {
    return !exhausted() && (rate_ > 0 ? time() <= Clock::now() : clients.n_open() < n_clients_);
  }
  // Of the next request.
  Clock::time_point time() const {
    if (rate_ == 0) return Clock::now();
    const std::chrono::duration<double> after(workload_[next_].arrival / rate_);
    return begin_ + std::chrono::duration_cast<Clock::duration>(after);
  }
  Clock::time_point wake() const { return rate_ > 0 && !exhausted() ? time() : Clock::time_point::max(); }
  size_t take() { return next_++; }
  double seconds() const { return seconds_between(begin_, Clock::now()); }

 private:
  const std::vector<SimRequest>& workload_;
  const size_t n_clients_;
  const double rate_;
  const Clock::time_point begin_ = Clock::now();
  size_t next_ = 0;
};

void hash_token(Sha256& hash, TokenId token) {
  uint8_t bytes[4];
  for (int i = 0; i < 4; ++i) bytes[i] = static_cast<uint8_t>(static_cast<uint32_t>(token) >> (8 * i));
  hash.update(bytes);
}

void count_answers(const std::vector<std::vector<Generation>>& answers, SimRow& row) {
  Sha256 hash;
  row.n_requests = answers.size();
  for (const auto& of_request : answers) {
    const Generation& first = of_request.front();
    row.n_tokens_in += first.n_prompt;
    row.n_cached += first.n_cached;
    row.n_requests_cached += first.n_cached > 0;
    row.n_answers += of_request.size();
    for (const Generation& answer : of_request) {
      row.n_tokens_out += answer.tokens.size();
      for (const TokenId token : answer.tokens) hash_token(hash, token);
    }
  }
  row.answers_sha256 = to_hex(hash.finish());
}

}  // namespace

std::vector<SimRequest> make_workload(const SimOptions& options, size_t n_requests, size_t n_vocab) {
  std::vector<TokenId> prefix;
  append_tokens(prefix, static_cast<size_t>(options.shared_prefix), options.seed, kSharedPrefix, n_vocab);
  std::vector<SimRequest> workload(n_requests);
  double arrival = 0;
  for (uint32_t i = 0; i < n_requests; ++i) {
    const auto draw = [&](Draw what) { return philox_uniform(options.seed, 0, i, what); };
    SimRequest& request = workload[i];
    if (draw(kShares) < options.shared_share) request.prompt = prefix;
    append_tokens(request.prompt,
                  static_cast<size_t>(uniform_length(options.prompt_tokens, draw(kPromptLength))),
                  options.seed, i, n_vocab);
    request.n_output = uniform_length(options.output_tokens, draw(kOutputLength));
    request.arrival = arrival;
    arrival -= std::log1p(-draw(kArrival));
  }
  return workload;
}

std::optional<double> Samples::quantile(double q) const {
  if (values_.empty()) return std::nullopt;
  std::vector<double> sorted = values_;
  std::sort(sorted.begin(), sorted.end());
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], at - std::floor(at));
}

void SimPages::see(const EngineStats& stats, size_t n_longest) {
  const PageUse& use = stats.page_use;
  const size_t n_preallocated = use.n_sequences * n_longest;
  const size_t n_tokens = use.n_listed * static_cast<size_t>(PagedConfig{}.page_size);
  ++n_seen;
  held_sum += static_cast<double>(use.n_held);
  preallocated_sum += static_cast<double>(n_preallocated);
  waste_sum += static_cast<double>(n_tokens - use.n_positions);
  sequences_sum += use.n_sequences;
  held_peak = std::max(held_peak, use.n_held);
  preallocated_peak = std::max(preallocated_peak, n_preallocated);
  shared_peak = std::max(shared_peak, stats.n_pages_shared);
  if (use.n_listed > listed_peak) {
    listed_peak = use.n_listed;
    held_at_listed_peak = use.n_held;
  }
}

double SimPages::held_mean() const { return held_sum / static_cast<double>(std::max<size_t>(1, n_seen)); }
double SimPages::preallocated_mean() const {
  return preallocated_sum / static_cast<double>(std::max<size_t>(1, n_seen));
}
double SimPages::waste_per_sequence() const {
  return waste_sum / static_cast<double>(std::max<size_t>(1, sequences_sum));
}
double SimPages::saved_share() const { return preallocated_sum > 0 ? 1 - held_sum / preallocated_sum : 0; }

Request SimRunner::request(const SimRequest& from, size_t index, int n_samples) const {
  Request request;
  request.prompt = from.prompt;
  request.params.temperature = options_.temperature;
  request.params.max_tokens = from.n_output;
  request.params.n = n_samples;
  request.params.seed = options_.seed + index;
  request.params.ignore_eos = true;
  request.treatment.cache_salt = std::to_string(n_rows_);
  request.treatment.use_cache = options_.prefix_cache;
  return request;
}

Result<void> SimRunner::warm_up() {
  SimOptions options = options_;
  options.shared_prefix = 0;
  options.prompt_tokens =
      options.output_tokens = {std::min(8, static_cast<int>(longest_request(options_)) / 2)};
  const auto workload = make_workload(options, 1, static_cast<size_t>(model_.config().vocab_size));
  Clients clients(model_.engine());
  RETURN_IF_ERROR(clients.ask(request(workload.front(), 0, 1), 0, Clock::now()));
  while (clients.n_open() > 0 || model_.engine().stats().n_finished == 0) {
    RETURN_IF_ERROR(clients.take([](auto&&...) {}, {}));
    RETURN_IF_ERROR(clients.wait(Clock::time_point::max()));
  }
  return {};
}

Result<SimRow> SimRunner::run(const std::vector<SimRequest>& workload, int n_clients, double rate) {
  ++n_rows_;
  Engine& engine = model_.engine();
  SimRow row;
  row.n_clients = n_clients;
  row.rate = rate;
  row.pages.rss_begin = row.pages.rss_peak = resident_memory();
  const size_t n_longest = KvPool::pages_for(static_cast<size_t>(model_.config().context_length));
  std::vector<std::vector<Generation>> answers(workload.size());
  const EngineStats before = engine.stats();
  EngineStats seen = before;

  Arrivals arrivals(workload, n_clients, rate);
  const auto on_token = [&](Clients::Open& open, const Event& event, double waited) {
    if (open.stream.generations()[static_cast<size_t>(event.choice)].tokens.size() > 1) row.gaps.add(waited);
    if (open.first_token == 0) open.first_token = waited;
  };
  const auto on_end = [&](Clients::Open& open) {
    const auto generations = open.stream.generations();
    answers[open.index].assign(generations.begin(), generations.end());
    row.seconds = arrivals.seconds();
    row.first_token.add(open.first_token);
    (generations.front().n_cached > 0 ? row.first_token_hit : row.first_token_miss).add(open.first_token);
  };
  Clients clients(engine);
  // Answers arrive before the engine has counted the step they were drawn in.
  const uint64_t n_finished = before.n_finished + workload.size() * static_cast<size_t>(options_.n_samples);
  while (clients.n_open() > 0 || seen.n_finished < n_finished) {
    while (arrivals.is_due(clients)) {
      const auto time = arrivals.time();
      const size_t i = arrivals.take();
      RETURN_IF_ERROR(clients.ask(request(workload[i], i, options_.n_samples), i, time));
    }
    RETURN_IF_ERROR(clients.wait(arrivals.wake()));
    RETURN_IF_ERROR(clients.take(on_token, on_end));
    const EngineStats stats = engine.stats();
    if (stats.n_steps == seen.n_steps) continue;
    seen = stats;
    row.pages.see(stats, n_longest);
    row.pages.rss_peak = std::max(row.pages.rss_peak, resident_memory());
  }
  row.n_steps = seen.n_steps - before.n_steps;
  row.n_preemptions = seen.n_preemptions - before.n_preemptions;
  count_answers(answers, row);
  return row;
}

Result<SimLongPrompt> SimRunner::run_long_prompt(const std::vector<SimRequest>& workload, int n_clients) {
  ++n_rows_;
  SimLongPrompt row;
  row.n_clients = n_clients;
  row.n_tokens = static_cast<size_t>(options_.long_prompt);
  const auto n_idle = static_cast<size_t>(options_.output_tokens.back());
  const auto n_vocab = static_cast<size_t>(model_.config().vocab_size);
  const size_t long_one = workload.size();

  // The clock of the idle time starts when everybody generates, and stops when everybody has n_idle tokens.
  size_t n_generating = 0, n_idle_done = 0;
  bool arrived = false, complete = false;
  const auto on_token = [&](Clients::Open& open, const Event&, double waited) {
    if (open.index == long_one) {
      row.first_token = waited;
      complete = true;
      return;
    }
    const size_t n_tokens = open.stream.generations().front().tokens.size();
    if (n_tokens == 1) {
      ++n_generating;
    } else if (n_generating == workload.size() && !complete) {
      (arrived ? row.during : row.idle).add(waited);
      n_idle_done += ++open.n_timed == n_idle;
    }
  };
  Clients clients(model_.engine());
  for (size_t i = 0; i < workload.size(); ++i) {
    SimRequest endless = workload[i];
    endless.n_output = model_.config().context_length;
    RETURN_IF_ERROR(clients.ask(request(endless, i, 1), i, Clock::now()));
  }
  while (!complete) {
    if (!arrived && n_idle_done == workload.size()) {
      arrived = true;
      SimRequest from{.prompt = {}, .n_output = 1};
      append_tokens(from.prompt, row.n_tokens, options_.seed, static_cast<uint32_t>(long_one), n_vocab);
      RETURN_IF_ERROR(clients.ask(request(from, long_one, 1), long_one, Clock::now()));
    }
    RETURN_IF_ERROR(clients.wait(Clock::time_point::max()));
    RETURN_IF_ERROR(clients.take(on_token, {}));
    if (clients.n_open() == 0 && !complete) {
      return fail(ErrorKind::kUsage, "sim.context",
                  "--ctx: expected room for {} tokens to go on until the long prompt is computed, found {}",
                  n_idle + row.n_tokens, model_.config().context_length);
    }
  }
  return row;
}

}  // namespace ruvltra
