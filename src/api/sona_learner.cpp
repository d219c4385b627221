// Adapters behind the Sona's face: starting the learner, what feedback tells it, and the generations it
// makes.
#include <algorithm>
#include <utility>

#include "api/sona_parts.h"
#include "api/teacher_forced.h"
#include "base/fail.h"
#include "kernels/dispatch.h"
#include "ruvltra/sona.h"
#include "sona/bank_checks.h"
#include "sona/bundled_texts.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxSignalTokens = 8192;
// Text is taught in pieces of so many tokens, each behind the end of the one before it.
constexpr size_t kPieceTokens = 256, kPieceContext = 32;

GenerationInfo info_of(const GenerationRecord& record) {
  GenerationInfo info;
  info.scope = {record.tenant, record.session};
  info.number = record.number;
  info.hash = to_hex(record.content);
  info.parent = record.parent;
  info.reason = record.reason;
  info.report = record.report;
  info.time_us = record.created_us;
  return info;
}

LearningReport public_report(const LearnReport& report) {
  LearningReport out;
  out.scope = report.scope;
  out.loop = learn_loop_name(report.loop);
  out.accepted = report.accepted;
  out.reason = report.reason;
  out.detail = report.detail;
  out.generation = report.generation;
  if (report.accepted) out.hash = to_hex(report.hash);
  out.update_norm = report.update_norm;
  out.nll_before = report.nll_before;
  out.nll_after = report.nll_after;
  out.gain_lower_bound = report.gain_lower_bound;
  out.canary_kl = report.canary_kl;
  out.canary_rise = report.canary_rise;
  out.forgetting = report.forgetting;
  out.delta_p999 = report.delta_p999;
  out.n_train_tokens = report.n_train_tokens;
  out.n_held_out_tokens = report.n_held_out_tokens;
  out.time_us = report.time_us;
  return out;
}

// A view and what keeps its arrays alive.
EngineLoop::PinnedAdapter view_of(std::shared_ptr<const Adapter> adapter) {
  if (adapter->is_zero()) return nullptr;
  struct Held {
    std::shared_ptr<const Adapter> adapter;
    AdapterView view;
  };
  const AdapterView view = adapter->view();
  const auto held = std::make_shared<const Held>(Held{std::move(adapter), view});
  return {held, &held->view};
}

Result<Learner*> learner_of(const SonaParts& parts) {
  if (parts.learner) return parts.learner.get();
  return fail(ErrorKind::kUsage, "learning.disabled",
              "adapters: expected learning to be on, found {}; nothing learns here",
              learn_mode_name(parts.model->config.sona_config.learn));
}

// What the model writes at the end of an answer.
TokenId end_token(const ModelParts& model) {
  const TokenId end_of_turn = model.tokenizer.added_token("<|im_end|>");
  const bool chats = model.chat_template && model.chat_template->has_value();
  return chats && end_of_turn >= 0 ? end_of_turn : model.tokenizer.eos();
}

// What stood before an answer whose tokens are gone: its task, as a first message.
Result<std::vector<TokenId>> context_of(const ModelParts& model, const TrajectoryRecord& record) {
  std::string task;
  for (const TrajectoryStep& step : record.body.steps) {
    if (step.kind == TrajectoryStep::Kind::kState && !step.text.empty()) {
      task = step.text;
      break;
    }
  }
  const bool chats = model.chat_template && model.chat_template->has_value();
  const std::vector<ChatMessage> messages = {{"user", task, {}}};
  if (chats) return model.tokens_of(std::span(messages));
  return model.tokenizer.encode(task, Recognise::kUserDefined);
}

}  // namespace

