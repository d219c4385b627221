#include "api/sona_parts.h"

#include <cmath>
#include <cstdlib>
#include <system_error>

#include "api/fresh_pass.h"
#include "base/fail.h"
#include "base/utf8.h"
#include "kernels/dispatch.h"
#include "sona/bank_checks.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxNameBytes = 256;
constexpr size_t kMaxTextBytes = 64 * 1024;
constexpr size_t kMaxTasks = 1024;
constexpr size_t kUpkeepItems = 64;  // a portion: a few milliseconds

template <class... Args>
tl::unexpected<Error> refuse(std::string_view id, fmt::format_string<Args...> format, Args&&... args) {
  return fail(ErrorKind::kUsage, id, format, std::forward<Args>(args)...);
}

Result<void> check_text(std::string_view field, std::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return refuse("learning.trajectory", "{}: expected at most {} bytes, found {}", field, max_bytes,
                  text.size());
  }
  if (!utf8_is_valid(text)) return refuse("learning.trajectory", "{}: expected UTF-8", field);
  return {};
}

Result<void> check_quality(std::string_view field, const std::optional<double>& quality) {
  if (!quality || (*quality >= 0 && *quality <= 1)) return {};
  return refuse("learning.quality", "{}: expected 0..1, found {}", field, *quality);
}

Result<void> check_hooks(const HookState& state, const HookBasis& basis) {
  if (state.space != basis.space()) {
    return refuse("learning.space", "hook state: expected space {:016x}, found {:016x}", basis.space(),
                  state.space);
  }
  const bool same_layers =
      std::equal(state.layers.begin(), state.layers.end(), basis.layers().begin(), basis.layers().end());
  const size_t n_values = state.layers.size() * kEmbeddingDim;
  if (!same_layers || state.values.size() != n_values) {
    return refuse("learning.space", "hook state: expected {} layers of {} values, found {} and {} values",
                  basis.layers().size(), kEmbeddingDim, state.layers.size(), state.values.size());
  }
  for (const float value : state.values) {
    if (!std::isfinite(value))
      return refuse("learning.not_finite", "hook state: expected finite values, found {}", value);
  }
  return {};
}

Result<void> check_trajectory(const Trajectory& t) {
  if (t.task_type.empty()) return refuse("learning.trajectory", "task_type: expected a name, found none");
  RETURN_IF_ERROR(check_text("task_type", t.task_type, kMaxNameBytes));
  RETURN_IF_ERROR(check_text("agent", t.agent, kMaxNameBytes));
  RETURN_IF_ERROR(check_text("lesson", t.lesson, kMaxTextBytes));
  if (t.steps.empty()) {
    return refuse("learning.trajectory", "steps: expected at least one state or action, found none");
  }
  if (t.steps.size() > kMaxTrajectorySteps) {
    return refuse("learning.trajectory", "steps: expected at most {}, found {}", kMaxTrajectorySteps,
                  t.steps.size());
  }
  for (const TrajectoryStep& step : t.steps) {
    if (step.kind == TrajectoryStep::Kind::kAction && step.name.empty())
      return refuse("learning.trajectory", "action: expected a name, found none");
    RETURN_IF_ERROR(check_text("action", step.name, kMaxNameBytes));
    RETURN_IF_ERROR(check_text("text", step.text, kMaxTextBytes));
    RETURN_IF_ERROR(check_quality("action quality", step.quality));
  }
  RETURN_IF_ERROR(check_quality("quality", t.quality));
  if (t.verdict.kind == VerdictKind::kPartial)
    RETURN_IF_ERROR(check_quality("verdict completion", t.verdict.completion));
  if (t.verdict.kind == VerdictKind::kRecovered && t.verdict.attempts < 1) {
    return refuse("learning.trajectory", "verdict attempts: expected at least 1, found {}",
                  t.verdict.attempts);
  }
  return {};
}

