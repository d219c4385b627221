#include "sona/learning_loops.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <system_error>
#include <utility>

#include "base/fail.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxSessionFiles = 256;
// A conversation is short: its records are a quarter of a tenant's.
constexpr size_t kSessionShare = 4;
// Of the hash of a text: one in five is held out, one in eight of the others picks the base anchor.
constexpr unsigned kHeldOutIn = 5, kValidationIn = 8;
constexpr size_t kFlushTokens = 2048, kFlushSignals = 100;
constexpr int64_t kFlushAfterUs = 5'000'000, kSecondUs = 1'000'000, kHourUs = 3600 * kSecondUs;
constexpr uint64_t kBackgroundsPerDeep = 10;
constexpr int64_t kWeekUs = int64_t{7} * 24 * 3600 * 1'000'000;
constexpr size_t kBackgroundSignals = 100, kFewSignals = 20;
constexpr size_t kMinOutcomes = 20;
constexpr double kMaxAdvantage = 3, kLeastSigma = 0.1, kMaxOmega = 20, kMaxQualityFall = 0.1;
constexpr uint64_t kMinBoundaryTokens = 512;
// What an exponential average of decay 0.95 has the spread of: a plain one over so many, (1 + 0.95) / (1 -
// 0.95).
constexpr double kOutcomesRemembered = 39, kQualityErrors = 3;

Scope tenant_of(const Scope& scope) { return {.tenant = scope.tenant, .session = ""}; }

// Does a generation's reason say that nobody asked for it?
bool by_a_loop(const std::string& reason) {
  for (const LearnLoop loop : {LearnLoop::kInstant, LearnLoop::kBackground, LearnLoop::kDeep})
    if (reason == learn_loop_name(loop)) return true;
  return false;
}

Sha256Digest signal_key(const LearningSignal& signal, const Sha256Digest& content) {
  Sha256 hash;
  hash.update(signal.trajectory.bytes);
  hash.update(content);
  // An opinion of a text and the text itself are two things.
  const uint8_t is_quality = signal.kind == LearningSignalKind::kQuality;
  hash.update({&is_quality, 1});
  return hash.finish();
}

Sha256Digest side_key(const Sha256Digest& content, bool held_out) {
  Sha256 hash;
  const uint8_t side = held_out ? 'h' : 't';
  hash.update(content);
  hash.update({&side, 1});
  return hash.finish();
}

}  // namespace

Result<std::unique_ptr<LearningLoops>> LearningLoops::make(std::shared_ptr<const LearningSpace> space,
                                                           GenerationBook& book, std::filesystem::path folder,
                                                           TeacherForced forward,
                                                           const LearnerOptions& options,
                                                           std::function<void()> breathe) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return fail(ErrorKind::kIo, "file.create", "{}: cannot make the folder: {}", folder.string(),
                error.message());
  }
  std::unique_ptr<LearningLoops> loops(
      new LearningLoops(std::move(space), book, std::move(folder), std::move(forward), options));
  loops->breathe_ = std::move(breathe);
  RETURN_IF_ERROR(loops->clear_scratch());
  return loops;
}

LearningLoops::LearningLoops(std::shared_ptr<const LearningSpace> space, GenerationBook& book,
                             std::filesystem::path folder, TeacherForced forward,
                             const LearnerOptions& options)
    : space_(std::move(space)),
      book_(book),
      folder_(std::move(folder)),
      forward_(std::move(forward)),
      options_(options) {}

// Memory that nobody can read any more what was in it from.
Result<void> LearningLoops::clear_scratch() {
  const Ctx ctx{&pool_, &space_->head().kernels()};
  LoraLoss::Options options;
  options.breathe = breathe_;
  ASSIGN_OR_RETURN(loss_, LoraLoss::make(ctx, space_->head(), space_->basis()->n_features(),
                                         space_->basis()->scale(), std::move(options)));
  scratch_ = std::make_unique<TokenRecords>(TokenRecords::Options{.n_features = space_->basis()->n_features(),
                                                                  .n_rows = space_->head().n_rows(),
                                                                  .capacity = options_.max_signal_tokens,
                                                                  .top_k = space_->top_k(),
                                                                  .max_ids = 0});
  return {};
}