Result<void> SonaParts::start_learner() {
  const MediumConfig& config = model->config;
  const ModelShape& shape = model->weights.shape;
  LearningSpaceSpec spec;
  spec.basis.model = model->weights.file_digest;
  spec.basis.n_layers = shape.n_layers;
  spec.basis.d_model = shape.d_model;
  spec.basis.eps = shape.rms_eps;
  spec.basis.layers = hooks;
  spec.basis.rank = static_cast<size_t>(config.sona_config.micro_lora_rank);
  spec.top_k = static_cast<size_t>(config.sona_config.grad_top_k);

  ASSIGN_OR_RETURN(const KernelTable* kernels, kernel_table(config.isa));
  ThreadPool pool(1);
  const Ctx ctx{.pool = &pool, .kernels = kernels};
  const PackedMatrix& output = model->weights.head();
  ASSIGN_OR_RETURN(OutputHead made,
                   OutputHead::make(ctx, output, std::min(model->tokenizer.n_vocab(), output.n_rows())));
  head = std::make_unique<OutputHead>(std::move(made));

  std::vector<std::string_view> texts;
  for (const CanaryText& text : canary_texts()) texts.push_back(text.text);
  const LearningSpace::Encode encode = [m = model](std::string_view text) {
    return m->tokenizer.encode(text, Recognise::kNone);
  };
  const auto pace = std::make_shared<LearningPace>([m = model] { return m->loop->is_answering(); });
  const LearningPace::Waiting waiting(*pace);
  const TeacherForced forward = teacher_forced(*model, pace);
  ASSIGN_OR_RETURN(auto space, LearningSpace::open(folder, spec, *head, texts, encode, forward));

  LearnerOptions options;
  options.ring_capacity = config.sona_config.ring_capacity;
  options.ring_bytes = config.sona_config.record_mb << 20;
  options.max_signal_tokens = std::min(kMaxSignalTokens, static_cast<size_t>(config.context_length));
  options.ewc_lambda = static_cast<double>(config.sona_config.ewc_lambda);
  options.keep_generations = static_cast<size_t>(config.sona_config.keep_generations);
  const SonaGates& gates = config.sona_config.gates;
  options.gates.max_canary_rise = static_cast<double>(gates.max_canary_rise);
  options.gates.max_drift = static_cast<double>(gates.max_drift);
  options.gates.max_delta_ratio = static_cast<double>(gates.max_delta_ratio);
  options.low_priority = config.sona_config.learn_at_low_priority;
  options.pace = pace;
  // What else belongs to the loops. Errors are met again when somebody asks for the loop.
  options.after_background = [this](const std::string& tenant) {
    static_cast<void>(router->train_head({tenant, {}}).has_value());
  };
  options.after_deep = [this] {
    static_cast<void>(upkeep->consolidate().has_value());
    static_cast<void>(bank->checkpoint().has_value());
    consolidated_size = bank->size();
    background->wake();
  };
  options.deep_is_due = [this] {
    const size_t n = bank->size(), capacity = bank->capacity();
    return 10 * n > 9 * capacity && n > consolidated_size + capacity / 100;
  };
  ASSIGN_OR_RETURN(learner, Learner::open(std::move(space), *store, folder, forward, std::move(options)));

  model->adapters.set([l = learner.get()](const Treatment& treatment,
                                          std::optional<uint64_t> number) -> Result<PinnedGeneration> {
    Scope scope;
    if (!treatment.tenant.empty()) scope.tenant = treatment.tenant;
    scope.session = treatment.session;
    LiveAdapter live = l->live(scope);
    if (number && *number != live.generation) {
      ASSIGN_OR_RETURN(live.adapter, l->adapter(live.scope, *number));
      live.generation = *number;
    }
    if (live.adapter->is_zero()) return PinnedGeneration{nullptr, live.generation, {}};
    const std::string hash = to_hex(live.adapter->hash());
    return PinnedGeneration{view_of(std::move(live.adapter)), live.generation, hash};
  });
  return {};
}

