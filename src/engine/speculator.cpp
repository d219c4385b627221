#include "engine/speculator.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/num.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxAsks = 64;        // EngineConfig::parallel
constexpr size_t kProbeLength = 2;     // proposals of a try
constexpr size_t kProbeWindow = 32;    // tokens that the draft model reads for a try
constexpr uint32_t kDraftPurpose = 1;  // of random numbers
constexpr size_t kReadPerToken = 8;    // tokens it reads at most for each that the answer may still get

Lookahead::Options lookahead_options(const SpeculativeConfig& config) {
  Lookahead::Options options;
  options.adaptive = config.adaptive;
  options.most = config.adaptive ? kMaxDraft : static_cast<size_t>(config.lookahead);
  const bool measures = config.adaptive && config.source == DraftSource::kAuto;
  options.cut_off = measures ? 0 : static_cast<double>(config.acceptance_threshold);
  return options;
}

}  // namespace

Speculator::Speculator(const SpeculativeConfig& config, DraftModel* model)
    : config_(config), model_(model), lookahead_(lookahead_options(config)) {
  drafters_.reserve(kMaxAsks);
  in_step_.reserve(kMaxAsks);
}

std::unique_ptr<Drafting> Speculator::open(size_t n_tokens, TenantId tenant) const {
  auto drafting = std::make_unique<Drafting>();
  if (config_.source != DraftSource::kModel) drafting->index.reserve(n_tokens);
  if (model_ != nullptr) drafting->context = model_->open(tenant);
  drafting->history = lookahead_.new_history();
  drafting->tokens.reserve(kMaxDraft);
  return drafting;
}

void Speculator::close(Drafting& drafting) {
  if (drafting.context) model_->close(*drafting.context);
}

void Speculator::propose(std::span<const Ask> asks, size_t n_others) {
  draft_ms_ = 0;
  drafters_.clear();
  for (const Ask& ask : asks) {
    ask.drafting->tokens.clear();
    ask.drafting->made = {};
    ask.drafting->is_probe = false;
  }
  // What steps cost is measured before anything is tried.
  if (config_.adaptive && !lookahead_.times().is_known()) return;
  size_t n_rows = asks.size() + n_others;
  for (const Ask& ask : asks) {
    if (propose_by_lookup(ask, n_rows)) {
      n_rows += ask.drafting->tokens.size();
    } else if (wants_model(ask, n_rows, drafters_.size() + 1)) {
      drafters_.push_back({.ask = &ask});
    }
  }
  if (!drafters_.empty()) propose_by_model(n_rows);
}

// What follows the longest match; where that reaches the end of the text, its own beginning follows.
bool Speculator::propose_by_lookup(const Ask& ask, size_t n_rows) {
  Drafting& drafting = *ask.drafting;
  if (config_.source == DraftSource::kModel || ask.n_most == 0) return false;
  drafting.index.extend(ask.text);
  const SuffixIndex::Match match = drafting.index.find(ask.text);
  if (match.length == 0) return false;
  const size_t c = match_class(match.length);
  size_t n = lookahead_.lookup_length(drafting.history, c, ask.n_most, n_rows);
  if (n > 0 && model_ != nullptr && config_.adaptive &&
      lookahead_.model_gain(drafting.history, n_rows, drafters_.size() + 1) >
          lookahead_.lookup_gain(drafting.history, c, n, n_rows)) {
    return false;
  }
  if (n == 0 && lookahead_.probe_due(drafting.history, DraftOrigin::kLookup)) {
    drafting.is_probe = true;
    Lookahead::try_now(drafting.history, DraftOrigin::kLookup);
    n = std::min(kProbeLength, ask.n_most);
  }
  drafting.made.origin = DraftOrigin::kLookup;
  drafting.n_rows = n_rows;
  for (size_t i = 0; i < n; ++i) {
    const size_t from = match.position + i;
    drafting.tokens.push_back(from < ask.text.size() ? ask.text[from]
                                                     : drafting.tokens[from - ask.text.size()]);
    drafting.made.classes[i] = static_cast<uint8_t>(c);
  }
  drafting.made.n = n;
  return n > 0;
}

bool Speculator::wants_model(const Ask& ask, size_t n_rows, size_t n_sharing) {
  if (model_ == nullptr || ask.n_most == 0) return false;
  Drafting& drafting = *ask.drafting;
  if (lookahead_.draft_on(drafting.history, 1, 0, n_rows, n_sharing)) return true;
  drafting.is_probe = lookahead_.probe_due(drafting.history, DraftOrigin::kModel);
  if (drafting.is_probe) Lookahead::try_now(drafting.history, DraftOrigin::kModel);
  return drafting.is_probe;
}

// Every answer's text is read, then each proposal leads to the next as long as that pays.
void Speculator::propose_by_model(size_t n_rows) {
  const auto begin = Clock::now();
  for (Drafter& drafter : drafters_) {
    Drafting& drafting = *drafter.ask->drafting;
    drafting.made.origin = DraftOrigin::kModel;
    drafting.n_rows = n_rows;
    const size_t window = drafting.is_probe ? 0 : kReadPerToken * drafter.ask->n_left;
    model_->catch_up(*drafting.context, drafter.ask->text, std::max(window, kProbeWindow));
  }
  while (run_draft_step(n_rows)) {
  }
  trim(n_rows);
  const std::chrono::duration<double> seconds = Clock::now() - begin;
  draft_ms_ = 1e3 * seconds.count();
  stats_.draft_seconds += seconds.count();
}

