// Attempts of both loops: fit, gates, publish, report.
#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/fail.h"
#include "base/json.h"
#include "base/mean.h"
#include "sona/learning_loops.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxReports = 64;
constexpr int64_t kRateWindowUs = int64_t{3600} * 1'000'000;
constexpr int kInstantSteps = 2;       // on each micro-batch
constexpr size_t kMaxReplay = 2048;    // canary tokens of a full-batch fit
constexpr size_t kMinValidation = 64;  // tokens that can tell one base anchor from another
constexpr size_t kMinTrain = 256;
constexpr double kTolerance = 1e-4;        // of the objective: what a step has to bring
constexpr double kWithinNorm = 0.9;        // of G4's limit: other tokens than those fitted to are longer
constexpr size_t kMaxMerged = 64;          // conversations; each needs its Fisher in memory
constexpr size_t kMaxFisherTokens = 1024;  // of each

double distance(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double away = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += away * away;
  }
  return std::sqrt(sum);
}

std::vector<float> copy_of(std::span<const float> values) { return {values.begin(), values.end()}; }

// One-sided 95 % t-bound of the mean of at least two values.
double lower_bound_of(std::span<const double> values) {
  const double mean = mean_of(values), n = static_cast<double>(values.size());
  double square = 0;
  for (const double value : values) square += (value - mean) * (value - mean);
  return mean - t_quantile_95(values.size() - 1) * std::sqrt(square / (n - 1) / n);
}

// f(begin, end, whether a text begins there) for what of the pool is not used yet: at most kMicroBatch tokens
// at a time, of one text.
template <class F>
void each_piece(const RecordPool& pool, F&& f) {
  const auto begins = pool.begins();
  for (size_t at = pool.n_used(); at < pool.size();) {
    const auto next = std::upper_bound(begins.begin(), begins.end(), at);
    const size_t end = std::min(static_cast<size_t>(*next), at + kMicroBatch);
    f(at, end, *(next - 1) == at);
    at = end;
  }
}

// The gate that refused, and all reasons.
void tell_refusal(const GateReport& gates, LearnReport& report) {
  for (const GateResult& result : gates.results) {
    if (!result.passed && report.reason.empty()) report.reason = gate_name(result.gate);
  }
  report.detail = gates.reasons.empty() ? "" : gates.reasons.back();
}

void tell_gates(const GateReport& gates, LearnReport& report) {
  report.canary_kl = gates.drift;
  report.canary_rise = gates.canary_base > 0 ? gates.canary_candidate / gates.canary_base - 1 : 0;
  report.delta_p999 = gates.delta_p999;
  report.t = gates.t;
}

}  // namespace

Result<void> LearnerOptions::validate() const {
  const auto bad = [](std::string_view field, std::string_view expected, auto found) {
    return fail(ErrorKind::kUsage, "learning.options", "learner: {}: expected {}, found {}", field, expected,
                found);
  };
  RETURN_IF_ERROR(gates.validate());
  if (ring_capacity < 16 || ring_capacity > 1'000'000)
    return bad("ring_capacity", "16 to 1000000", ring_capacity);
  if (ring_bytes < (1u << 20)) return bad("ring_bytes", "at least 1 MiB", ring_bytes);
  if (max_signal_tokens < 2) return bad("max_signal_tokens", "at least 2", max_signal_tokens);
  if (!(ewc_lambda >= 0 && ewc_lambda <= 1e6)) return bad("ewc_lambda", "0 to 1e6", ewc_lambda);
  if (keep_generations < 2 || keep_generations > 1024)
    return bad("keep_generations", "2 to 1024", keep_generations);
  if (max_train_tokens < 1024) return bad("max_train_tokens", "at least 1024", max_train_tokens);
  if (max_held_out_tokens < 1024) return bad("max_held_out_tokens", "at least 1024", max_held_out_tokens);
  if (max_steps < 1 || max_steps > 1000) return bad("max_steps", "1 to 1000", max_steps);
  if (max_loaded_scopes < 2) return bad("max_loaded_scopes", "at least 2", max_loaded_scopes);
  if (!clock_us) return bad("clock_us", "a clock", "none");
  return {};
}

