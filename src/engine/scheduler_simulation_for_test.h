// Histories of requests against a model of the cache in which "K and V" of a position are a digest of every
// token up to it: a wrong, stale or twice written page shows as a digest that does not fit. The property test
// draws the histories at random, the fuzzer makes them of its bytes.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "engine/scheduler.h"

namespace ruvltra::testing {

using Bits = uint64_t;

inline Bits mix(Bits x) {  // the finaliser of splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// The "model": a position's cache entry from the one before, and the token drawn from a row.
inline Bits absorb(Bits before, TokenId token) {
  return mix(before + 0x9e3779b97f4a7c15u * (static_cast<Bits>(token) + 1));
}
inline TokenId draw(Bits row, size_t choice) { return static_cast<TokenId>(mix(row + choice) % 5); }

// Where a history's decisions come from.
class Decisions {
 public:
  virtual ~Decisions() = default;
  virtual size_t below(size_t n) = 0;
  size_t between(size_t low, size_t high) { return low + below(high - low + 1); }
  bool chance(size_t percent) { return below(100) < percent; }
};

class RandomDecisions : public Decisions {
 public:
  explicit RandomDecisions(uint64_t seed) : state_(mix(seed + 1)) {}
  size_t below(size_t n) override { return mix(state_ += 0x9e3779b97f4a7c15u) % n; }

 private:
  uint64_t state_;
};

// What the simulation knows of a sequence, by its id.
struct Answer {
  std::vector<Bits> history;    // of every known token
  std::vector<TokenId> drafts;  // proposed for the next step
  Bits origin = 0;
  size_t n_ends = 0;
};

struct Totals {
  size_t n_finished = 0, n_plans = 0, n_preempted = 0, n_forked = 0, n_cancelled = 0, n_overdue = 0;
  size_t n_copies = 0, n_zeroed = 0, n_evicted = 0, n_hit_tokens = 0, n_accepted_drafts = 0, n_refused = 0;
};

class Simulation {
 public:
  Simulation(Decisions& decisions, Totals& totals)
      : decisions_(decisions), totals_(totals), options_(draw_options()), scheduler_(options_) {
    cells_.resize(options_.n_pages * kPageTokens);
  }

  // Empty, or the first thing that went wrong.
  template <class More>  // bool(): whether another operation follows
  std::string run(More&& more) {
    while (fault_.empty() && more()) operate();
    if (fault_.empty()) drain();
    return fault_;
  }

 private:
  struct Cell {
    Bits bits = 0;
    TenantId tenant = 0;  // 0: zeros
  };

  void expect(bool holds, const char* what) {
    if (!holds && fault_.empty()) fault_ = what;
  }

  SchedulerOptions draw_options() {
    static constexpr size_t kChunks[] = {1, 8, 32, 64};
    SchedulerOptions options;
    options.n_pages = decisions_.between(1, 10);
    options.max_running = decisions_.between(1, 5);
    options.max_waiting = decisions_.between(1, 6);
    options.min_chunk = kChunks[decisions_.below(4)];
    options.max_step_rows = options.max_running + options.min_chunk + decisions_.below(200);
    options.max_step_ms = static_cast<double>(decisions_.below(2) * decisions_.between(1, 500));
    options.priority_ms = 10;
    options.reserve_worst_case = decisions_.chance(25);
    return options;
  }

  // ---- Operations.

  void operate() {
    now_ms_ += static_cast<double>(decisions_.below(5));
    const size_t kind = decisions_.below(100);
    if (kind < 30) {
      submit();
    } else if (kind < 36) {
      if (Sequence* sequence = any_live()) scheduler_.cancel(*sequence);
    } else if (kind < 44) {
      if (Sequence* sequence = any_live()) scheduler_.set_paused(*sequence, !sequence->paused);
    } else if (kind < 47) {
      if (Sequence* sequence = any_live()) finish(*sequence);
    } else if (kind < 49) {
      scheduler_.pages().drop_cache();
    } else if (kind < 51) {
      scheduler_.set_cost({.ms_fixed = static_cast<double>(decisions_.below(100)),
                           .ms_per_decode_row = 1,
                           .ms_per_prefill_row = static_cast<double>(decisions_.below(5))});
    } else {
      step(decisions_.chance(10));
    }
  }

  // Prompts begin alike, so that they meet in the cache, and like to end with a page.
  void submit() {
    const size_t capacity = options_.n_pages * kPageTokens;
    SequenceSpec spec;
    size_t n_prompt =
        decisions_.chance(40) ? kPageTokens * decisions_.between(1, 3) : decisions_.between(1, 200);
    n_prompt = std::min(n_prompt, capacity);
    const size_t n_alike = decisions_.below(n_prompt + 1), kind = decisions_.below(4);
    for (size_t t = 0; t < n_prompt; ++t) {
      spec.prompt.push_back(static_cast<TokenId>(t < n_alike ? t % 7 : mix(4 * t + kind) % 3));
    }
    spec.max_new_tokens =
        std::min(decisions_.chance(10) ? decisions_.below(100) : decisions_.below(12), capacity - n_prompt);
    spec.n_samples = decisions_.chance(20) ? decisions_.between(1, options_.max_running) : 1;
    spec.tenant = decisions_.between(1, 3);
    spec.root[0] = static_cast<uint8_t>(spec.tenant);
    spec.use_cache = decisions_.chance(85);
    spec.priority = static_cast<int>(decisions_.below(3)) - 1;
    if (decisions_.chance(5)) spec.deadline_ms = now_ms_ + static_cast<double>(decisions_.below(60));
    if (decisions_.chance(5)) spec.queue_deadline_ms = now_ms_ + static_cast<double>(decisions_.below(30));
    const SequenceSpec asked = spec;
    const auto submitted = scheduler_.submit(std::move(spec), now_ms_);
    if (!submitted) {
      ++totals_.n_refused;
      return;
    }
    Sequence& sequence = **submitted;
    answers_.resize(sequence.id + asked.n_samples);
    answers_[sequence.id].origin = mix(asked.tenant);
    live_.push_back(&sequence);
  }

  Sequence* any_live() { return live_.empty() ? nullptr : live_[decisions_.below(live_.size())]; }

  void finish(Sequence& sequence) {
    scheduler_.finish(sequence);
    ended(sequence);
    ++totals_.n_finished;
  }

  void ended(const Sequence& sequence) {
    expect(sequence.phase == Phase::kEnded && sequence.end != EndReason::kNone, "ended without a reason");
    expect(sequence.table.pages.empty(), "an ended sequence holds pages");
    expect(++answers_[sequence.id].n_ends == 1, "ended twice");
    expect(std::erase(live_, &sequence) == 1, "ended, but was not alive");
    expect_solo_answer(sequence);
  }

  // Alone, with a fresh cache, it would have said the same.
  void expect_solo_answer(const Sequence& sequence) {
    Bits bits = answers_[sequence.id].origin;
    for (size_t t = 0; t < sequence.tokens.size(); ++t) {
      if (t >= sequence.n_prompt)
        expect(sequence.tokens[t] == draw(bits, sequence.choice), "not the solo answer");
      bits = absorb(bits, sequence.tokens[t]);
    }
  }

  // ---- One step.

  void step(bool abandon) {
    const StepPlan& plan = scheduler_.plan(now_ms_);
    ++totals_.n_plans;
    totals_.n_preempted += plan.preempted.size();
    for (const Sequence* sequence : plan.ended) {
      (sequence->end == EndReason::kCancelled ? totals_.n_cancelled : totals_.n_overdue) += 1;
      ended(*sequence);
    }
    check_plan(plan);
    check_pages();
    do_page_work(plan);
    if (plan.entries.empty() || !fault_.empty()) return;
    compute(plan);
    if (abandon) {
      scheduler_.abandon_step();
    } else {
      scheduler_.complete_step();
      for (const StepEntry& entry : plan.entries) {
        if (entry.wants_row) advance(entry);
      }
    }
    check_pages();
  }

  void check_plan(const StepPlan& plan) {
    size_t n_rows = 0;
    for (size_t at = 0; at < plan.entries.size(); ++at) {
      check_entry(plan.entries[at]);
      n_rows += plan.entries[at].n_tokens;
      if (at > 0)
        expect(plan.entries[at - 1].sequence->senior_to(*plan.entries[at].sequence), "entries: order");
    }
    expect(n_rows == plan.n_rows && n_rows <= options_.max_step_rows, "too many rows");
    const Sequence* senior = nullptr;
    size_t n_places = 0;
    for (const Sequence* sequence : scheduler_.running()) {
      n_places += 1 + sequence->n_samples_due;
      if (sequence->paused) continue;
      if (senior == nullptr) senior = sequence;
      expect(sequence->phase == Phase::kPrefill || sequence->n_planned > 0 ||
                 scheduler_.pages().n_needed(sequence->table, 1) > scheduler_.pages().n_available(),
             "a decoding sequence is left out though there are pages");
    }
    expect(n_places <= options_.max_running, "too many running");
    expect(senior == nullptr || senior->n_planned > 0, "the most senior sequence is left out");
    for (const Sequence* sequence : plan.preempted) {
      expect(sequence->paused || (senior != nullptr && senior->senior_to(*sequence)),
             "a senior is preempted");
      expect(sequence->paused || !options_.reserve_worst_case, "preempted in spite of its reservation");
    }
    for (const Sequence* sequence : scheduler_.waiting()) {
      expect(sequence->table.pages.empty() && sequence->n_planned == 0, "a waiting sequence holds pages");
      expect(sequence->paused || senior != nullptr, "nobody runs though somebody waits");
    }
    for (const Sequence* sequence : live_) {
      expect(!sequence->cancelled && now_ms_ < sequence->spec.deadline_ms, "overdue, but alive");
      expect(sequence->begun || now_ms_ < sequence->spec.queue_deadline_ms, "overdue in the queue");
    }
  }

  void check_entry(const StepEntry& entry) {
    const Sequence& sequence = *entry.sequence;
    const size_t n_known = entry.first_position + entry.n_tokens - entry.n_draft;
    expect(!sequence.paused && entry.n_tokens > entry.n_draft, "rows: none, or paused");
    expect(entry.first_position == std::min(sequence.table.n_tokens, sequence.tokens.size() - 1),
           "rows: a gap");
    expect(entry.is_prefill == (sequence.phase == Phase::kPrefill), "rows: phase");
    expect(entry.is_prefill || entry.n_tokens == 1 + entry.n_draft, "rows: decoding");
    expect(entry.wants_row == (n_known == sequence.tokens.size()) && n_known <= sequence.tokens.size(),
           "rows: end");
    expect(entry.n_draft <= answers_[sequence.id].drafts.size(), "rows: drafts");
  }

  void check_pages() {
    tables_.clear();
    for (const Sequence* sequence : live_) tables_.push_back(&sequence->table);
    if (fault_.empty()) fault_ = scheduler_.pages().first_fault(tables_);
    const PageCounts counts = scheduler_.pages().counts();
    expect(counts.free + counts.in_use + counts.published == options_.n_pages, "pages: sum");
  }

  void do_page_work(const StepPlan& plan) {
    for (const PageWork& work : plan.page_work) {
      const auto to = cells_.begin() + work.to * static_cast<int>(kPageTokens);
      if (work.from == kNoPage) {
        std::fill_n(to, kPageTokens, Cell{});
        ++totals_.n_zeroed;
      } else {
        std::copy_n(cells_.begin() + work.from * static_cast<int>(kPageTokens), kPageTokens, to);
        ++totals_.n_copies;
      }
    }
  }

  Cell& cell(PageId page, size_t position) {
    return cells_[static_cast<size_t>(page) * kPageTokens + position % kPageTokens];
  }

  // "Forward": all rows write, then every row sees what it should.
  void compute(const StepPlan& plan) {
    holders_.assign(options_.n_pages, 0);
    for (const PageTable* table : tables_) {
      for (const PageId page : table->pages) ++holders_[static_cast<size_t>(page)];
    }
    for (const StepEntry& entry : plan.entries) write_rows(entry);
    for (const StepEntry& entry : plan.entries) read_rows(entry);
  }

  void write_rows(const StepEntry& entry) {
    const Sequence& sequence = *entry.sequence;
    Answer& answer = answers_[sequence.id];
    extend_history(sequence);
    const size_t n_known = sequence.tokens.size();
    Bits bits = answer.history.back();
    for (size_t t = entry.first_position; t < entry.first_position + entry.n_tokens; ++t) {
      const KvSlot slot = sequence.table.slot(t);
      if (t >= n_known) bits = absorb(bits, answer.drafts[t - n_known]);
      expect((slot.page == kNoPage) == (t < sequence.table.n_tokens), "a cached position is written again");
      if (slot.page == kNoPage) continue;
      expect(holders_[static_cast<size_t>(slot.page)] == 1, "a page with two holders is written");
      cell(slot.page, t) = {t < n_known ? answer.history[t] : bits, sequence.spec.tenant};
    }
  }

  void read_rows(const StepEntry& entry) {
    const Sequence& sequence = *entry.sequence;
    const std::vector<PageId>& pages = sequence.table.pages;
    const size_t n_known = entry.first_position + entry.n_tokens - entry.n_draft;
    for (size_t t = 0; t < pages.size() * kPageTokens; ++t) {
      const Cell& seen = cell(pages[t / kPageTokens], t);
      expect(seen.tenant == 0 || seen.tenant == sequence.spec.tenant, "bits of another tenant");
      if (t < n_known) expect(seen.bits == answers_[sequence.id].history[t], "not the bits of this prefix");
    }
  }

  void extend_history(const Sequence& sequence) {
    Answer& answer = answers_[sequence.id];
    for (size_t t = answer.history.size(); t < sequence.tokens.size(); ++t) {
      answer.history.push_back(absorb(t == 0 ? answer.origin : answer.history.back(), sequence.tokens[t]));
    }
  }

  // Draws from the row the step computed; the other samples of a prompt are forked off first.
  void advance(const StepEntry& entry) {
    Sequence& sequence = *entry.sequence;
    const size_t last = sequence.tokens.size() - 1;
    const Bits row = cell(sequence.table.pages[last / kPageTokens], last).bits;
    while (sequence.n_samples_due > 0) {
      Sequence& child = scheduler_.fork(sequence);
      expect(child.table.pages == sequence.table.pages, "a fork does not share");
      ++totals_.n_forked;
      live_.push_back(&child);
      answers_[child.id] = answers_[sequence.id];
      go_on(child, row);
    }
    std::vector<TokenId> confirmed;
    Bits bits = row;
    for (size_t d = 0; d < entry.n_draft && answers_[sequence.id].drafts[d] == draw(bits, sequence.choice);
         ++d) {
      confirmed.push_back(answers_[sequence.id].drafts[d]);
      bits = absorb(bits, confirmed.back());
    }
    scheduler_.accept_drafts(sequence, confirmed);
    totals_.n_accepted_drafts += confirmed.size();
    go_on(sequence, bits);
  }

  void go_on(Sequence& sequence, Bits row) {
    if (sequence.n_output() < sequence.spec.max_new_tokens) {
      scheduler_.append(sequence, draw(row, sequence.choice));
      expect(sequence.table.pages.size() == pages_for(sequence.table.n_tokens), "pages beyond the tokens");
    }
    if (sequence.n_output() == sequence.spec.max_new_tokens || decisions_.chance(2)) {
      finish(sequence);
    } else {
      propose(sequence);
    }
  }

  void propose(Sequence& sequence) {
    extend_history(sequence);
    Answer& answer = answers_[sequence.id];
    answer.drafts.clear();
    Bits bits = answer.history.back();
    for (size_t n = decisions_.chance(30) ? decisions_.below(5) : 0; n > 0; --n) {
      answer.drafts.push_back(decisions_.chance(75) ? draw(bits, sequence.choice) : 4);
      bits = absorb(bits, answer.drafts.back());
    }
    scheduler_.propose(sequence, answer.drafts.size());
  }

  // Everybody gets to an end, in a number of plans that the most senior sequence alone accounts for.
  void drain() {
    size_t n_plans = 2;
    for (Sequence* sequence : live_) {
      scheduler_.set_paused(*sequence, false);
      const size_t n_own = 2 + sequence->n_max() / options_.min_chunk + sequence->spec.max_new_tokens;
      n_plans += (1 + sequence->n_samples_due) * n_own;
    }
    for (; !scheduler_.idle() && fault_.empty(); --n_plans) {
      expect(n_plans > 0, "starvation");
      step(false);
    }
    expect(live_.empty(), "idle, but somebody is alive");
    PageManager& pages = scheduler_.pages();
    expect(pages.n_available() == options_.n_pages, "pages are lost");
    pages.drop_cache();
    expect(pages.counts().free == options_.n_pages, "pages are lost in the cache");
    totals_.n_evicted += pages.counts().evictions;
    totals_.n_hit_tokens += scheduler_.stats().prefix_hit_tokens;
  }

  Decisions& decisions_;
  Totals& totals_;
  SchedulerOptions options_;
  Scheduler scheduler_;
  double now_ms_ = 0;
  std::string fault_;
  std::vector<Cell> cells_;      // (n_pages, 64)
  std::vector<Answer> answers_;  // by id
  std::vector<Sequence*> live_;  // in no order
  std::vector<const PageTable*> tables_;
  std::vector<int> holders_;  // (n_pages)
};

}  // namespace ruvltra::testing