// False if nobody wanted one.
bool Speculator::run_draft_step(size_t n_rows) {
  model_->begin();
  in_step_.clear();
  bool is_empty = true;
  for (Drafter& drafter : drafters_) {
    if (!drafter.goes_on) continue;
    if (!add_to_step(drafter)) continue;
    is_empty = false;
    if (drafter.goes_on) in_step_.push_back(&drafter);
  }
  if (is_empty) return false;
  const auto begin = Clock::now();
  model_->run();
  for (size_t i = 0; i < in_step_.size(); ++i) {
    const Ask& ask = *in_step_[i]->ask;
    const size_t position = ask.text.size() + ask.drafting->tokens.size();
    const double u = philox_uniform(ask.seed, static_cast<uint32_t>(position), ask.choice, kDraftPurpose);
    take(*in_step_[i], model_->proposal(i, u), n_rows);
  }
  const std::chrono::duration<double> seconds = Clock::now() - begin;
  if (model_->n_rows() <= 2 * in_step_.size()) lookahead_.times().learn_draft(1e3 * seconds.count());
  return true;
}

// What an answer reads next: its text, in pieces if it is long, then its own last proposal. Text that is left
// over is read in the next steps, and so long there are no proposals.
bool Speculator::add_to_step(Drafter& drafter) {
  Drafting& drafting = *drafter.ask->drafting;
  DraftModel::Context& context = *drafting.context;
  const std::span<const TokenId> text = drafter.ask->text;
  if (drafter.is_done_reading) {
    drafter.goes_on = model_->add(context, std::span(drafting.tokens).last(1), true);
    if (drafter.goes_on) context.beyond.push_back(drafting.tokens.back());
    return drafter.goes_on;
  }
  const size_t n_unread = model_->n_unread(context, text.size());
  const size_t n = std::min(n_unread, model_->rows_left());
  drafter.is_done_reading = n == n_unread;
  const bool reads = n > 0 && model_->add(context, text.last(n_unread).first(n), drafter.is_done_reading);
  drafter.goes_on = reads && drafter.is_done_reading;
  return reads;
}

void Speculator::take(Drafter& drafter, const DraftModel::Proposal& proposal, size_t n_rows) {
  Drafting& drafting = *drafter.ask->drafting;
  drafter.goes_on = false;
  if (proposal.token < 0) return;
  const size_t c = confidence_class(proposal.probability);
  lookahead_.saw(drafting.history, DraftOrigin::kModel, c);
  if (proposal.probability < lookahead_.options().cut_off) {
    ++stats_.n_unused;
    return;
  }
  drafting.made.classes[drafting.made.n++] = static_cast<uint8_t>(c);
  drafting.tokens.push_back(proposal.token);
  drafter.survival *= lookahead_.rate_of(drafting.history, DraftOrigin::kModel, c);
  const size_t n_made = drafting.tokens.size();
  if (n_made >= drafter.ask->n_most) return;
  drafter.goes_on = drafting.is_probe ? n_made < kProbeLength
                                      : lookahead_.draft_on(drafting.history, drafter.survival, n_made,
                                                            n_rows, drafters_.size());
}

// Proposals that are too doubtful for a row of the large model are dropped.
void Speculator::trim(size_t n_rows) {
  for (const Drafter& drafter : drafters_) {
    Drafting& drafting = *drafter.ask->drafting;
    if (!drafting.is_probe) {
      const size_t n = lookahead_.model_length(drafting.history, drafting.made, n_rows);
      stats_.n_unused += drafting.tokens.size() - n;
      drafting.tokens.resize(n);
      drafting.made.n = n;
    }
    n_rows += drafting.tokens.size();
  }
}

void Speculator::cut(Drafting& drafting, size_t n) {
  if (drafting.made.origin == DraftOrigin::kModel) stats_.n_unused += drafting.tokens.size() - n;
  drafting.tokens.resize(n);
  drafting.made.n = n;
}

void Speculator::judge(Drafting& drafting, size_t n_granted, size_t n_judged, size_t n_accepted) {
  DraftVerdict& made = drafting.made;
  made.n = n_granted;
  made.n_judged = n_judged;
  made.n_accepted = n_accepted;
  lookahead_.learn(drafting.history, made);
  lookahead_.tried(drafting.history, made, drafting.is_probe, drafting.n_rows);

  ++stats_.n_drafts;
  stats_.n_drafted += n_granted;
  stats_.n_judged += n_judged;
  stats_.n_accepted += n_accepted;
  if (made.origin == DraftOrigin::kLookup) {
    stats_.n_by_lookup += n_granted;
    stats_.n_accepted_by_lookup += n_accepted;
  }
  for (size_t i = 0; i < n_granted; ++i) {
    ++stats_.n_drafted_at[i];
    stats_.n_accepted_at[i] += i < n_accepted;
  }
}

void Speculator::learn(size_t n_rows, size_t n_tokens, double step_ms) {
  lookahead_.learn(n_rows, n_tokens, step_ms, draft_ms_);
}

const SpeculationStats& Speculator::stats() {
  const StepTimes& times = lookahead_.times();
  stats_.unit_seconds = 1e-3 * times.unit_ms();
  stats_.draft_cost = model_ != nullptr ? times.draft() : 0;
  for (size_t n = 0; n < stats_.verify_cost.size(); ++n) stats_.verify_cost[n] = times.step(n + 1);
  return stats_;
}

}  // namespace ruvltra