Result<void> SonaParts::learn_from(const TrajectoryRecord& record, const Signal& signal) {
  const auto recent = recorded.find(record.id);
  const auto tokens = recent ? recent->tokens : nullptr;
  const TokenId end = end_token(*model);
  std::vector<TokenId> context;
  if (tokens) {
    context = tokens->prompt;
  } else {
    ASSIGN_OR_RETURN(context, context_of(*model, record));
  }
  const auto send = [&](std::span<const TokenId> target, LearningSignalKind kind) -> Result<void> {
    if (target.empty() || context.empty()) return {};
    // A long target loses its end, then the context its beginning.
    const size_t longest = std::min(kMaxSignalTokens, static_cast<size_t>(model->config.context_length));
    const size_t n_target = std::min(target.size(), longest - 1);
    const size_t n_context = std::min(context.size(), longest - n_target);
    LearningSignal one;
    one.scope = {record.tenant, record.session};
    one.tokens.assign(context.end() - static_cast<ptrdiff_t>(n_context), context.end());
    one.tokens.insert(one.tokens.end(), target.begin(), target.begin() + static_cast<ptrdiff_t>(n_target));
    one.n_context = n_context;
    one.kind = kind;
    if (kind == LearningSignalKind::kQuality)
      one.quality = signal.quality ? signal.quality : (*signal.success ? 1.0 : 0.0);
    one.trajectory = record.id;
    one.split = record.split;
    return learner->enqueue(std::move(one));
  };
  if (!signal.correction.empty()) {
    ASSIGN_OR_RETURN(std::vector<TokenId> target,
                     model->tokenizer.encode(signal.correction, Recognise::kNone));
    if (end >= 0) target.push_back(end);
    RETURN_IF_ERROR(send(target, LearningSignalKind::kCorrection));
  }
  std::vector<TokenId> answer;
  if (tokens) {
    answer = tokens->output;
  } else {
    for (const TrajectoryStep& step : record.body.steps) {
      if (step.kind != TrajectoryStep::Kind::kAction || step.name != "answer") continue;
      ASSIGN_OR_RETURN(answer, model->tokenizer.encode(step.text, Recognise::kNone));
    }
  }
  if (signal.accepted) RETURN_IF_ERROR(send(answer, LearningSignalKind::kAccepted));
  if (signal.quality || signal.success) return send(answer, LearningSignalKind::kQuality);
  return {};
}

AdapterStatus SonaParts::adapter_status() const {
  AdapterStatus status;
  status.learns = learner != nullptr;
  if (!learner) return status;
  LearnerStatus now = learner->status();
  for (const Scope& scope : learner->scopes()) {
    const auto history = learner->history(scope);
    if (!history.empty()) status.live.push_back(info_of(history.front()));
  }
  status.counters = std::move(now.counters);
  for (const LearnReport& report : now.reports) status.reports.push_back(public_report(report));
  status.n_waiting = now.ring.n_waiting;
  status.n_signals = now.ring.n_put;
  status.n_overwritten = now.ring.n_overwritten;
  status.enqueue_p50_us = now.enqueue_p50_us;
  status.enqueue_p99_us = now.enqueue_p99_us;
  status.n_canary_tokens = learner->n_canary_tokens();
  status.frozen = std::move(now.frozen);
  status.notes = std::move(now.notes);
  status.last_error = std::move(now.last_error);
  return status;
}

Result<size_t> Sona::teach(std::string_view text, const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  ASSIGN_OR_RETURN(Learner* const learner, learner_of(*parts_));
  ASSIGN_OR_RETURN(const std::vector<TokenId> tokens,
                   parts_->model->tokenizer.encode(text, Recognise::kNone));
  if (tokens.size() < 2) {
    return fail(ErrorKind::kUsage, "learning.empty_text", "text: expected at least 2 tokens, found {}",
                tokens.size());
  }
  const size_t longest = static_cast<size_t>(parts_->model->config.context_length);
  const size_t n_piece = std::min(kPieceTokens, longest / 2);
  const size_t most_waiting = parts_->model->config.sona_config.ring_capacity / 2;
  for (size_t begin = 1; begin < tokens.size(); begin += n_piece) {
    const size_t n_context = std::min({begin, kPieceContext, longest / 2});
    const size_t end = std::min(begin + n_piece, tokens.size());
    LearningSignal one;
    one.scope = scope;
    one.tokens.assign(tokens.begin() + static_cast<ptrdiff_t>(begin - n_context),
                      tokens.begin() + static_cast<ptrdiff_t>(end));
    one.n_context = n_context;
    one.kind = LearningSignalKind::kAccepted;
    RETURN_IF_ERROR(learner->enqueue(std::move(one)));
    if (learner->n_waiting() >= most_waiting) RETURN_IF_ERROR(learner->drain());
  }
  return tokens.size() - 1;
}

