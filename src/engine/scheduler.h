// Decides what the next step computes. Pure logic: no tensors, no threads, no clock. The same calls give the
// same plans, and no plan can change what a sequence says, only when.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/page_manager.h"
#include "engine/sequence.h"
#include "ruvltra/error.h"

namespace ruvltra {

// Time of a step, as last measured: fixed (reading the weights) + decode rows + prompt rows.
struct CostModel {
  double ms_fixed = 50;
  double ms_per_decode_row = 5;
  double ms_per_prefill_row = 10;

  double decode_ms(size_t n_rows) const { return ms_fixed + ms_per_decode_row * static_cast<double>(n_rows); }
};

struct SchedulerOptions {
  size_t n_pages = 0;               // of the pool
  size_t max_running = 8;           // sequences that hold pages
  size_t max_waiting = 256;         // requests in the queue
  size_t max_step_rows = 512;       // *Requires*: >= max_running + min_chunk
  size_t max_draft_rows = 16;       // of these, proposals
  size_t min_chunk = 8;             // prompt rows a step has at least, however slow
  double max_step_ms = 0;           // with decoding sequences present; 0 = 2.5 x the step without prompt rows
  double priority_ms = 10'000;      // head start of one priority level
  bool reserve_worst_case = false;  // admit only what can run to its end without preemption
};

// Rows of one sequence: tokens[first_position ..], each written to table.slot(position). The last n_draft of
// them are proposals, which are not in `tokens`.
struct StepEntry {
  Sequence* sequence = nullptr;
  size_t first_position = 0;
  size_t n_tokens = 0;  // rows, proposals included
  size_t n_draft = 0;
  bool is_prefill = false;
  bool wants_row = false;  // the last known token is among them: its row gives the next one
};

struct StepPlan {
  std::vector<StepEntry> entries;    // most senior first; none: nothing to do now
  std::vector<PageWork> page_work;   // before the step, in this order, even if the step is abandoned
  std::vector<Sequence*> admitted;   // began or resumed
  std::vector<Sequence*> preempted;  // lost their pages; they wait, output kept
  std::vector<Sequence*> ended;      // cancelled or overdue: `end` says which; pages are back
  size_t n_rows = 0;
};

struct SchedulerStats {
  size_t n_waiting = 0;
  size_t n_running = 0;
  uint64_t n_admitted = 0;  // resumed ones included
  uint64_t n_preempted = 0;
  uint64_t prefill_rows = 0;  // computed since the start
  uint64_t decode_rows = 0;
  uint64_t prefix_query_tokens = 0;  // prompt tokens looked up in the cache
  uint64_t prefix_hit_tokens = 0;    // of these, found
};

// submit -> { plan -> run the step -> complete_step -> append | fork | finish of its sequences } -> ...
// Thread safety: none; the engine's loop thread owns it. Only submit() and fork() allocate; if they throw
// std::bad_alloc, nothing has changed. Invariants:
// 1. A sequence ends exactly once, and holds no page from then on.
// 2. Every plan with a running, unpaused sequence has rows for the most senior of them.
// 3. A sequence is preempted only for one that is senior to it, or because it is paused.
// 4. Rows <= max_step_rows; running sequences and answers still to be forked <= max_running.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // Errors: scheduler.empty_prompt, scheduler.samples, scheduler.too_long (usage); scheduler.queue_full
  // (memory).
  Result<Sequence*> submit(SequenceSpec spec, double now_ms);
  void cancel(Sequence& sequence) { sequence.cancelled = true; }
  void set_paused(Sequence& sequence, bool paused) { sequence.paused = paused; }
  void set_cost(const CostModel& cost) { cost_ = cost; }

  // The next step. The plan is valid until the next call; complete_step() or abandon_step() comes between.
  const StepPlan& plan(double now_ms);
  // The step was run: its rows are counted, its full pages published.
  void complete_step();
  // The step was given up: nothing is counted.
  void abandon_step();

  // After complete_step(), for sequences whose entry wanted a row:
  // Another answer to the same prompt, which shares all pages. Its first token comes from the same row, so
  // *Requires*: n_samples_due > 0 and no output yet.
  Sequence& fork(Sequence& parent);
  // Proposals that the rows confirmed: the step has written their K and V. Before append().
  void accept_drafts(Sequence& sequence, std::span<const TokenId> tokens);
  // The next token. *Requires*: n_output() < max_new_tokens.
  void append(Sequence& sequence, TokenId token);
  // Wants rows for n proposals in the next step; the plan says how many it gets.
  void propose(Sequence& sequence, size_t n) { sequence.n_draft = n; }
  void finish(Sequence& sequence, EndReason reason = EndReason::kFinished);

  bool idle() const { return waiting_.empty() && running_.empty(); }
  std::span<Sequence* const> running() const { return running_; }  // most senior first
  std::span<Sequence* const> waiting() const { return waiting_; }
  const SchedulerOptions& options() const { return options_; }
  SchedulerStats stats() const;
  PageManager& pages() { return pages_; }
  const PageManager& pages() const { return pages_; }

 private:
  // Tokens computed for a tenant. Who has had least comes next.
  struct Tenant {
    TenantId id = 0;
    double served = 0;
    size_t n_sequences = 0;
  };

  void end_overdue(double now_ms);
  void admit();
  void plan_most_senior();
  void plan_decode_rows();
  void plan_prefill_chunks();
  void collect_entries();

  Sequence* next_waiting() const;
  bool before_in_queue(const Sequence& a, const Sequence& b) const;
  bool before_in_share(const Sequence& a, const Sequence& b) const;
  bool make_room(const Sequence& sequence);
  bool fits(const Sequence& sequence) const;
  size_t pages_promised(const Sequence& sequence) const;
  size_t prefill_budget() const;
  void take_cached(Sequence& sequence);
  bool reserve_rows(Sequence& sequence, size_t n_rows);
  bool reserve_by_preemption(Sequence& sequence, size_t n_rows);
  Sequence* victim_for(const Sequence& sequence) const;
  void preempt(Sequence& sequence);
  void grant(Sequence& sequence, size_t n_rows);
  static void reserve_memory(Sequence& sequence);
  void reserve_places(size_t n_new);
  void end(Sequence& sequence, EndReason reason);
  void join_tenant(Sequence& sequence);
  void leave_tenant(Sequence& sequence);
  size_t n_queued() const;
  static size_t worst_case_pages(const SequenceSpec& spec);

  SchedulerOptions options_;
  CostModel cost_;
  PageManager pages_;
  Sha256 hash_;
  StepPlan plan_;
  bool step_open_ = false;
  uint64_t next_id_ = 0;
  SchedulerStats stats_;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // those that ended leave in the next plan
  std::vector<Sequence*> waiting_;                    // in no order
  std::vector<Sequence*> running_;                    // most senior first
  std::vector<Sequence*> prefill_;                    // of the current plan, by share
  std::vector<Tenant> tenants_;
};

}  // namespace ruvltra
