// Speculative decoding in the loop: what is proposed before a step, and which of it becomes part of the
// answers.
#include <algorithm>
#include <new>

#include "engine/engine_loop.h"

namespace ruvltra {

// Proposals for the answers that go on, before the plan says how many of them get rows.
void EngineLoop::propose() {
  if (!speculator_) return;
  asks_.clear();
  size_t n_others = 0;
  for (Sequence* sequence : scheduler_.running()) {
    scheduler_.propose(*sequence, 0);
    if (sequence->phase != Phase::kDecode || sequence->paused || sequence->cancelled) continue;
    Active& active = *static_cast<Active*>(sequence->spec.owner);
    Answer& answer = active.answers[sequence->choice];
    if (!answer.drafting) {
      ++n_others;
      continue;
    }
    asks_.push_back({.drafting = answer.drafting.get(),
                     .text = sequence->tokens,
                     .n_left = sequence->n_max() - sequence->tokens.size(),
                     .seed = *active.sampling.seed,
                     .choice = static_cast<uint32_t>(sequence->choice)});
  }
  const size_t n_fair = std::max<size_t>(1, kMaxDraftRows / std::max<size_t>(1, asks_.size()));
  for (Speculator::Ask& ask : asks_) ask.n_most = std::min({kMaxDraft, n_fair, ask.n_left - 1});
  speculator_->propose(asks_, n_others);
  for (Sequence* sequence : scheduler_.running()) {
    Active& active = *static_cast<Active*>(sequence->spec.owner);
    Answer& answer = active.answers[sequence->choice];
    if (answer.drafting && answer.constrained) cut_proposals(answer);
    if (answer.drafting && sequence->phase == Phase::kDecode)
      scheduler_.propose(*sequence, answer.drafting->tokens.size());
  }
}

// Proposals that the grammar does not allow cannot come true: they get no rows.
void EngineLoop::cut_proposals(Answer& answer) {
  const std::vector<TokenId>& tokens = answer.drafting->tokens;
  size_t n = 0;
  try {
    if (!tokens.empty()) ahead_ = answer.constrained;
    while (n < tokens.size() && static_cast<size_t>(tokens[n]) < tokenizer_->n_vocab() &&
           ahead_->accept(tokenizer_->bytes(tokens[n]), tokenizer_->ends_generation(tokens[n]))) {
      ++n;
    }
  } catch (const std::bad_alloc&) {
    n = 0;  // an answer without proposals is the same answer
  }
  speculator_->cut(*answer.drafting, n);
}

void EngineLoop::start_drafting(Answer& answer, const Sequence& sequence) {
  answer.drafting = speculator_->open(sequence.n_max(), sequence.spec.tenant);
  answer.rows.reserve(1 + kMaxDraft);
}

// For answers that have ended.
void EngineLoop::stop_drafting(Active& active) {
  for (Answer& answer : active.answers) {
    if (!answer.ended || !answer.drafting) continue;
    speculator_->close(*answer.drafting);
    answer.drafting.reset();
  }
}

// Sample and match: rows are drawn from as long as each draw is what was proposed. The rows after that were
// computed from tokens that are not in the answer, and are forgotten.
size_t EngineLoop::draw_along_draft(const StepEntry& entry, size_t row, RowOutput form) {
  Sequence& sequence = *entry.sequence;
  Active& active = *static_cast<Active*>(sequence.spec.owner);
  Answer& answer = active.answers[sequence.choice];
  answer.n_drafted += entry.n_draft;
  size_t n_drawn = 0, n_accepted = 0;
  bool goes_on = true;
  while (goes_on) {
    const TokenId proposal = n_drawn < entry.n_draft ? answer.drafting->tokens[n_drawn] : -1;
    const std::optional<TokenId> token = draw_token(sequence, row + n_drawn, form, proposal);
    if (token) ++n_drawn;
    const bool is_match = token && *token == proposal;
    n_accepted += is_match;
    goes_on = is_match && sequence.phase != Phase::kEnded;
  }
  if (entry.n_draft > 0) {
    const size_t n_judged = std::min(n_drawn, entry.n_draft);
    speculator_->judge(*answer.drafting, entry.n_draft, n_judged, n_accepted);
  }
  return n_drawn;
}

}  // namespace ruvltra
