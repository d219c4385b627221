#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"
#include "base/fail.h"

namespace ruvltra {
namespace {

// A decoding stream waits at most so much longer for its next token when prompts join the step.
constexpr double kStepStretch = 2.5;

bool by_seniority(const Sequence* a, const Sequence* b) { return a->senior_to(*b); }

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options) : options_(options), pages_(options.n_pages) {
  CHECK(options.n_pages > 0 && options.max_running > 0 && options.min_chunk > 0);
  CHECK(options.max_step_rows >= options.max_running + options.min_chunk);
  const size_t n_sequences = options.max_waiting + options.max_running;
  sequences_.reserve(n_sequences);
  waiting_.reserve(n_sequences);
  running_.reserve(options.max_running);
  prefill_.reserve(options.max_running);
  tenants_.reserve(n_sequences);
  plan_.entries.reserve(options.max_running);
  plan_.page_work.reserve(options.max_step_rows / kPageTokens + 3 * options.max_running);
  plan_.admitted.reserve(options.max_running);
  plan_.preempted.reserve(options.max_running);
  plan_.ended.reserve(n_sequences);
}

// ---- Requests.

Result<Sequence*> Scheduler::submit(SequenceSpec spec, double now_ms) {
  const size_t n_prompt = spec.prompt.size();
  const size_t capacity = options_.n_pages * kPageTokens;
  if (n_prompt == 0)
    return fail(ErrorKind::kUsage, "scheduler.empty_prompt", "prompt: expected at least one token");
  if (spec.n_samples < 1 || spec.n_samples > options_.max_running) {
    return fail(ErrorKind::kUsage, "scheduler.samples", "n: expected 1..{} samples, found {}",
                options_.max_running, spec.n_samples);
  }
  if (n_prompt > capacity || spec.max_new_tokens > capacity - n_prompt ||
      (options_.reserve_worst_case && worst_case_pages(spec) > options_.n_pages)) {
    return fail(ErrorKind::kUsage, "scheduler.too_long",
                "prompt and max_tokens: expected at most {} tokens (the KV pool), found {} + {}", capacity,
                n_prompt, spec.max_new_tokens);
  }
  if (n_queued() >= options_.max_waiting) {
    return fail(ErrorKind::kMemory, "scheduler.queue_full", "queue: expected fewer than {} requests waiting",
                options_.max_waiting);
  }
  reserve_places(spec.n_samples);
  auto owned = std::make_unique<Sequence>();
  Sequence& sequence = *owned;
  sequence.n_prompt = n_prompt;
  sequence.tokens = std::move(spec.prompt);
  sequence.spec = std::move(spec);
  sequence.id = next_id_;
  next_id_ += sequence.spec.n_samples;
  sequence.n_samples_due = sequence.spec.n_samples - 1;
  sequence.rank_ms = now_ms - sequence.spec.priority * options_.priority_ms;
  sequence.table.tenant = sequence.spec.tenant;
  sequence.table.chain.reset(sequence.spec.root);
  reserve_memory(sequence);
  if (sequence.spec.use_cache) sequence.table.chain.extend(hash_, sequence.tokens);
  join_tenant(sequence);
  waiting_.push_back(&sequence);
  sequences_.push_back(std::move(owned));
  return &sequence;
}

// Room for n more sequences wherever a plan may put them.
void Scheduler::reserve_places(size_t n_new) {
  const auto reserve = [n_new](auto& places, size_t n) {
    if (places.capacity() < n + n_new) places.reserve(2 * (n + n_new));
  };
  reserve(sequences_, sequences_.size());
  reserve(waiting_, sequences_.size());
  reserve(plan_.ended, sequences_.size());
  reserve(tenants_, tenants_.size());
}

// What a sequence will ever need: later steps allocate nothing.
void Scheduler::reserve_memory(Sequence& sequence) {
  sequence.tokens.reserve(sequence.n_max());
  sequence.table.pages.reserve(pages_for(sequence.n_max()));
  sequence.table.chain.reserve(pages_for(sequence.n_max()));
}

void Scheduler::finish(Sequence& sequence, EndReason reason) {
  CHECK(!step_open_ && sequence.phase != Phase::kEnded);
  end(sequence, reason);
}

void Scheduler::end(Sequence& sequence, EndReason reason) {
  std::erase(sequence.phase == Phase::kWaiting ? waiting_ : running_, &sequence);
  pages_.release(sequence.table);
  leave_tenant(sequence);
  sequence.phase = Phase::kEnded;
  sequence.end = reason;
}

// ---- The plan.

const StepPlan& Scheduler::plan(double now_ms) {
  CHECK(!step_open_);
  plan_.entries.clear();
  plan_.page_work.clear();
  plan_.admitted.clear();
  plan_.preempted.clear();
  plan_.ended.clear();
  plan_.n_rows = 0;
  std::erase_if(sequences_, [](const auto& sequence) { return sequence->phase == Phase::kEnded; });

  end_overdue(now_ms);
  admit();
  plan_most_senior();
  plan_decode_rows();
  plan_prefill_chunks();
  collect_entries();
  step_open_ = !plan_.entries.empty();
  return plan_;
}

void Scheduler::end_overdue(double now_ms) {
  for (const auto& sequence : sequences_) {
    const SequenceSpec& spec = sequence->spec;
    if (sequence->cancelled) {
      end(*sequence, EndReason::kCancelled);
    } else if (now_ms >= spec.deadline_ms) {
      end(*sequence, EndReason::kTimeout);
    } else if (!sequence->begun && now_ms >= spec.queue_deadline_ms) {
      end(*sequence, EndReason::kQueueTimeout);
    } else {
      continue;
    }
    plan_.ended.push_back(sequence.get());
  }
}

// Who does not fit holds up everyone behind: otherwise short requests could overtake a long one for ever.
void Scheduler::admit() {
  for (Sequence* sequence = next_waiting(); sequence != nullptr && make_room(*sequence);
       sequence = next_waiting()) {
    std::erase(waiting_, sequence);
    running_.insert(std::upper_bound(running_.begin(), running_.end(), sequence, by_seniority), sequence);
    sequence->phase = Phase::kPrefill;
    if (!sequence->begun) stats_.prefix_query_tokens += sequence->n_prompt;
    take_cached(*sequence);
    sequence->begun = true;
    ++stats_.n_admitted;
    plan_.admitted.push_back(sequence);
  }
}

// Preempted ones first, then the tenant that was served least; inside these by seniority.
Sequence* Scheduler::next_waiting() const {
  Sequence* best = nullptr;
  for (Sequence* sequence : waiting_) {
    if (!sequence->paused && (best == nullptr || before_in_queue(*sequence, *best))) best = sequence;
  }
  return best;
}

bool Scheduler::before_in_queue(const Sequence& a, const Sequence& b) const {
  if (a.begun != b.begun) return a.begun;
  return a.begun ? a.senior_to(b) : before_in_share(a, b);
}

bool Scheduler::before_in_share(const Sequence& a, const Sequence& b) const {
  const double served_a = tenants_[a.tenant_at].served, served_b = tenants_[b.tenant_at].served;
  return served_a != served_b ? served_a < served_b : a.senior_to(b);
}

// A paused sequence gives way to whoever waits: its reader may take long.
bool Scheduler::make_room(const Sequence& sequence) {
  while (!fits(sequence)) {
    const auto idle =
        std::find_if(running_.begin(), running_.end(), [](const Sequence* s) { return s->paused; });
    if (idle == running_.end()) return false;
    Sequence& victim = **idle;
    running_.erase(idle);
    preempt(victim);
  }
  return true;
}

bool Scheduler::fits(const Sequence& sequence) const {
  size_t n_places = 1 + sequence.n_samples_due;
  size_t n_promised = 0;
  for (const Sequence* other : running_) {
    n_places += 1 + other->n_samples_due;
    n_promised += pages_promised(*other);
  }
  if (n_places > options_.max_running) return false;
  if (running_.empty()) return true;  // submit() has seen that it can run alone
  PageManager::Match cached;
  if (sequence.spec.use_cache) cached = pages_.match(sequence.table, sequence.tokens);
  return n_promised + pages_promised(sequence) + cached.n_evictable <= pages_.n_available() + cached.n_pages;
}

// Pages a sequence is still going to take: for its known tokens and one more, or for all it may ever hold.
size_t Scheduler::pages_promised(const Sequence& sequence) const {
  const size_t n_known = sequence.tokens.size() + kPageTokens;
  const size_t n_positions =
      options_.reserve_worst_case ? sequence.n_max() : std::min(n_known, sequence.n_max());
  const size_t n_held = sequence.table.n_tokens;
  const size_t n_own = n_positions > n_held ? pages_.n_needed(sequence.table, n_positions - n_held) : 0;
  const size_t n_per_sample =
      options_.reserve_worst_case ? pages_for(sequence.n_max()) - sequence.n_prompt / kPageTokens : 1;
  return n_own + sequence.n_samples_due * n_per_sample;
}

// The most senior sequence moves in every step, whatever it takes from the others.
void Scheduler::plan_most_senior() {
  const auto senior =
      std::find_if(running_.begin(), running_.end(), [](const Sequence* s) { return !s->paused; });
  if (senior == running_.end() || (*senior)->phase != Phase::kPrefill) return;
  take_cached(**senior);
  const size_t n_rows = std::min((*senior)->n_due(), options_.min_chunk);
  CHECK(reserve_by_preemption(**senior, n_rows));
  grant(**senior, n_rows);
}

void Scheduler::plan_decode_rows() {
  size_t n_spare =
      std::min(options_.max_step_rows - options_.min_chunk - running_.size(), options_.max_draft_rows);
  for (Sequence* sequence : running_) {
    if (sequence->phase != Phase::kDecode || sequence->paused) continue;
    const size_t n_left = sequence->n_max() - sequence->tokens.size();
    const size_t n_draft = std::min({sequence->n_draft, n_spare, n_left});
    if (n_draft > 0 && reserve_rows(*sequence, 1 + n_draft)) {
      sequence->n_draft_planned = n_draft;
      n_spare -= n_draft;
      grant(*sequence, 1 + n_draft);
    } else if (reserve_by_preemption(*sequence, 1)) {
      grant(*sequence, 1);
    }
  }
}

void Scheduler::plan_prefill_chunks() {
  prefill_.clear();
  for (Sequence* sequence : running_) {
    if (sequence->phase == Phase::kPrefill && !sequence->paused) prefill_.push_back(sequence);
  }
  std::sort(prefill_.begin(), prefill_.end(),
            [this](const Sequence* a, const Sequence* b) { return before_in_share(*a, *b); });
  size_t budget = prefill_budget();
  for (Sequence* sequence : prefill_) {
    if (sequence->n_planned == 0) take_cached(*sequence);
    const size_t n_writable = sequence->table.n_tokens + pages_.room(sequence->table);
    const size_t n_rows =
        std::min({sequence->n_due(), sequence->n_planned + budget, n_writable - sequence->first_due()});
    if (n_rows <= sequence->n_planned) continue;
    CHECK(reserve_rows(*sequence, n_rows));
    budget -= n_rows - sequence->n_planned;
    grant(*sequence, n_rows - sequence->n_planned);
  }
}

// Prompt rows this step may still get. Beside decoding sequences they are limited by time.
size_t Scheduler::prefill_budget() const {
  size_t n_prefill = 0;
  for (const Sequence* sequence : prefill_) n_prefill += sequence->n_planned;
  const size_t n_decode = plan_.n_rows - n_prefill;
  size_t n_rows = options_.max_step_rows - n_decode;
  if (n_decode > 0) {
    const double decode_ms = cost_.decode_ms(n_decode);
    const double step_ms = options_.max_step_ms > 0 ? options_.max_step_ms : kStepStretch * decode_ms;
    const double affordable = (step_ms - decode_ms) / cost_.ms_per_prefill_row;
    if (affordable < static_cast<double>(n_rows)) {
      n_rows = std::max(options_.min_chunk, static_cast<size_t>(std::max(0.0, affordable)));
    }
  }
  return n_rows - n_prefill;
}

void Scheduler::collect_entries() {
  std::erase_if(running_, [](const Sequence* sequence) { return sequence->phase == Phase::kWaiting; });
  for (Sequence* sequence : running_) {
    if (sequence->n_planned == 0) continue;
    StepEntry entry;
    entry.sequence = sequence;
    entry.first_position = sequence->first_due();
    entry.n_tokens = sequence->n_planned;
    entry.n_draft = sequence->n_draft_planned;
    entry.is_prefill = sequence->phase == Phase::kPrefill;
    entry.wants_row = entry.first_position + entry.n_tokens - entry.n_draft == sequence->tokens.size();
    plan_.entries.push_back(entry);
  }
}

// ---- Pages for rows.

void Scheduler::take_cached(Sequence& sequence) {
  if (!sequence.spec.use_cache) return;
  const size_t n_found = pages_.adopt(sequence.table, sequence.tokens);
  if (sequence.n_preempted > 0) return;
  stats_.prefix_hit_tokens += n_found;
  sequence.n_cached = std::min(sequence.n_cached + n_found, sequence.n_prompt - 1);
}

bool Scheduler::reserve_rows(Sequence& sequence, size_t n_rows) {
  const size_t n_positions = sequence.first_due() + n_rows;
  const size_t n_new = n_positions - std::min(n_positions, sequence.table.n_tokens);
  return pages_.reserve(sequence.table, n_new, plan_.page_work);
}

bool Scheduler::reserve_by_preemption(Sequence& sequence, size_t n_rows) {
  while (!reserve_rows(sequence, n_rows)) {
    Sequence* victim = victim_for(sequence);
    if (victim == nullptr) return false;
    preempt(*victim);
  }
  return true;
}

// Whoever is paused, else the most junior one; never a senior.
Sequence* Scheduler::victim_for(const Sequence& sequence) const {
  Sequence* victim = nullptr;
  for (Sequence* other : running_) {
    if (other == &sequence || other->table.pages.empty()) continue;
    if (other->paused) return other;
    if (sequence.senior_to(*other)) victim = other;
  }
  return victim;
}

// Computed again later, to the same bits. It leaves running_ at the end of the plan.
void Scheduler::preempt(Sequence& sequence) {
  CHECK(sequence.n_planned == 0);
  pages_.release(sequence.table);
  sequence.phase = Phase::kWaiting;
  ++sequence.n_preempted;
  ++stats_.n_preempted;
  waiting_.push_back(&sequence);
  plan_.preempted.push_back(&sequence);
}

void Scheduler::grant(Sequence& sequence, size_t n_rows) {
  sequence.n_planned += n_rows;
  plan_.n_rows += n_rows;
  tenants_[sequence.tenant_at].served += static_cast<double>(n_rows);
}

// ---- After the step.

void Scheduler::complete_step() {
  CHECK(step_open_);
  step_open_ = false;
  for (const StepEntry& entry : plan_.entries) {
    Sequence& sequence = *entry.sequence;
    const size_t n_computed = entry.first_position + entry.n_tokens - entry.n_draft;
    if (n_computed > sequence.table.n_tokens)
      pages_.commit(sequence.table, n_computed - sequence.table.n_tokens);
    if (sequence.spec.use_cache) pages_.publish(sequence.table, sequence.tokens);
    if (entry.wants_row) sequence.phase = Phase::kDecode;
    (entry.is_prefill ? stats_.prefill_rows : stats_.decode_rows) += entry.n_tokens;
    sequence.n_planned = 0;
  }
}

void Scheduler::abandon_step() {
  CHECK(step_open_);
  step_open_ = false;
  for (const StepEntry& entry : plan_.entries) {
    pages_.truncate(entry.sequence->table, entry.sequence->table.n_tokens);
    entry.sequence->n_planned = entry.sequence->n_draft_planned = 0;
  }
}

Sequence& Scheduler::fork(Sequence& parent) {
  CHECK(!step_open_ && parent.phase == Phase::kDecode);
  CHECK(parent.n_samples_due > 0 && parent.n_output() == 0);
  reserve_places(1);
  auto owned = std::make_unique<Sequence>();
  Sequence& child = *owned;
  child.spec = parent.spec;
  child.tokens = parent.tokens;
  child.n_prompt = parent.n_prompt;
  child.n_cached = parent.n_cached;
  child.rank_ms = parent.rank_ms;
  child.choice = parent.spec.n_samples - parent.n_samples_due;
  child.id = parent.id + child.choice;
  child.phase = Phase::kDecode;
  child.begun = true;
  reserve_memory(child);
  pages_.fork(parent.table, child.table);
  join_tenant(child);
  sequences_.push_back(std::move(owned));
  --parent.n_samples_due;
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &child, by_seniority), &child);
  return child;
}