// By content, so that duplicates fall on the same side: every fifth is held out.
Split split_of(const Trajectory& t) {
  Sha256 hash;
  const auto update = [&](std::string_view text) {
    const uint64_t size = text.size();
    hash.update({reinterpret_cast<const uint8_t*>(&size), sizeof size});
    hash.update({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  };
  update(t.task_type);
  for (const TrajectoryStep& step : t.steps) {
    update(step.name);
    update(step.text);
  }
  return hash.finish()[0] % 5 == 0 ? Split::kHoldout : Split::kTrain;
}

BankOptions bank_options(const MediumConfig& config, const std::filesystem::path& folder) {
  BankOptions options;
  options.capacity = config.sona_config.pattern_capacity;
  options.quality_threshold = static_cast<double>(config.sona_config.quality_threshold);
  options.hnsw_m = config.sona_hooks.hnsw_m;
  options.hnsw_ef_construction = config.sona_hooks.hnsw_ef_construction;
  options.hnsw_ef_search = config.sona_hooks.hnsw_ef_search;
  options.index_file = folder / "bank.rvc";
  return options;
}

}  // namespace

Result<TemporaryFolder> TemporaryFolder::make() {
  std::error_code error;
  std::string name = (std::filesystem::temp_directory_path(error) / "ruvltra-XXXXXX").string();
  if (error || mkdtemp(name.data()) == nullptr) {
    return fail(ErrorKind::kIo, "file.create", "{}: a temporary folder could not be made", name);
  }
  TemporaryFolder folder;
  folder.path_ = name;
  return folder;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

size_t RecordedAnswers::bytes_of(const RecordedAnswer& answer) {
  return answer.tokens
             ? (answer.tokens->prompt.capacity() + answer.tokens->output.capacity()) * sizeof(TokenId)
             : 0;
}

void RecordedAnswers::add(RequestId id, int choice, RecordedAnswer answer) {
  const Key key(id, choice);
  const std::lock_guard lock(mutex_);
  n_bytes_ += bytes_of(answer);
  if (answer.tokens) with_tokens_.push_back(key);
  answers_[key] = std::move(answer);
  order_.push_back(key);
  while (n_bytes_ > max_bytes_ && !with_tokens_.empty()) {
    const auto oldest = answers_.find(with_tokens_.front());
    with_tokens_.pop_front();
    if (oldest == answers_.end()) continue;
    n_bytes_ -= bytes_of(oldest->second);
    oldest->second.tokens.reset();
  }
  if (order_.size() > kKept) {
    const auto oldest = answers_.find(order_.front());
    if (oldest != answers_.end()) {
      n_bytes_ -= bytes_of(oldest->second);
      answers_.erase(oldest);
    }
    if (!with_tokens_.empty() && with_tokens_.front() == order_.front()) with_tokens_.pop_front();
    order_.pop_front();
  }
}

std::optional<RecordedAnswer> RecordedAnswers::find(RequestId id, int choice) const {
  const std::lock_guard lock(mutex_);
  const auto found = answers_.find({id, choice});
  return found == answers_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<RecordedAnswer> RecordedAnswers::find(const TrajectoryId& trajectory) const {
  const std::lock_guard lock(mutex_);
  for (auto key = order_.rbegin(); key != order_.rend(); ++key) {
    const auto found = answers_.find(*key);
    if (found != answers_.end() && found->second.trajectory == trajectory) return found->second;
  }
  return std::nullopt;
}

void RecordedAnswers::forget(const std::string& tenant) {
  const std::lock_guard lock(mutex_);
  std::erase_if(answers_, [&](const auto& each) {
    if (each.second.tenant != tenant) return false;
    n_bytes_ -= bytes_of(each.second);
    return true;
  });
}

Result<std::unique_ptr<SonaParts>> SonaParts::open(
    ModelParts& model, std::span<const int> explicit_layers,
    const std::function<bool(size_t done, size_t total)>& on_text) {
  const MediumConfig& config = model.config;
  auto parts = std::make_unique<SonaParts>(config.sona_config.record_mb << 20);
  parts->model = &model;
  SonaHooks hooks = config.sona_hooks;
  if (!explicit_layers.empty()) {
    hooks.layers.assign(explicit_layers.begin(), explicit_layers.end());
    hooks.explicit_layers = true;
  }
  parts->hooks_explicit = hooks.explicit_layers;
  parts->hooks_requested = hooks.layers;
  ASSIGN_OR_RETURN(parts->hooks, effective_hook_layers(hooks, config.n_layers));
  parts->folder = config.data_dir;
  if (parts->folder.empty()) {
    ASSIGN_OR_RETURN(parts->temporary, TemporaryFolder::make());
    parts->folder = parts->temporary.path();
  }
  Store::Options options;
  options.trajectory_capacity = options.pattern_capacity = config.sona_config.pattern_capacity;
  ASSIGN_OR_RETURN(parts->store, Store::open(parts->folder, options));

  const PooledStates states = [&model](std::string_view text, std::span<const int> layers) {
    return pooled_states(model, text, layers);
  };
  const Sha256Digest& digest = model.weights.file_digest;
  const auto basis_file = parts->folder / fmt::format("basis-{}-{}.rvc", to_hex(digest).substr(0, 16),
                                                      fmt::join(parts->hooks, "-"));
  ASSIGN_OR_RETURN(HookBasis basis, load_or_fit_basis(basis_file, digest, parts->hooks,
                                                      model.weights.shape.d_model, states, on_text));
  parts->embedder = std::make_unique<HiddenEmbedder>(std::move(basis), states);

  const TokenCounter count_tokens = [&model](std::string_view text) -> Result<size_t> {
    ASSIGN_OR_RETURN(const auto tokens, model.tokenizer.encode(text, Recognise::kNone));
    return tokens.size();
  };
  ASSIGN_OR_RETURN(const KernelTable* kernels, kernel_table(config.isa));
  ASSIGN_OR_RETURN(parts->bank, Bank::open(*parts->store, *parts->embedder, *kernels, count_tokens,
                                           bank_options(config, parts->folder)));
  parts->upkeep = std::make_unique<PatternUpkeep>(*parts->bank);
  Router::Options routing;
  routing.ewc_lambda = static_cast<double>(config.sona_config.ewc_lambda);
  routing.kernels = kernels;
  ASSIGN_OR_RETURN(parts->router, Router::open(*parts->store, parts->embedder.get(), routing));

  parts->background = std::make_unique<Background>(kMaxTasks, [bank = parts->bank.get()] {
    const auto left = bank->work(kUpkeepItems);
    return left && *left > 0;  // an error is met again at the next wake
  });
  if (config.sona_config.learn == LearnMode::kOn) RETURN_IF_ERROR(parts->start_learner());
  if (config.sona_config.learn != LearnMode::kOff) {
    parts->recorder = std::make_shared<Recorder>(
        config.sona_config.ring_capacity, config.sona_config.record_mb << 20,
        [p = parts.get()](AnsweredRequest& answer) { return p->record_answer(answer); });
    RETURN_IF_ERROR(model.loop->observe(parts->recorder, parts->hooks));
  }
  return parts;
}

SonaParts::~SonaParts() {
  if (learner) {
    model->adapters.set({});  // requests hold what they pinned
    learner->stop();
  }
  if (recorder) {
    (void)model->loop->observe(nullptr, {});
    recorder->stop();  // answers still being made hold the recorder, but find it closed
  }
  background.reset();
  if (bank) (void)bank->checkpoint();  // a start without the file takes longer, nothing else
}

Result<TrajectoryRecord> SonaParts::to_record(Trajectory trajectory, const Scope& scope,
                                              std::string provenance) {
  RETURN_IF_ERROR(check_scope(scope));
  RETURN_IF_ERROR(check_trajectory(trajectory));
  for (TrajectoryStep& step : trajectory.steps) {
    if (step.hooks) {
      RETURN_IF_ERROR(check_hooks(*step.hooks, embedder->basis()));
    } else if (step.kind == TrajectoryStep::Kind::kState && !step.text.empty()) {
      ASSIGN_OR_RETURN(step.hooks, embedder->embed_hooks(step.text));
    }
  }
  TrajectoryRecord record;
  record.id = new_record_id();
  record.tenant = scope.tenant;
  record.session = scope.session;
  record.quality = trajectory.final_quality();
  record.source = trajectory.final_source();
  record.model_hash = model->weights.file_digest;
  record.provenance = std::move(provenance);
  record.ended_us = now_us();
  record.split = split_of(trajectory);
  record.body = std::move(trajectory);
  return record;
}

Result<void> SonaParts::keep(const TrajectoryRecord& record, const TrajectoryRecord* before) {
  RETURN_IF_ERROR(store->put_trajectory(record));
  if (!model->config.enable_reasoning_bank) return {};
  RETURN_IF_ERROR(bank->learn_from(record, before));
  background->wake();
  return {};
}

Result<void> SonaParts::record_answer(AnsweredRequest& answer) {
  const Tokenizer& tokenizer = model->tokenizer;
  const auto text_of = [&](std::span<const TokenId> tokens) {
    const std::string text = utf8_replace_invalid(tokenizer.decode(tokens, false));
    return std::string(utf8_cut(text, kMaxTextBytes));
  };
  Trajectory trajectory("chat");
  const std::string task = answer.task.empty() ? text_of(answer.prompt) : answer.task;
  if (!task.empty()) trajectory.add_state({.text = std::string(utf8_cut(task, kMaxTextBytes))});
  trajectory.add_action("answer", {}, text_of(answer.output));
  if (answer.hooks.n_tokens > 0) {
    // What the hooks saw while it was written: no pass of its own.
    ASSIGN_OR_RETURN(HookState seen, embedder->project(answer.hooks.mean));
    trajectory.add_state({.text = {}, .hooks = std::move(seen)});
  }
  Scope scope;
  if (!answer.tenant.empty()) scope.tenant = answer.tenant;
  scope.session = answer.session;
  ASSIGN_OR_RETURN(const TrajectoryRecord record, to_record(std::move(trajectory), scope, "engine"));
  RETURN_IF_ERROR(keep(record));

  RecordedAnswer recent{.tenant = record.tenant, .trajectory = record.id, .tokens = {}};
  if (learner) {
    recent.tokens = std::make_shared<const RecordedAnswer::Tokens>(
        RecordedAnswer::Tokens{std::move(answer.prompt), std::move(answer.output)});
  }
  recorded.add(answer.id, answer.choice, std::move(recent));
  return {};
}

Result<void> SonaParts::apply_feedback(TrajectoryRecord record, const Signal& signal, bool is_new) {
  const bool says_how_good = signal.quality || signal.success;
  const double quality = signal.quality.value_or(signal.success.value_or(false) ? 1.0 : 0.0);
  const auto is_there = [&](const TrajectoryStep& step) {
    return step.name == kCorrectionAction && step.text == signal.correction;
  };
  const bool corrects = !signal.correction.empty() &&
                        std::none_of(record.body.steps.begin(), record.body.steps.end(), is_there);
  // Feedback that was stored before counts again only where its effect is missing: its process ended between.
  const bool rates = says_how_good && (is_new || !record.quality);
  if (!corrects && !rates) return {};
  const TrajectoryRecord before = record;
  if (rates) record.body.set_quality(quality, signal.source);
  if (corrects) record.body.add_action(std::string(kCorrectionAction), {}, signal.correction);
  RETURN_IF_ERROR(check_trajectory(record.body));
  record.quality = record.body.final_quality();
  record.source = record.body.final_source();
  return keep(record, &before);
}

void SonaParts::record_decision(const RoutingDecision& decision, const RouteOptions& options) {
  TrajectoryRecord record;
  record.id = decision.id;
  record.tenant = options.scope.tenant;
  record.session = options.scope.session;
  record.model_hash = model->weights.file_digest;
  record.provenance = "router";
  record.ended_us = now_us();
  record.body = Trajectory(decision.task_type);
  record.body.set_agent(decision.primary.id);
  record.body.add_state({.text = decision.task});
  record.body.add_action("route", {}, decision.primary.id);
  record.split = split_of(record.body);
  static_cast<void>(store->put_trajectory_async(std::move(record), [](const Result<void>&) {}).has_value());
}

Result<void> SonaParts::record_outcome(const DecisionId& decision, const Scope& scope) {
  const std::lock_guard lock(feedback_mutex);
  auto record = store->trajectory(scope.tenant, decision);
  if (!record && record.error().id == "store.not_found")
    return {};  // made before recording began, or too old
  if (!record) return tl::unexpected<Error>(std::move(record.error()));
  // As the router settled it: aliases resolved, replays of old feedback ignored.
  ASSIGN_OR_RETURN(const DecisionRecord settled, store->decision(scope.tenant, decision));
  record->body.set_agent(settled.outcome_agent.empty() ? settled.agent : settled.outcome_agent);
  if (settled.outcome_quality) record->body.set_quality(*settled.outcome_quality, QualitySource::kCaller);
  record->quality = record->body.final_quality();
  record->source = record->body.final_source();
  return store->put_trajectory(*record);
}

}  // namespace ruvltra