// ---- States in memory and on disk.

Result<ScopeState*> LearningLoops::state(const Scope& scope) {
  const auto found = states_.find({scope.tenant, scope.session});
  if (found != states_.end()) {
    found->second.used = ++use_;
    return found->second.state.get();
  }
  RETURN_IF_ERROR(make_room());
  const size_t share = scope.session.empty() ? 1 : kSessionShare;
  const auto fresh = [&] {
    return std::make_unique<ScopeState>(scope, StateShape::of(*space_), options_.ewc_lambda,
                                        options_.max_train_tokens / share,
                                        options_.max_held_out_tokens / share);
  };
  auto made = fresh();
  made->last_background_us = options_.clock_us();
  const auto file = state_file(folder_, scope);
  if (std::filesystem::exists(file)) {
    if (const auto loaded = made->load(file); !loaded) {
      // Records can be had again from the store; a state that is not whole is worth nothing.
      ++counters_["state_rejected"];
      made = fresh();
      made->last_background_us = options_.clock_us();
    }
  }
  set_frozen(*made, made->frozen_until_us);
  Loaded& entry = states_[{scope.tenant, scope.session}];
  entry = {std::move(made), ++use_};
  return entry.state.get();
}

// The scope used longest ago goes to its file. A signal has two scopes, which are not to chase each other.
Result<void> LearningLoops::make_room() {
  while (states_.size() >= std::max<size_t>(options_.max_loaded_scopes, 2)) {
    const auto oldest = std::min_element(states_.begin(), states_.end(), [](const auto& a, const auto& b) {
      return a.second.used < b.second.used;
    });
    RETURN_IF_ERROR(save(*oldest->second.state));
    states_.erase(oldest);
  }
  return {};
}

Result<void> LearningLoops::save(ScopeState& state) {
  if (!state.changed) return {};
  RETURN_IF_ERROR(state.save(state_file(folder_, state.scope)));
  state.changed = false;
  if (!state.scope.session.empty()) prune_session_files();
  return {};
}

Result<std::vector<std::filesystem::path>> LearningLoops::state_files() const {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  std::filesystem::directory_iterator at(folder_, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error))
    files.push_back(at->path());
  if (error) {
    return fail(ErrorKind::kIo, "file.read", "{}: cannot list the folder: {}", folder_.string(),
                error.message());
  }
  return files;
}

// States of conversations, the latest kMaxSessionFiles of them.
void LearningLoops::prune_session_files() {
  const auto tenant_end = state_file("", {.tenant = "", .session = ""}).filename().string().substr(64);
  std::vector<std::pair<std::filesystem::file_time_type, std::filesystem::path>> files;
  const auto all = state_files();
  if (!all) return;  // next time
  std::error_code error;
  for (const auto& file : *all) {
    if (file.extension() == ".state" && !file.filename().string().ends_with(tenant_end))
      files.emplace_back(std::filesystem::last_write_time(file, error), file);
  }
  if (files.size() <= kMaxSessionFiles) return;
  std::sort(files.begin(), files.end());
  for (size_t i = 0; i < files.size() - kMaxSessionFiles; ++i)
    std::filesystem::remove(files[i].second, error);
}

Result<void> LearningLoops::checkpoint() {
  for (auto& [key, loaded] : states_) RETURN_IF_ERROR(save(*loaded.state));
  return {};
}

Result<void> LearningLoops::forget(const std::string& tenant, const std::optional<std::string>& session) {
  std::erase_if(states_, [&](const auto& item) {
    return item.first.first == tenant && (!session || item.first.second == *session);
  });
  std::erase_if(frozen_until_us_, [&](const auto& item) {
    return item.first.first == tenant && (!session || item.first.second == *session);
  });
  std::erase_if(reports_, [&](const LearnReport& report) { return report.scope.tenant == tenant; });
  // The records of the last signal, and the sums of the last batch, may be theirs.
  RETURN_IF_ERROR(clear_scratch());
  const std::string prefix =
      session ? state_file("", {.tenant = tenant, .session = *session}).string() : state_prefix(tenant);
  ASSIGN_OR_RETURN(const auto files, state_files());
  for (const auto& file : files) {
    // Files of writes that were cut off begin with the name of what they were to become.
    if (!file.filename().string().starts_with(prefix)) continue;
    std::error_code error;
    std::filesystem::remove(file, error);
    if (error) {
      return fail(ErrorKind::kIo, "file.remove", "{}: cannot delete the file: {}", file.string(),
                  error.message());
    }
  }
  return session ? forget_in_tenant(tenant, *session) : Result<void>();
}