std::string_view learn_loop_name(LearnLoop loop) {
  switch (loop) {
    case LearnLoop::kInstant:
      return "instant";
    case LearnLoop::kBackground:
      return "background";
    case LearnLoop::kDeep:
      return "deep";
  }
  return "";
}

std::string LearnReport::json() const {
  Json tasks = Json::array();
  for (const TaskForgetting& task : forgetting)
    tasks.push_back({{"task", task.task}, {"nat", task.nat}, {"tokens", task.n_tokens}});
  return Json{{"loop", learn_loop_name(loop)},
              {"accepted", accepted},
              {"reason", reason},
              {"detail", detail},
              {"update_norm", update_norm},
              {"nll_before", nll_before},
              {"nll_after", nll_after},
              {"gain_lower_bound", gain_lower_bound},
              {"canary_kl", canary_kl},
              {"canary_rise", canary_rise},
              {"delta_p999", delta_p999},
              {"n0", n0},
              {"t", t},
              {"train_tokens", n_train_tokens},
              {"held_out_tokens", n_held_out_tokens},
              {"forgetting", tasks}}
      .dump();
}

// b must stay while the function does.
KeptTasks::Nll LearningLoops::nll_at(std::span<const float> b) {
  return [this, b](const Batch& batch) { return loss_->nll(batch, b); };
}

LearnReport LearningLoops::finish(LearnReport report) {
  report.time_us = options_.clock_us();
  ++counters_[report.accepted ? "accepted" : "refused: " + report.reason];
  reports_.push_front(report);
  if (reports_.size() > kMaxReports) reports_.pop_back();
  return report;
}

LearnReport LearningLoops::refuse(LearnReport report, std::string reason, std::string detail) {
  report.reason = std::move(reason);
  report.detail = std::move(detail);
  return finish(std::move(report));
}

// Why nothing may be published at the moment; empty: it may. G5 counts absolutely, all scopes of the tenant.
std::string LearningLoops::held_back(const ScopeState& state, ScopeState& tenant) const {
  const int64_t now = options_.clock_us();
  if (now < state.frozen_until_us || now < tenant.frozen_until_us) return "frozen";
  while (!tenant.publishes.empty() && now - tenant.publishes.front() >= kRateWindowUs)
    tenant.publishes.pop_front();
  return tenant.publishes.size() >= options_.max_publishes_an_hour ? "G5 rate" : "";
}

Result<void> LearningLoops::try_publish(ScopeState& state, ScopeState& tenant, uint64_t expected,
                                        const Adapter& live, Admission admission, LearnReport& report) {
  ASSIGN_OR_RETURN(Adapter made, Adapter::make(space_->basis(), std::move(admission.b)));
  const bool no_change = made.hash() == live.hash();
  if (no_change || state.is_banned(made.hash()) || book_.was_taken_back(state.scope, made.hash())) {
    report.reason = no_change ? "no change" : "rolled back before";
    return {};
  }
  report.update_norm = distance(made.b(), live.b());
  report.forgetting = state.kept.forgotten(nll_at(made.b()));
  report.hash = made.hash();
  GenerationRecord record;
  record.reason = learn_loop_name(report.loop);
  record.parent = expected;
  report.accepted = true;
  record.report = report.json();
  auto published =
      book_.publish(state.scope, expected, std::make_shared<const Adapter>(std::move(made)), record);
  report.accepted = published.has_value();
  if (!published && published.error().id == "store.conflict") {
    report.reason = "conflict";
    report.detail = published.error().message;
    return {};
  }
  if (!published) return tl::unexpected(published.error());
  report.generation = published->number;
  tenant.publishes.push_back(options_.clock_us());
  tenant.changed = state.changed = true;
  state.regression.restart();
  if (state.outcomes.n >= 20) state.quality_before = state.outcomes.mean;
  state.outcomes_since_publish = {};
  return {};
}

// ---- Instant.

void LearningLoops::score_block(ScopeState& state, const Batch& block, bool begins_text,
                                std::span<const float> live, std::span<const float> candidate) {
  const double before = loss_->nll(block, live);
  state.add_block(before, loss_->nll(block, candidate), block.examples.size(), begins_text);
}

