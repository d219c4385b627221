// What the loop's own thread does.
#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

#include "base/check.h"
#include "base/fail.h"
#include "engine/engine_loop.h"

namespace ruvltra {
namespace {

// How long a loop that can compute nothing sleeps before it looks at deadlines and readers again.
constexpr auto kNap = std::chrono::milliseconds(20);

double seconds_between(TokenStream::Clock::time_point begin, TokenStream::Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

size_t count_prefill_rows(const StepPlan& plan) {
  size_t n_rows = 0;
  for (const StepEntry& entry : plan.entries) n_rows += entry.is_prefill ? entry.n_tokens : 0;
  return n_rows;
}

FinishReason finish_reason(EndReason reason) {
  return reason == EndReason::kCancelled ? FinishReason::kCancelled : FinishReason::kTimeout;
}

// Short enough to need no memory.
Error no_memory() { return {ErrorKind::kMemory, "memory.exhausted", "out of memory"}; }

// The error made by `make`, or what can still be said where its text finds no memory.
template <class Make>
Error error_from(Make&& make) {
  try {
    return make();
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

}  // namespace

void EngineLoop::run() {
  bool busy = false;
  while (take_inbox(!busy)) {
    watch_readers();
    const bool did_side_work = do_side_work();
    busy = do_step() || did_side_work;
    forget_ended();
    publish_stats();
  }
  stop_all();
}

// False if the loop is to stop. Waits for news, if there is nothing else to do.
bool EngineLoop::take_inbox(bool wait) {
  {
    std::unique_lock lock(inbox_->mutex);
    const auto has_news = [this] { return inbox_->has_news; };
    if (wait && active_.empty()) inbox_->news.wait(lock, has_news);
    if (wait && !active_.empty()) inbox_->news.wait_for(lock, kNap, has_news);
    inbox_->has_news = false;
    if (inbox_->stop) return false;
    std::swap(inbox_->submitted, submitted_);
    std::swap(inbox_->cancelled, cancelled_);
    if (side_work_.empty()) std::swap(inbox_->side_work, side_work_);
  }
  for (auto& active : submitted_) start_request(std::move(active));
  for (const RequestId id : cancelled_) {
    if (const auto found = active_.find(id); found != active_.end()) cancel_request(*found->second, {});
  }
  submitted_.clear();
  cancelled_.clear();
  return true;
}

void EngineLoop::start_request(std::unique_ptr<Active> owned) {
  Active& active = *owned;
  ++now_.n_submitted;
  try {
    active_[active.id] = std::move(owned);
    auto sequence = scheduler_.submit(std::move(active.spec), now_ms());
    if (sequence) {
      active.answers[0].sequence = *sequence;
      return;
    }
    for (size_t choice = 0; choice < active.answers.size(); ++choice)
      end_answer(active, choice, FinishReason::kFailed, sequence.error());
  } catch (const std::bad_alloc&) {
    fail_for_memory(active);
  }
}

void EngineLoop::cancel_request(Active& active, std::optional<Error> reason) {
  if (reason) active.cancel_reason = std::move(reason);
  for (const Answer& answer : active.answers) {
    if (answer.sequence != nullptr) scheduler_.cancel(*answer.sequence);
  }
}

// A request whose reader is behind gets no rows; after a while it is given up.
void EngineLoop::watch_readers() {
  for (auto& [id, active] : active_) {
    const bool full = active->stream->full();
    if (full == active->paused && !full) continue;
    if (full && !active->paused) active->paused_since = Clock::now();
    active->paused = full;
    for (const Answer& answer : active->answers) {
      if (answer.sequence != nullptr) scheduler_.set_paused(*answer.sequence, full);
    }
    if (full && seconds_between(active->paused_since, Clock::now()) > options_.slow_reader_seconds) {
      cancel_request(*active, error_from([this] {
        return Error{ErrorKind::kCancelled, "request.slow_reader",
                     fmt::format("stream: expected a reader, {} tokens were not taken for {} s",
                                 options_.stream_tokens, options_.slow_reader_seconds)};
      }));
    }
  }
}

bool EngineLoop::do_side_work() {
  if (side_work_.empty()) return false;
  SideWork& work = *side_work_.front();
  bool done = true;
  try {
    done = work.piece(runner_);
  } catch (const std::bad_alloc&) {
    work.lacked_memory = true;
  }
  if (done) {
    side_work_.erase(side_work_.begin());
    finish_side_work(work, true);
  }
  return true;
}

void EngineLoop::finish_side_work(SideWork& work, bool ran) {
  const std::lock_guard lock(inbox_->mutex);
  work.ran = ran;
  work.done = true;
  inbox_->side_work_done.notify_all();
}

// False if there was nothing to compute.
bool EngineLoop::do_step() {
  const auto begun = Clock::now();
  propose();
  const StepPlan& plan = scheduler_.plan(now_ms());
  for (Sequence* sequence : plan.ended) {
    end_sequence(*sequence, finish_reason(sequence->end));
    stop_drafting(*static_cast<Active*>(sequence->spec.owner));
  }
  for (const PageWork& work : plan.page_work) {
    if (work.from == kNoPage) {
      runner_.kv().clear_page(work.to);
    } else {
      runner_.kv().copy_page(work.from, work.to);
    }
  }
  if (!begin_admitted(plan)) return true;
  if (plan.entries.empty()) return false;
  // Before the step: work between steps that is planned meanwhile gives way to who has just come.
  n_running_.store(scheduler_.running().size(), std::memory_order_relaxed);
  const auto planned = Clock::now();
  const RowOutput form = run_step(plan);
  const auto computed = Clock::now();
  scheduler_.complete_step();
  report_prompts(plan);
  now_.page_use = page_use();
  const size_t n_prefill = count_prefill_rows(plan);
  const size_t n_drawn = draw_tokens(plan, form);
  if (speculator_ && n_prefill == 0) {
    speculator_->learn(plan.n_rows, n_drawn, 1e3 * seconds_between(planned, Clock::now()));
  }

  const double forward_seconds = seconds_between(planned, computed);
  ++now_.n_steps;
  now_.n_weight_bytes += weight_bytes_per_step_;
  now_.plan_seconds += seconds_between(begun, planned);
  now_.forward_seconds += forward_seconds;
  now_.sample_seconds += seconds_between(computed, Clock::now());
  return true;
}

// False if memory was lacking: the step is given up, and with it the requests that could not begin.
bool EngineLoop::begin_admitted(const StepPlan& plan) {
  bool all = true;
  for (Sequence* sequence : plan.admitted) all &= begin(*sequence);
  if (all) return true;
  if (!plan.entries.empty()) scheduler_.abandon_step();
  for (Sequence* sequence : plan.admitted) {
    Active& active = *static_cast<Active*>(sequence->spec.owner);
    if (!active.has_begun) fail_for_memory(active);
  }
  return false;
}

// Admitted for the first time, or again after a preemption. False without the memory for its samplers.
bool EngineLoop::begin(Sequence& sequence) try {
  Active& active = *static_cast<Active*>(sequence.spec.owner);
  if (active.has_begun) return true;
  active.begun = Clock::now();
  active.n_cached = sequence.n_cached;
  const std::span prompt(sequence.tokens.data(), sequence.n_prompt);
  for (Answer& answer : active.answers) {
    auto sampler = Sampler::create(active.sampling, runner_.weights().shape.n_vocab, unused_);
    CHECK(sampler);
    answer.sampler = std::move(*sampler);
    answer.sampler->accept_prompt(prompt);
    if (active.grammar) {
      answer.constrained.emplace(active.grammar, *token_trie_);
      allowed_.resize((*token_trie_)->n_words());
    }
    if (active.speculates) start_drafting(answer, sequence);
  }
  active.has_begun = true;
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

RowOutput EngineLoop::run_step(const StepPlan& plan) {
  RowOutput form = RowOutput::kBest;
  size_t n_decode = 0;
  bool taps = false;
  runner_.begin();
  for (const StepEntry& entry : plan.entries) {
    const Sequence& sequence = *entry.sequence;
    Active& active = *static_cast<Active*>(sequence.spec.owner);
    if (entry.wants_row && !active.greedy) form = RowOutput::kLogits;
    if (!entry.is_prefill) n_decode += entry.n_tokens;
    taps |= entry.wants_row && active.watch != nullptr;
    std::span tokens =
        std::span(sequence.tokens).subspan(entry.first_position, entry.n_tokens - entry.n_draft);
    if (entry.n_draft > 0) {
      Answer& answer = active.answers[sequence.choice];
      answer.rows.assign(tokens.begin(), tokens.end());
      const auto proposals = answer.drafting->tokens.begin();
      answer.rows.insert(answer.rows.end(), proposals,
                         proposals + static_cast<std::ptrdiff_t>(entry.n_draft));
      tokens = answer.rows;
    }
    runner_.add({.tokens = tokens,
                 .first_position = entry.first_position,
                 .pages = sequence.table.pages,
                 .n_wanted = entry.wants_row ? 1 + entry.n_draft : 0,
                 .writes = entry.first_position >= sequence.table.n_tokens,
                 .adapter = active.adapter.get()});
  }
  const auto begin = Clock::now();
  runner_.run(form, unused_, taps);
  cost_.learn(n_decode, plan.n_rows - n_decode, 1e3 * seconds_between(begin, Clock::now()));
  scheduler_.set_cost(cost_.model());
  return form;
}

void EngineLoop::report_prompts(const StepPlan& plan) {
  for (const StepEntry& entry : plan.entries) {
    const Sequence& sequence = *entry.sequence;
    const size_t n_done = std::min(entry.first_position + entry.n_tokens, sequence.n_prompt);
    if (entry.is_prefill) static_cast<Active*>(sequence.spec.owner)->stream->set_prompt_done(n_done);
  }
}

// The number of tokens drawn.
size_t EngineLoop::draw_tokens(const StepPlan& plan, RowOutput form) {
  size_t row = 0, n_drawn = 0;
  for (const StepEntry& entry : plan.entries) {
    if (!entry.wants_row) continue;
    Active& active = *static_cast<Active*>(entry.sequence->spec.owner);
    try {
      n_drawn += draw_row(entry, row, form);
    } catch (const std::bad_alloc&) {
      fail_for_memory(active);
    }
    stop_drafting(active);
    row += 1 + entry.n_draft;
  }
  return n_drawn;
}

size_t EngineLoop::draw_row(const StepEntry& entry, size_t row, RowOutput form) {
  Sequence& sequence = *entry.sequence;
  if (sequence.phase == Phase::kEnded) return 0;  // with another answer to its request
  if (sequence.n_samples_due == 0) return draw_along_draft(entry, row, form);
  Active& active = *static_cast<Active*>(sequence.spec.owner);
  while (sequence.n_samples_due > 0) {
    Sequence& child = scheduler_.fork(sequence);
    active.answers[child.choice].sequence = &child;
  }
  for (Answer& answer : active.answers) draw_token(*answer.sequence, row, form);
  return active.answers.size();
}

Result<Sampled> EngineLoop::next_token(Answer& answer, const Sequence& sequence, size_t row, RowOutput form) {
  const size_t position = sequence.tokens.size();
  if (form == RowOutput::kBest) return Sampler::take(runner_.best(row), position);
  std::span<uint64_t> allowed;
  if (answer.constrained) {
    allowed = allowed_;
    answer.constrained->fill_mask(allowed);
  }
  return answer.sampler->sample(runner_.logits(row), static_cast<uint32_t>(position),
                                static_cast<uint32_t>(sequence.choice),
                                static_cast<Active*>(sequence.spec.owner)->stream->spare_top(), allowed);
}

// The order of the tests for an end: stop token, stop string, max_tokens and with it the context. Empty if
// the sequence failed. proposal: what the next row, if there is one, was computed from.
std::optional<TokenId> EngineLoop::draw_token(Sequence& sequence, size_t row, RowOutput form,
                                              TokenId proposal) {
  Active& active = *static_cast<Active*>(sequence.spec.owner);
  Answer& answer = active.answers[sequence.choice];
  auto sampled = next_token(answer, sequence, row, form);
  if (!sampled) {
    scheduler_.finish(sequence, EndReason::kFailed);
    end_sequence(sequence, FinishReason::kFailed, sampled.error());
    return {};
  }
  if (!active.record.empty()) sampled->token = active.record[sequence.n_output()];
  const TokenId token = sampled->token;
  if (active.watch) watch_row(active, sequence, row, token);
  sampled->was_drafted = token == proposal;
  answer.sampler->accept(token);
  if (answer.constrained)
    CHECK(answer.constrained->accept(tokenizer_->bytes(token), tokenizer_->ends_generation(token)));
  answer.n_accepted += token == proposal;
  if (token == proposal) {
    scheduler_.accept_drafts(sequence, std::span(&token, 1));
  } else {
    scheduler_.append(sequence, token);
  }
  if (answer.drafting) Speculator::count_token(*answer.drafting);
  answer.last_token = Clock::now();
  if (answer.n_tokens++ == 0) answer.first_token = answer.last_token;
  active.stream->put(
      {.choice = static_cast<int>(sequence.choice), .token = std::move(*sampled), .outcome = {}});

  bool stops = !active.ignore_eos && tokenizer_->ends_generation(token);
  if (!stops && !active.sampling.stop.empty() && tokenizer_->kind(token) != TokenKind::kControl) {
    answer.stops.push(tokenizer_->bytes(token));
    stops = answer.stops.stopped();
  }
  if (stops || sequence.n_output() == sequence.spec.max_new_tokens) {
    scheduler_.finish(sequence);
    end_sequence(sequence, stops ? FinishReason::kStop : FinishReason::kLength);
  }
  return token;
}

// The end of a sequence is the end of its answer, and of those that were still to be forked off it.
void EngineLoop::end_sequence(Sequence& sequence, FinishReason reason, const std::optional<Error>& error) {
  Active& active = *static_cast<Active*>(sequence.spec.owner);
  const auto& why = reason == FinishReason::kCancelled ? active.cancel_reason : error;
  end_answer(active, sequence.choice, reason, why);
  for (size_t choice = 0; sequence.n_samples_due > 0 && choice < active.answers.size(); ++choice) {
    if (active.answers[choice].sequence == nullptr) end_answer(active, choice, reason, why);
  }
}

void EngineLoop::end_answer(Active& active, size_t choice, FinishReason reason,
                            const std::optional<Error>& error) {
  Answer& answer = active.answers[choice];
  answer.sequence = nullptr;
  if (answer.ended) return;
  answer.ended = true;
  const auto now = Clock::now();
  Outcome outcome{.reason = reason,
                  .n_cached = active.n_cached,
                  .n_drafted = answer.n_drafted,
                  .n_accepted = answer.n_accepted,
                  .timings = {},
                  .error = {}};
  if (error) outcome.error = error_from([&] { return *error; });
  Timings& timings = outcome.timings;
  timings.queue_seconds = seconds_between(active.submitted, active.has_begun ? active.begun : now);
  const auto prompt_done = answer.n_tokens > 0 ? answer.first_token : now;
  if (active.has_begun) timings.prompt_seconds = seconds_between(active.begun, prompt_done);
  if (answer.n_tokens > 0) {
    timings.first_token_seconds = seconds_between(active.submitted, answer.first_token);
    timings.generate_seconds = seconds_between(answer.first_token, answer.last_token);
  }
  if (--active.n_open == 0) {
    // Before the reader knows: who then asks again finds room.
    const std::lock_guard lock(inbox_->mutex);
    --n_unfinished_;
    ended_.push_back(active.id);
  }
  if (active.watch && (reason == FinishReason::kStop || reason == FinishReason::kLength))
    tell_observer(active, choice, reason);
  active.stream->put({.choice = static_cast<int>(choice), .token = {}, .outcome = std::move(outcome)});
  ++(reason == FinishReason::kCancelled ? now_.n_cancelled
     : reason == FinishReason::kTimeout ? now_.n_timeouts
     : reason == FinishReason::kFailed  ? now_.n_failed
                                        : now_.n_finished);
}

// Ends all answers of a request for which there is no memory, wherever it stands. Not inside a step.
void EngineLoop::fail_for_memory(Active& active) {
  for (size_t choice = 0; choice < active.answers.size(); ++choice) {
    if (Sequence* sequence = active.answers[choice].sequence)
      scheduler_.finish(*sequence, EndReason::kFailed);
    end_answer(active, choice, FinishReason::kFailed, no_memory());
  }
}

void EngineLoop::forget_ended() {
  for (const RequestId id : ended_) active_.erase(id);
  ended_.clear();
}

void EngineLoop::stop_all() {
  const Error reason = error_from([] {
    return Error{ErrorKind::kBusy, "engine.stopped", "engine: shut down before the answer was complete"};
  });
  std::vector<SideWork*> not_begun;
  {
    const std::lock_guard lock(inbox_->mutex);
    std::swap(inbox_->submitted, submitted_);
    std::swap(inbox_->side_work, not_begun);
  }
  for (auto& active : submitted_) start_request(std::move(active));
  for (auto& [id, active] : active_) {
    for (size_t choice = 0; choice < active->answers.size(); ++choice)
      end_answer(*active, choice, FinishReason::kCancelled, reason);
  }
  for (SideWork* work : side_work_) finish_side_work(*work, false);
  for (SideWork* work : not_begun) finish_side_work(*work, false);
  forget_ended();
}

PageUse EngineLoop::page_use() const {
  const PageCounts pages = scheduler_.pages().counts();
  PageUse use;
  use.n_held = pages.n_pages - pages.free - pages.evictable;
  for (const Sequence* sequence : scheduler_.running()) {
    ++use.n_sequences;
    use.n_listed += sequence->table.pages.size();
    use.n_positions += sequence->table.n_tokens;
  }
  return use;
}

void EngineLoop::publish_stats() {
  const SchedulerStats scheduled = scheduler_.stats();
  const PageCounts pages = scheduler_.pages().counts();
  now_.n_queued = scheduled.n_waiting;
  now_.n_running = scheduled.n_running;
  n_running_.store(scheduled.n_running, std::memory_order_relaxed);
  now_.n_preemptions = scheduled.n_preempted;
  now_.n_prefill_tokens = scheduled.prefill_rows;
  now_.n_decode_tokens = scheduled.decode_rows;
  now_.n_prompt_tokens = scheduled.prefix_query_tokens;
  now_.n_cached_tokens = scheduled.prefix_hit_tokens;
  now_.n_evictions = pages.evictions;
  now_.n_pages_free = pages.free;
  now_.n_pages_private = pages.in_use;
  now_.n_pages_published = pages.published;
  now_.n_pages_shared = pages.shared;
  if (speculator_) now_.speculation = speculator_->stats();
  const std::lock_guard lock(stats_mutex_);
  stats_ = now_;
}

}  // namespace ruvltra