// The tenant has learned from its sessions' text too.
Result<void> LearningLoops::forget_in_tenant(const std::string& tenant, const std::string& session) {
  const Scope scope{.tenant = tenant, .session = ""};
  if (session.empty()) return {};
  if (!states_.contains({tenant, ""}) && !std::filesystem::exists(state_file(folder_, scope))) return {};
  ASSIGN_OR_RETURN(ScopeState * state, this->state(scope));
  for (RecordPool* pool : {&state->train, &state->validation, &state->held_out})
    state->changed |= pool->forget(owner_of(session)) > 0;
  state->changed |= state->kept.forget(owner_of(session)) > 0;
  return save(*state);
}

// ---- Signals.

// Advantage-weighted regression (Peng et al. 2019): omega = e^A for what was better than the tenant's other
// outcomes before it, nothing for the rest. Absent: it teaches nothing.
std::optional<float> LearningLoops::weight_of(ScopeState& tenant, const LearningSignal& signal) {
  if (signal.kind != LearningSignalKind::kQuality) return signal.weight;
  const OutcomeBaseline before = tenant.outcomes;
  tenant.outcomes.add(*signal.quality);
  if (before.n < static_cast<double>(kMinOutcomes)) {
    ++counters_["no_baseline"];
    return std::nullopt;
  }
  const double sigma = std::max(std::sqrt(before.variance), kLeastSigma);
  const double advantage = std::clamp((*signal.quality - before.mean) / sigma, -kMaxAdvantage, kMaxAdvantage);
  if (!(advantage > 0)) {
    ++counters_["no_advantage"];
    return std::nullopt;
  }
  return signal.weight * static_cast<float>(std::min(std::exp(advantage), kMaxOmega));
}

Result<void> LearningLoops::absorb(const LearningSignal& signal) {
  ASSIGN_OR_RETURN(ScopeState * tenant, state(tenant_of(signal.scope)));
  ScopeState* session = nullptr;
  if (!signal.scope.session.empty()) {
    ASSIGN_OR_RETURN(session, state(signal.scope));
  }
  ++counters_["signals"];
  const Sha256Digest content = signal_content(signal);
  if (!tenant->remember(signal_key(signal, content))) {
    ++counters_["duplicates"];
    return {};
  }
  tenant->changed = true;
  ++tenant->n_new_signals;
  const auto weight = weight_of(*tenant, signal);
  if (signal.kind == LearningSignalKind::kQuality) RETURN_IF_ERROR(watch_quality(*tenant, *signal.quality));
  if (!weight) return {};

  scratch_->clear();
  scratch_->set_k_state({space_->canary().k_state().top_k, 0, 0});
  ASSIGN_OR_RETURN(const bool whole,
                   record_text(forward_, *space_->basis(), signal.tokens, signal.n_context, *scratch_));
  if (!whole) ++counters_["cut"];
  if (scratch_->size() == 0) {
    ++counters_["not_finite"];
    return {};
  }
  const bool held_out = signal.split ? *signal.split == Split::kHoldout : content[0] % kHeldOutIn == 0;
  // The same text may come with another trajectory, whose split is another: it stays on the side it was on.
  if (tenant->seen_set.contains(side_key(content, !held_out))) {
    ++counters_["other_side"];
    return {};
  }
  tenant->remember(side_key(content, held_out));
  const bool validates = content[1] % kValidationIn == 0;
  for (ScopeState* each : {tenant, session}) {
    if (each == nullptr) continue;
    if (signal.kind != LearningSignalKind::kQuality) RETURN_IF_ERROR(watch(*each, *scratch_));
    const bool background = each == tenant;
    RecordPool& pool = held_out ? each->held_out : (validates && background) ? each->validation : each->train;
    pool.add(*scratch_, *weight, background ? owner_of(signal.scope.session) : 0);
    each->changed = true;
  }
  if (session == nullptr) return {};
  if (session->pending_signals++ == 0) session->first_pending_us = options_.clock_us();
  session->pending_tokens += static_cast<size_t>(static_cast<float>(scratch_->size()) * *weight);
  const bool due = session->pending_tokens >= kFlushTokens || session->pending_signals >= kFlushSignals ||
                   signal.kind == LearningSignalKind::kCorrection;
  if (options_.automatic && due) {
    const auto report = instant(signal.scope);
    if (!report) return tl::unexpected(report.error());
  }
  return {};
}