// What waits, in micro-batches that end with their texts; each is scored by the candidate before the
// candidate is trained on it.
void LearningLoops::train_candidate(ScopeState& state, const Adapter& live) {
  if (state.candidate.empty() || state.candidate_from != live.hash()) {
    // Gains over another adapter are no evidence against this one.
    state.candidate = copy_of(live.b());
    state.candidate_from = live.hash();
    state.n_seen = 0;
    state.clear_blocks();
  }
  FitOptions options;
  options.beta = state.beta;
  options.max_delta = kWithinNorm * options_.gates.max_delta_ratio;
  LoraFit fit(*loss_, state.ewc, state.candidate, options);
  fit.set_n_seen(state.n_seen);
  const Batch train = state.train.batch();
  const Batch canary = space_->canary_batch();
  each_piece(state.train, [&](size_t begin, size_t end, bool begins_text) {
    const Batch fresh{train.records, train.examples.subspan(begin, end - begin)};
    score_block(state, fresh, begins_text, live.b(), fit.b());
    const size_t n_replay = std::min(end - begin, canary.examples.size());
    const size_t n_places = canary.examples.size() - n_replay + 1;
    const Batch replay{canary.records, canary.examples.subspan(state.n_replayed % n_places, n_replay)};
    state.n_replayed += n_replay;
    fit.micro_batch(fresh, replay, kInstantSteps);
  });
  state.train.use_all();
  state.n_seen = fit.n_seen();
  state.candidate = copy_of(fit.b());
  const Batch held = state.held_out.batch();
  each_piece(state.held_out, [&](size_t begin, size_t end, bool begins_text) {
    score_block(state, {held.records, held.examples.subspan(begin, end - begin)}, begins_text, live.b(),
                state.candidate);
  });
  state.held_out.use_all();
  state.changed = true;
}

Result<LearnReport> LearningLoops::instant(const Scope& scope) {
  ASSIGN_OR_RETURN(ScopeState * tenant, state({.tenant = scope.tenant, .session = ""}));
  ASSIGN_OR_RETURN(ScopeState * session, state(scope));
  session->pending_signals = session->pending_tokens = 0;
  // The number first: what is published in between makes the publish fail, never be overwritten.
  const uint64_t expected = book_.number(scope);
  const LiveAdapter live = book_.live(scope);
  train_candidate(*session, *live.adapter);
  LearnReport report;
  report.scope = scope;
  report.loop = LearnLoop::kInstant;
  report.n_train_tokens = static_cast<size_t>(session->n_seen);
  const size_t n_blocks = session->block_gains.size();
  report.n_held_out_tokens = static_cast<size_t>(session->gain_tokens);
  const GateLimits& gates = options_.gates;
  const bool enough =
      n_blocks >= gates.min_blocks || session->gain_texts >= static_cast<double>(gates.min_sequences);
  if (!enough || report.n_held_out_tokens < gates.min_fresh_tokens) {
    return refuse(
        std::move(report), "no evidence yet",
        fmt::format("expected {} blocks of up to {} tokens or {} texts, and {} tokens; found {}, {} "
                    "and {}",
                    gates.min_blocks, kMicroBatch, gates.min_sequences, gates.min_fresh_tokens, n_blocks,
                    session->gain_texts, report.n_held_out_tokens));
  }
  if (std::string why = held_back(*session, *tenant); !why.empty())
    return refuse(std::move(report), std::move(why), "");

  // Evidence serves one attempt: the chance of a false one is that of one test each time.
  const auto gains = session->block_gains, base = session->block_live;
  session->clear_blocks();
  report.nll_before = mean_of(base);
  report.nll_after = report.nll_before - mean_of(gains);
  report.gain_lower_bound = lower_bound_of(gains);
  if (!(report.gain_lower_bound > 0)) {
    // A candidate that has lost ground starts again.
    if (mean_of(gains) < 0) session->candidate.clear();
    return refuse(std::move(report), std::string(gate_name(Gate::kEvidence)),
                  fmt::format("expected a gain with 95 % confidence, found {:.5f} nat, at least {:.5f}",
                              mean_of(gains), report.gain_lower_bound));
  }
  // NLL is convex in B: a share t of the step gains at least a share t.
  Admission admission =
      admit(*loss_, nullptr, space_->canary_batch(), live.adapter->b(), session->candidate, options_.gates);
  session->beta = next_beta(session->beta, admission.report.drift);
  tell_gates(admission.report, report);
  if (!admission.report.passed) {
    tell_refusal(admission.report, report);
    session->candidate.clear();
    return finish(std::move(report));
  }
  std::vector<float> b = admission.b;
  RETURN_IF_ERROR(try_publish(*session, *tenant, expected, *live.adapter, std::move(admission), report));
  if (report.accepted) {
    session->candidate = std::move(b);
    session->candidate_from = report.hash;
    RETURN_IF_ERROR(save(*session));
    RETURN_IF_ERROR(save(*tenant));
  }
  return finish(std::move(report));
}