Result<LearningReport> Sona::learn(const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  ASSIGN_OR_RETURN(Learner* const learner, learner_of(*parts_));
  flush();
  return learner->learn(scope).map(public_report);
}

Result<BackgroundReport> Sona::run_background(const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  ASSIGN_OR_RETURN(Learner* const learner, learner_of(*parts_));
  flush();
  BackgroundReport report;
  ASSIGN_OR_RETURN(report.head, parts_->router->train_head(scope));
  ASSIGN_OR_RETURN(const LearnReport adapter, learner->run_background(scope.tenant));
  report.adapter = public_report(adapter);
  return report;
}

Result<DeepReport> Sona::run_deep(const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  ASSIGN_OR_RETURN(Learner* const learner, learner_of(*parts_));
  flush();
  DeepReport report;
  ASSIGN_OR_RETURN(report.bank, pattern_bank().consolidate());
  ASSIGN_OR_RETURN(const LearnReport adapter, learner->run_deep(scope.tenant));
  report.adapter = public_report(adapter);
  return report;
}

GenerationInfo Sona::live(const Scope& scope) const {
  if (!parts_->learner) return {};
  const LiveAdapter live = parts_->learner->live(scope);
  for (const GenerationRecord& record : parts_->learner->history(live.scope)) {
    if (record.number == live.generation) return info_of(record);
  }
  GenerationInfo none;
  none.hash = to_hex(Sha256Digest{});
  return none;
}

std::vector<GenerationInfo> Sona::history(const Scope& scope) const {
  std::vector<GenerationInfo> all;
  if (!parts_->learner) return all;
  for (const GenerationRecord& record : parts_->learner->history(scope)) all.push_back(info_of(record));
  return all;
}

Result<GenerationInfo> Sona::rollback(const Scope& scope, std::optional<uint64_t> to,
                                      std::optional<uint64_t> expected) {
  ASSIGN_OR_RETURN(Learner* const learner, learner_of(*parts_));
  return learner->rollback(scope, to, expected).map(info_of);
}

Result<void> Sona::freeze(const Scope& scope, double seconds) {
  ASSIGN_OR_RETURN(Learner* const learner, learner_of(*parts_));
  return learner->freeze(scope, seconds);
}

Result<GenerationInfo> Sona::reset(const Scope& scope) {
  ASSIGN_OR_RETURN(Learner* const learner, learner_of(*parts_));
  return learner->reset(scope).map(info_of);
}

Result<void> Sona::export_adapter(const std::filesystem::path& file, const Scope& scope) const {
  ASSIGN_OR_RETURN(Learner* const learner, learner_of(*parts_));
  return learner->export_adapter(scope, {}, file).map([](const auto&) {});
}

Result<GenerationInfo> Sona::import_adapter(const std::filesystem::path& file, const Scope& scope) {
  ASSIGN_OR_RETURN(Learner* const learner, learner_of(*parts_));
  return learner->import_adapter(scope, file).map(info_of);
}

Result<std::vector<uint8_t>> Sona::adapter_bytes(const Scope& scope) const {
  ASSIGN_OR_RETURN(Learner* const learner, learner_of(*parts_));
  const auto adapter = learner->live(scope).adapter;
  if (adapter->is_zero())
    return fail(ErrorKind::kUsage, "learning.not_found",
                "export: nothing is learned, so there are no weights");
  return adapter->bytes();
}

Result<GenerationInfo> Sona::import_adapter(std::span<const uint8_t> bytes, const Scope& scope) {
  ASSIGN_OR_RETURN(Learner* const learner, learner_of(*parts_));
  return learner->import_adapter(scope, bytes, "import").map(info_of);
}

}  // namespace ruvltra