Result<void> LearningLoops::tick() {
  const int64_t now = options_.clock_us();
  std::vector<Scope> sessions, tenants;
  for (const auto& [key, loaded] : states_) {
    const ScopeState& state = *loaded.state;
    if (!state.scope.session.empty()) {
      if (state.pending_signals > 0 && now - state.first_pending_us >= kFlushAfterUs)
        sessions.push_back(state.scope);
    } else if (state.n_new_signals >= kBackgroundSignals ||
               (state.n_new_signals >= kFewSignals && now - state.last_background_us >= kHourUs)) {
      tenants.push_back(state.scope);
    }
  }
  for (const Scope& scope : sessions) {
    const auto report = instant(scope);
    if (!report) return tl::unexpected(report.error());
  }
  for (const Scope& scope : tenants) {
    const auto report = background(scope.tenant);
    if (!report) return tl::unexpected(report.error());
    if (options_.after_background) options_.after_background(scope.tenant);
    ++n_background_;
  }
  if (last_deep_us_ == 0) last_deep_us_ = now;  // a week since the start, not since 1970
  const bool due = n_background_ >= kBackgroundsPerDeep || now - last_deep_us_ >= kWeekUs ||
                   (options_.deep_is_due && options_.deep_is_due());
  return due ? deep_loops() : Result<void>();
}

Result<void> LearningLoops::deep_loops() {
  n_background_ = 0;
  last_deep_us_ = options_.clock_us();
  std::set<std::string> tenants;
  for (const Scope& scope : book_.scopes()) {
    if (!scope.session.empty()) tenants.insert(scope.tenant);
  }
  for (const std::string& tenant : tenants) {
    const auto report = deep(tenant);
    if (!report) return tl::unexpected(report.error());
  }
  if (options_.after_deep) options_.after_deep();
  ++counters_["deep_loops"];
  return {};
}

// ---- Watching what is live.

// Null: what is live was not published by a loop, or what came before is no longer kept.
std::shared_ptr<const Adapter> LearningLoops::parent_of_live(ScopeState& state) {
  const uint64_t own = book_.number(state.scope);
  if (own == 0 || book_.live(state.scope).generation != own) return nullptr;
  if (state.parent_of == own) return state.parent;
  state.parent_of = own;
  state.parent = nullptr;
  const auto history = book_.history(state.scope);
  if (!by_a_loop(history.front().reason)) return nullptr;
  if (history.front().parent == 0) {
    state.parent = book_.fallback(state.scope).adapter;
  } else if (auto found = book_.adapter(state.scope, history.front().parent)) {
    state.parent = std::move(*found);
  }
  return state.parent;
}

// A watch for the text that comes: what an adapter gains on text of this task that it was not trained on is
// its measure.
PageHinkley LearningLoops::shift_watch(const ScopeState& state, const Adapter& adapter) {
  PageHinkley watch = new_shift_watch();
  const Batch held_out = state.held_out.batch();
  const Batch batch = {held_out.records, held_out.examples.subspan(state.held_out.n_of_old_tasks())};
  const size_t n = batch.examples.size();
  if (n == 0) return watch;
  std::vector<TokenLoss> now(n), plain(n);
  loss_->each(batch, adapter.b(), now);
  loss_->each(batch, {}, plain);
  for (size_t block = 0; block < n / kMicroBatch; ++block) {
    double sum = 0;
    for (size_t i = block * kMicroBatch; i < (block + 1) * kMicroBatch; ++i) sum += now[i].nll - plain[i].nll;
    watch.add(sum / static_cast<double>(kMicroBatch));
  }
  return watch;
}