// ---- A tenant's candidates.

// Empty: there is held-out text that no attempt has used.
std::string LearningLoops::evidence_missing(const ScopeState& tenant) const {
  const size_t n_fresh = tenant.held_out.size() - tenant.held_out.n_used();
  if (n_fresh >= options_.gates.min_fresh_tokens) return "";
  return fmt::format("expected {} held-out tokens that no attempt has used, found {}",
                     options_.gates.min_fresh_tokens, n_fresh);
}

// Gates, publish, report.
Result<LearnReport> LearningLoops::judge(ScopeState& tenant, uint64_t expected, const Adapter& live,
                                         std::span<const float> candidate, LearnReport report) {
  const HeldOut held_out{.batch = tenant.held_out.batch(),
                         .sequence_begin = tenant.held_out.begins(),
                         .n_fresh_tokens = tenant.held_out.size() - tenant.held_out.n_used()};
  Admission admission = admit(*loss_, &held_out, space_->canary_batch(), live.b(), candidate, options_.gates);
  tenant.held_out.use_all();
  tenant.changed = true;
  tenant.beta = next_beta(tenant.beta, admission.report.drift);
  const Evidence& evidence = admission.report.evidence;
  tell_gates(admission.report, report);
  report.nll_before = loss_->nll(held_out.batch, live.b());
  report.nll_after = report.nll_before - evidence.mean;
  report.gain_lower_bound = std::isfinite(evidence.lower_bound) ? evidence.lower_bound : 0;
  if (admission.report.passed) {
    RETURN_IF_ERROR(try_publish(tenant, tenant, expected, live, std::move(admission), report));
  } else {
    tell_refusal(admission.report, report);
  }
  RETURN_IF_ERROR(save(tenant));
  return finish(std::move(report));
}

Result<LearnReport> LearningLoops::background(const std::string& tenant_name) {
  const Scope scope{.tenant = tenant_name, .session = ""};
  ASSIGN_OR_RETURN(ScopeState * tenant, state(scope));
  const uint64_t expected = book_.number(scope);
  const LiveAdapter live = book_.live(scope);
  const std::vector<float> start = copy_of(live.adapter->b());
  tenant->n_new_signals = 0;
  tenant->last_background_us = options_.clock_us();
  tenant->changed = true;
  LearnReport report;
  report.scope = scope;
  const Batch train = tenant->train.batch();
  const Batch validation = tenant->validation.batch();
  report.n_train_tokens = train.examples.size();
  report.n_held_out_tokens = tenant->held_out.size();
  if (train.examples.size() < kMinTrain) {
    return refuse(
        std::move(report), "too few tokens",
        fmt::format("expected at least {} tokens to fit to, found {}", kMinTrain, train.examples.size()));
  }
  if (std::string missing = evidence_missing(*tenant); !missing.empty())
    return refuse(std::move(report), "no evidence yet", std::move(missing));
  if (std::string why = held_back(*tenant, *tenant); !why.empty())
    return refuse(std::move(report), std::move(why), "");

  FitOptions options;
  options.beta = tenant->beta;
  options.max_steps = options_.max_steps;
  options.tolerance = kTolerance;
  options.max_delta = kWithinNorm * options_.gates.max_delta_ratio;
  const auto replayed = space_->canary_sample(std::min(train.examples.size(), kMaxReplay));
  const Batch replay{&space_->canary(), replayed};
  std::vector<float> candidate;
  if (validation.examples.size() >= kMinValidation) {
    AnchorChoice choice =
        fit_with_best_anchor(*loss_, tenant->ewc, start, options, train, replay, validation);
    candidate = std::move(choice.b);
    report.n0 = choice.n0;
  } else {
    LoraFit fit(*loss_, tenant->ewc, start, options);
    report.n0 = fit.full_batch(train, replay).n0;
    candidate = copy_of(fit.b());
  }
  return judge(*tenant, expected, *live.adapter, candidate, std::move(report));
}