void Scheduler::accept_drafts(Sequence& sequence, std::span<const TokenId> tokens) {
  CHECK(!step_open_ && tokens.size() <= sequence.n_draft_planned);
  sequence.tokens.insert(sequence.tokens.end(), tokens.begin(), tokens.end());
  pages_.commit(sequence.table, tokens.size());
  sequence.n_draft_planned -= tokens.size();
}

void Scheduler::append(Sequence& sequence, TokenId token) {
  CHECK(!step_open_ && sequence.phase == Phase::kDecode && sequence.tokens.size() < sequence.n_max());
  CHECK(sequence.tokens.size() == sequence.table.n_tokens);
  sequence.tokens.push_back(token);
  sequence.n_draft = sequence.n_draft_planned = 0;
  pages_.truncate(sequence.table, sequence.table.n_tokens);  // pages of proposals that were refused
}

// ---- Fair share.

// A newcomer starts beside the one served least: idling saves up no credit, and leaving clears no debt as
// long as others are at work.
void Scheduler::join_tenant(Sequence& sequence) {
  const auto is_live = [](const Tenant& tenant) { return tenant.n_sequences > 0; };
  double floor = 0;
  if (std::none_of(tenants_.begin(), tenants_.end(), is_live)) {
    tenants_.clear();
  } else {
    floor = std::numeric_limits<double>::infinity();
    for (const Tenant& tenant : tenants_) {
      if (is_live(tenant)) floor = std::min(floor, tenant.served);
    }
  }
  auto place = std::find_if(tenants_.begin(), tenants_.end(),
                            [&](const Tenant& tenant) { return tenant.id == sequence.spec.tenant; });
  if (place == tenants_.end()) {
    place = std::find_if(tenants_.begin(), tenants_.end(),
                         [&](const Tenant& tenant) { return !is_live(tenant) && tenant.served <= floor; });
    if (place == tenants_.end()) place = tenants_.insert(place, Tenant{});
    *place = {.id = sequence.spec.tenant, .served = floor};
  }
  if (!is_live(*place)) place->served = std::max(place->served, floor);
  ++place->n_sequences;
  sequence.tenant_at = static_cast<size_t>(place - tenants_.begin());
}

void Scheduler::leave_tenant(Sequence& sequence) { --tenants_[sequence.tenant_at].n_sequences; }

// ---- Numbers.

size_t Scheduler::n_queued() const {
  return static_cast<size_t>(
      std::count_if(waiting_.begin(), waiting_.end(), [](const Sequence* s) { return !s->begun; }));
}

size_t Scheduler::worst_case_pages(const SequenceSpec& spec) {
  const size_t n_shared = spec.prompt.size() / kPageTokens;
  return n_shared + spec.n_samples * (pages_for(spec.prompt.size() + spec.max_new_tokens) - n_shared);
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.n_waiting = waiting_.size();
  stats.n_running = running_.size();
  return stats;
}

}  // namespace ruvltra