// 64-token blocks of new text under the live adapter. What it gains over the model as it is shrinks: a new
// task. (The NLL itself rises with every passage that is harder to read.) It is worse than the adapter before
// it: a mistake.
Result<void> LearningLoops::watch(ScopeState& state, const TokenRecords& text) {
  const LiveAdapter live = book_.live(state.scope);
  const auto parent = parent_of_live(state);
  const bool has_tasks = state.scope.session.empty() && !live.adapter->is_zero();
  if (state.watched != live.adapter->hash()) {
    state.watched = live.adapter->hash();
    state.block_over_model = state.block_over_parent = 0;  // of another adapter
    state.block_tokens = 0;
    if (has_tasks) state.shift = shift_watch(state, *live.adapter);
  }
  std::vector<Example> examples;
  for (size_t i = 0; i < text.size(); ++i) examples.push_back({static_cast<uint32_t>(i), 1});
  const Batch batch{&text, examples};
  std::vector<TokenLoss> now(text.size()), before(text.size()), plain(text.size());
  loss_->each(batch, live.adapter->b(), now);
  if (has_tasks) loss_->each(batch, {}, plain);
  if (parent) loss_->each(batch, parent->b(), before);
  bool shifted = false, worse = false;
  for (size_t i = 0; i < text.size(); ++i) {
    state.block_over_model += has_tasks ? now[i].nll - plain[i].nll : 0;
    state.block_over_parent += parent ? now[i].nll - before[i].nll : 0;
    if (++state.block_tokens < kMicroBatch) continue;
    const double share = 1 / static_cast<double>(kMicroBatch);
    shifted |= has_tasks && state.shift.add(share * state.block_over_model);
    worse |= parent && state.regression.add(share * state.block_over_parent);
    state.block_over_model = state.block_over_parent = 0;
    state.block_tokens = 0;
  }
  state.tokens_since_boundary += text.size();
  if (worse) return roll_back(state, "its parent predicts new text better");
  if (shifted && state.tokens_since_boundary >= kMinBoundaryTokens) {
    ++counters_["boundaries_found"];
    return boundary(state.scope, "");
  }
  return {};
}

Result<void> LearningLoops::watch_quality(ScopeState& tenant, double quality) {
  tenant.outcomes_since_publish.add(quality);
  const bool enough = tenant.outcomes_since_publish.n >= static_cast<double>(kMinOutcomes);
  if (!enough || tenant.quality_before <= 0) return {};
  // Two averages of a few dozen outcomes differ by chance: yes and no in equal parts by more than a tenth
  // every other time. So it has to be three standard errors as well.
  const OutcomeBaseline& since = tenant.outcomes_since_publish;
  const double variance = std::max(since.variance, tenant.outcomes.variance);
  const double error =
      std::sqrt(variance * (1 / std::min(since.n, kOutcomesRemembered) + 1 / kOutcomesRemembered));
  if (tenant.quality_before - since.mean <= std::max(kMaxQualityFall, kQualityErrors * error)) return {};
  tenant.quality_before = 0;
  const auto history = book_.history(tenant.scope);
  if (history.empty() || !by_a_loop(history.front().reason)) return {};
  return roll_back(tenant, "outcomes are worse than before it");
}

Result<void> LearningLoops::roll_back(ScopeState& state, const std::string& why) {
  const Sha256Digest hash = book_.live(state.scope).adapter->hash();
  ASSIGN_OR_RETURN(const GenerationRecord published, book_.rollback(state.scope, {}));
  state.ban(hash);
  set_frozen(state, options_.clock_us() + kHourUs);
  state.regression.restart();
  state.clear_blocks();
  state.candidate.clear();
  state.changed = true;
  ++counters_["rollbacks"];
  LearnReport report;
  report.scope = state.scope;
  report.loop = state.scope.session.empty() ? LearnLoop::kBackground : LearnLoop::kInstant;
  report.reason = "rolled back";
  report.detail = why;
  report.generation = published.number;
  report.hash = published.content;
  finish(std::move(report));
  return save(state);
}