// Sessions whose adapter says most about the tenant come first: the latest published. Their Fisher
// information is measured where they stand, on what they were fitted to.
Result<LearnReport> LearningLoops::deep(const std::string& tenant_name) {
  LearnReport report;
  report.scope = {.tenant = tenant_name, .session = ""};
  report.loop = LearnLoop::kDeep;
  const uint64_t expected = book_.number(report.scope);
  const LiveAdapter live = book_.live(report.scope);
  std::vector<std::pair<int64_t, Scope>> sessions;
  for (const Scope& scope : book_.scopes()) {
    if (scope.tenant != tenant_name || scope.session.empty() || book_.live(scope).adapter->is_zero())
      continue;
    sessions.emplace_back(-book_.history(scope).front().created_us, scope);
  }
  std::sort(sessions.begin(), sessions.end(), [](const auto& a, const auto& b) {
    return std::tie(a.first, a.second.session) < std::tie(b.first, b.second.session);
  });
  if (sessions.size() > kMaxMerged) sessions.resize(kMaxMerged);
  std::vector<LiveAdapter> adapters;
  std::vector<std::vector<double>> fishers;
  std::vector<double> n_tokens;
  for (const auto& [time, scope] : sessions) {
    ASSIGN_OR_RETURN(ScopeState * session, state(scope));
    const Batch train = session->train.batch();
    if (train.examples.empty()) continue;  // an import, or its records are gone: nothing says what it knows
    adapters.push_back(book_.live(scope));
    fishers.emplace_back(loss_->n_parameters());
    n_tokens.push_back(train.effective_tokens());
    // The latest text: a mean needs no more of it.
    const size_t n = std::min(train.examples.size(), kMaxFisherTokens);
    loss_->fisher({train.records, train.examples.last(n)}, adapters.back().adapter->b(), fishers.back());
    report.n_train_tokens += train.examples.size();
  }
  // The tenant's last: its sessions may have pushed it out of memory.
  ASSIGN_OR_RETURN(ScopeState * tenant, state(report.scope));
  report.n_held_out_tokens = tenant->held_out.size();
  if (adapters.empty()) {
    return refuse(std::move(report), "no sessions",
                  "expected a conversation with an adapter and records of its text, found none");
  }
  if (std::string missing = evidence_missing(*tenant); !missing.empty())
    return refuse(std::move(report), "no evidence yet", std::move(missing));
  if (std::string why = held_back(*tenant, *tenant); !why.empty())
    return refuse(std::move(report), std::move(why), "");
  std::vector<MergePart> parts;
  for (size_t i = 0; i < adapters.size(); ++i)
    parts.push_back({adapters[i].adapter->b(), fishers[i], n_tokens[i]});
  return judge(*tenant, expected, *live.adapter, merge_by_fisher(parts), std::move(report));
}

Result<void> LearningLoops::check_operators(const Adapter& adapter) {
  const GateReport gates =
      check_gates(*loss_, nullptr, space_->canary_batch(), {}, adapter.b(), options_.gates);
  if (gates.passed) return {};
  std::string reasons;
  for (const GateResult& result : gates.results) {
    if (!result.passed)
      reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", gate_name(result.gate), result.reason);
  }
  ++counters_["refused: operator"];
  return fail("learning.gate_rejected", "adapter {}: {}", to_hex(adapter.hash()).substr(0, 12), reasons);
}

}  // namespace ruvltra