Result<void> LearningLoops::taken_back(const Scope& scope, uint64_t number) {
  const auto hash = book_.taken_back_by(scope, number);
  // The zero adapter is no candidate, and the global scope learns nothing by itself.
  if (!hash || *hash == Sha256Digest{} || scope.tenant.empty()) return {};
  ASSIGN_OR_RETURN(ScopeState * state, this->state(scope));
  state->ban(*hash);
  state->changed = true;
  ++counters_["operator_rollbacks"];
  return save(*state);
}

// ---- Tasks.

void LearningLoops::measure_fisher(ScopeState& state, std::span<const float> live, size_t n_records) {
  constexpr size_t kMaxBatches = 64;
  const Batch all = state.train.batch();
  const size_t n = std::min(n_records, all.examples.size());
  const size_t n_batches = std::max<size_t>(1, n / kFisherBatch),
               n_measured = std::min(n_batches, kMaxBatches);
  std::vector<double> fisher(state.ewc.size());
  state.ewc.restart();
  for (size_t i = 0; i < n_measured && n > 0; ++i) {
    const size_t first = i * n_batches / n_measured * kFisherBatch;
    loss_->fisher({all.records, all.examples.subspan(first, std::min(kFisherBatch, n - first))}, live,
                  fisher);
    state.ewc.observe(fisher);
  }
}

Result<void> LearningLoops::boundary(const Scope& scope, std::string task) {
  ASSIGN_OR_RETURN(ScopeState * state, this->state(scope));
  // The blocks under suspicion are of the new task already.
  const size_t n_new = task.empty() ? state->shift.n_suspect() * kMicroBatch : 0;
  const size_t n_old = state->train.size() - std::min(state->train.size(), n_new);
  state->changed = true;
  state->tokens_since_boundary = 0;
  state->shift = new_shift_watch();
  const LiveAdapter live = book_.live(scope);
  // Nothing was learned yet that could be forgotten: an anchor at the model as it is would hold back all that
  // is to come. And where a shift is found, but nothing was published since the anchor, it would only be set
  // again, in a task that was not learned.
  const auto anchor = state->ewc.anchor();
  const bool anchored =
      task.empty() && state->ewc.has_anchor() && std::ranges::equal(anchor, live.adapter->b());
  if (n_old == 0 || live.adapter->is_zero() || anchored) {
    ++counters_[n_old == 0 ? "boundaries_without_records" : "boundaries_before_learning"];
    // A shift ends no task here, so the one that was named goes on.
    if (!task.empty()) state->task = std::move(task);
    return {};
  }
  const std::string ended = std::exchange(state->task, std::move(task));
  state->end_task(ended, nll_at(live.adapter->b()));
  measure_fisher(*state, live.adapter->b(), n_old);
  // The fit to them may have ended at a bound: then it was not in a minimum.
  std::vector<double> gradient(state->ewc.size());
  const Batch all = state->train.batch();
  loss_->nll({all.records, all.examples.first(n_old)}, live.adapter->b(), 1, gradient);
  state->ewc.boundary(live.adapter->b(), gradient);
  ++counters_["boundaries"];
  return {};
}

Result<void> LearningLoops::freeze(const Scope& scope, int64_t until_us) {
  ASSIGN_OR_RETURN(ScopeState * state, this->state(scope));
  set_frozen(*state, until_us);
  state->changed = true;
  return save(*state);
}

void LearningLoops::set_frozen(ScopeState& state, int64_t until_us) {
  state.frozen_until_us = until_us;
  const Key key{state.scope.tenant, state.scope.session};
  if (until_us > options_.clock_us()) {
    frozen_until_us_[key] = until_us;
  } else {
    frozen_until_us_.erase(key);
  }
}

std::vector<std::pair<Scope, int64_t>> LearningLoops::frozen() const {
  std::vector<std::pair<Scope, int64_t>> all;
  for (const auto& [key, until_us] : frozen_until_us_)
    all.push_back({{.tenant = key.first, .session = key.second}, until_us});
  return all;
}

}  // namespace ruvltra
