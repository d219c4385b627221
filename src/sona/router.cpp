#include "sona/router.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <set>

#include "base/bytes.h"
#include "base/fail.h"
#include "base/utf8.h"
#include "kernels/dispatch.h"
#include "sona/route_reasons.h"
#include "sona/route_tenant.h"
#include "sona/words.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxTaskBytes = size_t{64} << 10;
constexpr size_t kContextBytes = 2000;  // of the context that is read: it must not outweigh the task
constexpr size_t kMaxTenants = 256;     // in memory at a time
constexpr size_t kKeptProbabilities = 16;
constexpr int kMaxAgentsInAnswer = 16;
constexpr std::string_view kRegistryValue = "agents";
constexpr size_t kMaxPending = 4096;  // decisions on their way into the store

Result<void> check_task(std::string_view task, const RouteOptions& options) {
  if (task.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return fail(ErrorKind::kUsage, "learning.empty_text", "task: expected a text, found an empty one");
  }
  for (const auto& [name, text] : {std::pair{"task", task}, {"context", std::string_view(options.context)}}) {
    if (text.size() > kMaxTaskBytes) {
      return fail(ErrorKind::kUsage, "learning.text_too_long", "{}: expected at most {} bytes, found {}",
                  name, kMaxTaskBytes, text.size());
    }
    if (!utf8_is_valid(text)) {
      return fail(ErrorKind::kUsage, "learning.invalid_utf8",
                  "{}: expected UTF-8, found an invalid byte at {}", name, utf8_valid_prefix(text));
    }
  }
  if (options.k < 1 || options.k > kMaxAgentsInAnswer) {
    return fail(ErrorKind::kUsage, "routing.options", "k: expected 1 to {}, found {}", kMaxAgentsInAnswer,
                options.k);
  }
  return {};
}

Result<void> check_tenant(std::string_view name) {
  if (!name.empty() && name.size() <= 64) return {};
  return fail(ErrorKind::kUsage, "routing.options", "tenant: expected 1 to 64 bytes, found {}", name.size());
}

std::string_view cut(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  text = text.substr(0, bytes);
  return text.substr(0, text.size() - utf8_incomplete_tail(text));
}

// -log of what a decision gave to what came out.
double surprise_of(const DecisionRecord& record) {
  double p = 0, rest = 1;
  bool found = false;
  for (const AgentProbability& entry : record.probabilities) {
    if (entry.agent == record.outcome_agent) p = entry.p, found = true;
    rest -= entry.p;
  }
  // An agent beyond the kept ones has at most what the kept ones leave.
  if (!found) p = std::max(rest, 0.0) / 4;
  const bool success = *record.outcome_quality >= 0.5;
  return -std::log(std::max(success ? p : 1 - p, 1e-4));
}

RouteExample example_of(const DecisionRecord& record) {
  RouteExample example;
  example.id = record.id;
  example.task = record.task;
  example.context = std::string(cut(record.context, kContextBytes));
  example.agent = record.outcome_agent;
  example.quality = *record.outcome_quality;
  example.output_tokens = record.output_tokens;
  example.time_us = record.outcome_us;
  if (is_usable_embedding(record.embedding)) {
    example.space = record.space;
    example.embedding = record.embedding;
  }
  example.surprise = surprise_of(record);
  return example;
}

bool is_about_the_text(const Error& error) {
  return error.id == "learning.empty_text" || error.id == "learning.invalid_utf8" ||
         error.id.starts_with("tokenizer.");
}

}  // namespace

// Decisions that are not committed yet. Thread safety: members under `mutex`.
struct PendingDecisions {
  std::mutex mutex;
  std::condition_variable settled;
  std::set<DecisionId> waiting;
  size_t n_lost = 0;
};

std::string_view route_lane_name(RouteLane lane) {
  constexpr std::array<std::string_view, kRouteLanes> names = {"prior", "lexical", "head", "hnsw"};
  return names[static_cast<size_t>(lane)];
}

Router::Router(Store& store, TextEmbedder* embedder, Options options)
    : store_(store),
      embedder_(embedder),
      options_(std::move(options)),
      pending_(std::make_shared<PendingDecisions>()) {}
Router::~Router() = default;

Result<std::unique_ptr<Router>> Router::open(Store& store, TextEmbedder* embedder, Options options) {
  if (options.kernels == nullptr) {
    ASSIGN_OR_RETURN(options.kernels, kernel_table());
  }
  std::unique_ptr<Router> router(new Router(store, embedder, std::move(options)));
  ASSIGN_OR_RETURN(const auto kept, store.value(kRegistryValue));
  AgentRegistry agents = AgentRegistry::defaults();
  if (kept && !kept->empty()) {
    const std::string_view text(reinterpret_cast<const char*>(kept->data()), kept->size());
    ASSIGN_OR_RETURN(agents, AgentRegistry::parse(text, "stored agents"));
  }
  router->model_ = RouteModel::create(std::move(agents), router->options_.ewc_lambda);
  // A model that cannot be asked is no reason to have no router: words are always there.
  if (router->options_.prepare) static_cast<void>(router->prepare().has_value());
  return router;
}

uint64_t Router::embedding_space() const { return embedder_ == nullptr ? 0 : embedder_->space(); }

int64_t Router::now() const { return options_.now ? options_.now() : now_us(); }

std::shared_ptr<const RouteModel> Router::model() const {
  const std::lock_guard lock(mutex_);
  return model_;
}

AgentRegistry Router::registry() const { return model()->registry(); }

Result<void> Router::set_registry(AgentRegistry registry) {
  const std::string text = to_json(registry.json());
  std::shared_ptr<const RouteModel> next;
  if (model()->has_vectors()) {
    ASSIGN_OR_RETURN(next, embedded(std::move(registry)));
  } else {
    next = RouteModel::create(std::move(registry), options_.ewc_lambda);
  }
  RETURN_IF_ERROR(
      store_.put_value(kRegistryValue, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  const std::lock_guard lock(mutex_);
  model_ = std::move(next);
  return {};
}

Result<void> Router::prepare() {
  const auto before = model();
  if (embedder_ == nullptr || (before->has_vectors() && before->space() == embedder_->space())) return {};
  ASSIGN_OR_RETURN(auto next, embedded(before->registry()));
  const std::lock_guard lock(mutex_);
  // Whoever replaced the registry meanwhile prepares the new one.
  if (model_ == before) model_ = std::move(next);
  return {};
}

Result<std::shared_ptr<RouteTenant>> Router::load_tenant(const std::string& name,
                                                         const std::shared_ptr<const RouteModel>& model) {
  auto state = std::make_shared<RouteTenant>();
  RETURN_IF_ERROR(state->adopt(model, embedding_space(), *options_.kernels, options_.max_outcomes));
  ASSIGN_OR_RETURN(const auto kept, store_.value(route_tenant_key(name)));
  if (kept && !kept->empty() && !decode_route_tenant(*kept, *model, *state)) {
    // Not to be trusted: it begins anew, and the next training makes it again from the outcomes.
    state = std::make_shared<RouteTenant>();
    RETURN_IF_ERROR(state->adopt(model, embedding_space(), *options_.kernels, options_.max_outcomes));
  }
  std::vector<RouteExample> examples;
  const int64_t oldest = now() - kDecisionLifeUs;
  size_t n_decisions = 0;
  RETURN_IF_ERROR(store_.each_decision(name, [&](const DecisionRecord& record) {
    ++n_decisions;
    if (record.outcome_quality && record.created_us >= oldest) examples.push_back(example_of(record));
    return true;
  }));
  std::stable_sort(examples.begin(), examples.end(),
                   [](const RouteExample& a, const RouteExample& b) { return a.time_us < b.time_us; });
  const size_t first = examples.size() - std::min(examples.size(), options_.max_outcomes);
  for (size_t i = first; i < examples.size(); ++i) {
    state->learn(std::move(examples[i]), options_.max_outcomes);
  }
  state->n_decisions = n_decisions;
  return state;
}

Result<std::shared_ptr<RouteTenant>> Router::tenant(const std::string& name,
                                                    const std::shared_ptr<const RouteModel>& model) {
  RETURN_IF_ERROR(check_tenant(name));
  std::shared_ptr<RouteTenant> state;
  while (state == nullptr) {
    uint64_t epoch = 0;
    {
      const std::lock_guard lock(mutex_);
      if (const auto it = tenants_.find(name); it != tenants_.end()) {
        state = it->second;
        break;
      }
      epoch = epoch_;
    }
    ASSIGN_OR_RETURN(auto loaded, load_tenant(name, model));
    const std::lock_guard lock(mutex_);
    if (epoch != epoch_) continue;  // something was deleted since: read again
    // Of two that loaded it, the first counts: outcomes may be in it already.
    if (tenants_.size() >= kMaxTenants) {
      std::erase_if(tenants_, [](const auto& entry) { return entry.second.use_count() == 1; });
    }
    state = tenants_.emplace(name, std::move(loaded)).first->second;
  }
  {
    const std::shared_lock lock(state->mutex);
    if (state->model == model) return state;
  }
  const std::unique_lock lock(state->mutex);
  if (state->model != model)
    RETURN_IF_ERROR(state->adopt(model, embedding_space(), *options_.kernels, options_.max_outcomes));
  return state;
}

Result<RouteQuery> Router::query(std::string_view task, const RouteOptions& options,
                                 const RouteModel& model) {
  RouteQuery query;
  query.task = std::string(task);
  query.text = query.task;
  if (!options.context.empty()) query.text.append("\n").append(cut(options.context, kContextBytes));
  query.words = content_words(query.text);
  query.profile = model.words().profile(query.words);
  if (embedder_ != nullptr && !options.prefer_speed) {
    auto embedding = embedder_->embed(query.text, options.scope.tenant);
    if (embedding && is_usable_embedding(embedding->values)) {
      query.space = embedding->space;
      query.embedding = std::move(embedding->values);
    } else if (!embedding && is_about_the_text(embedding.error())) {
      return tl::unexpected<Error>(std::move(embedding).error());
    }
  } else if (embedder_ != nullptr) {
    Embedding embedding;
    if (embedder_->cached(query.text, options.scope.tenant, &embedding)) {
      query.space = embedding.space;
      query.embedding = std::move(embedding.values);
    }
  }
  query.lexical_only = query.embedding.empty();
  query.x = model.features(query.text, query.words, query.embedding, !options.context.empty());
  return query;
}

Result<RouteExplanation> Router::explain(std::string_view task, const RouteOptions& options) {
  RETURN_IF_ERROR(check_task(task, options));
  const auto model = this->model();
  ASSIGN_OR_RETURN(const auto state, tenant(options.scope.tenant, model));
  ASSIGN_OR_RETURN(const RouteQuery asked, query(task, options, *model));
  const std::shared_lock lock(state->mutex);
  const RouteLanesOf lanes = state->lanes(asked, now());
  const RouteWeights weights = state->weights(!lanes.log_p[0].empty());
  const std::vector<double> log_p = combine_lanes(*model, lanes, weights);
  RouteExplanation out;
  out.weights = weights.alpha;
  out.temperature = weights.temperature;
  for (size_t a = 0; a < model->n_agents(); ++a) {
    const AgentProfile& agent = model->registry().agents()[a];
    if (!agent.enabled) continue;
    out.agents.push_back(agent.id);
    out.p.push_back(std::exp(log_p[a]));
    for (size_t lane = 0; lane < kRouteLanes; ++lane) {
      if (!lanes.log_p[lane].empty()) out.log_p[lane].push_back(lanes.log_p[lane][a]);
    }
  }
  return out;
}

// A tenant that cannot be read now is one of which nothing is known yet; it is read at the next call.
std::shared_ptr<RouteTenant> Router::tenant_or_empty(const std::string& name,
                                                     const std::shared_ptr<const RouteModel>& model) {
  auto state = tenant(name, model);
  if (state) return *std::move(state);
  auto empty = std::make_shared<RouteTenant>();
  return empty->adopt(model, embedding_space(), *options_.kernels, options_.max_outcomes) ? empty : nullptr;
}

void Router::record(DecisionRecord record, std::shared_ptr<RouteTenant> state) {
  const DecisionId id = record.id;
  {
    const std::lock_guard lock(pending_->mutex);
    if (pending_->waiting.size() >= kMaxPending) {
      ++pending_->n_lost;
      return;
    }
    pending_->waiting.insert(id);
  }
  ++state->n_decisions;
  const auto settle = [pending = pending_, state = std::move(state), id](const Result<void>& done) {
    if (!done) --state->n_decisions;
    const std::lock_guard lock(pending->mutex);
    if (!done) ++pending->n_lost;
    pending->waiting.erase(id);
    pending->settled.notify_all();
  };
  if (const auto taken = store_.put_decision_async(std::move(record), settle); !taken) settle(taken);
}

Result<RoutingDecision> Router::route(std::string_view task, const RouteOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(check_task(task, options));
  RETURN_IF_ERROR(check_tenant(options.scope.tenant));
  const auto model = this->model();
  const auto state = tenant_or_empty(options.scope.tenant, model);
  if (state == nullptr) return fail(ErrorKind::kMemory, "memory.exhausted", "router: no memory for a tenant");
  ASSIGN_OR_RETURN(const RouteQuery asked, query(task, options, *model));
  DecisionRecord record;
  record.id = new_record_id();
  record.tenant = options.scope.tenant;
  record.task = std::string(task);
  record.context = options.context;
  record.space = asked.space;
  record.embedding = asked.embedding;
  record.created_us = now();

  RoutingDecision decision;
  decision.id = record.id;
  decision.task = record.task;
  {
    const std::shared_lock lock(state->mutex);
    const RouteLanesOf lanes = state->lanes(asked, record.created_us);
    const RouteWeights weights = state->weights(!lanes.log_p[0].empty());
    std::vector<double> p = combine_lanes(*model, lanes, weights);
    for (double& v : p) v = std::exp(v);
    std::vector<size_t> order(p.size());
    for (size_t a = 0; a < order.size(); ++a) order[a] = a;
    std::stable_sort(order.begin(), order.end(), [&p](size_t a, size_t b) { return p[a] > p[b]; });
    std::erase_if(order, [&](size_t a) { return !model->registry().agents()[a].enabled; });
    if (options.explore) {
      const size_t tried = state->explore(asked.x, order);
      order.insert(order.begin(), tried);
      order.erase(std::find(order.begin() + 1, order.end(), tried));
    }
    describe(*state, asked, lanes, weights, p, order, options, decision);
    for (size_t i = 0; i < std::min(order.size(), kKeptProbabilities); ++i) {
      record.probabilities.push_back({model->registry().agents()[order[i]].id, p[order[i]]});
    }
  }
  record.agent = decision.primary.id;
  record.method = decision.method;
  this->record(std::move(record), state);
  decision.latency_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return decision;
}

Result<void> Router::feedback(const DecisionId& id, const RouteOutcome& outcome, const Scope& scope) {
  if (!outcome.quality && !outcome.success) {
    return fail(ErrorKind::kUsage, "learning.signal",
                "feedback: expected a quality or success, found neither");
  }
  const double quality = outcome.quality ? *outcome.quality : (*outcome.success ? 1.0 : 0.0);
  if (!(quality >= 0 && quality <= 1)) {
    return fail(ErrorKind::kUsage, "learning.quality", "quality: expected 0..1, found {}", quality);
  }
  if (outcome.success && *outcome.success != (quality >= 0.5)) {
    return fail(ErrorKind::kUsage, "learning.quality", "success: {} contradicts quality {}", *outcome.success,
                quality);
  }
  const auto model = this->model();
  {
    std::unique_lock lock(pending_->mutex);
    pending_->settled.wait(lock, [&] { return !pending_->waiting.contains(id); });
  }
  auto found = store_.decision(scope.tenant, id);
  if (!found && found.error().id != "store.not_found") return tl::unexpected<Error>(std::move(found).error());
  if (!found || now() - found->created_us > kDecisionLifeUs) {
    return fail(ErrorKind::kUsage, "learning.not_found", "decision: {} is unknown, or older than 30 days",
                id.text());
  }
  DecisionRecord record = std::move(*found);
  record.outcome_agent = record.agent;
  if (!outcome.agent.empty()) {
    const auto place = model->registry().find(outcome.agent);
    if (!place) {
      return fail(ErrorKind::kUsage, "routing.agent", "agent: \"{}\" is no agent's id or alias",
                  ruvltra::quoted(outcome.agent));
    }
    record.outcome_agent = model->registry().agents()[*place].id;
  }
  record.outcome_quality = quality;
  if (outcome.output_tokens != 0) record.output_tokens = outcome.output_tokens;
  record.outcome_us = now();
  FeedbackRecord told;
  told.id = new_record_id();
  told.tenant = scope.tenant;
  told.feedback_id = outcome.feedback_id;
  told.about = FeedbackRecord::About::kDecision;
  told.target = id.text();
  told.quality = quality;
  told.success = outcome.success;
  told.agent = outcome.agent;
  told.time_us = record.outcome_us;
  // The state is there before the outcome is: whoever loads it later reads the outcome from the store.
  ASSIGN_OR_RETURN(const auto state, tenant(scope.tenant, model));
  ASSIGN_OR_RETURN(const bool is_new, store_.put_outcome(record, told));
  if (!is_new) return {};
  {
    const std::unique_lock lock(state->mutex);
    state->learn(example_of(record), options_.max_outcomes);
  }
  // Forgotten and read again meanwhile: the new state may not have this outcome yet.
  if (const auto present = tenant(scope.tenant, model); present && *present != state) {
    const std::unique_lock lock((*present)->mutex);
    (*present)->learn(example_of(record), options_.max_outcomes);
  }
  return {};
}

Result<void> Router::begin_task(const Scope& scope, std::string_view) {
  ASSIGN_OR_RETURN(const auto state, tenant(scope.tenant, model()));
  {
    const std::unique_lock lock(state->mutex);
    state->boundary_pending = true;
    state->next_boundary_us = now();
  }
  return keep(scope.tenant, *state);
}

Result<void> Router::keep(const std::string& name, RouteTenant& state) {
  // Of what is forgotten nothing is written again, however long a training took.
  const std::lock_guard gate(state.write_gate);
  if (state.forgotten) return {};
  std::vector<uint8_t> bytes;
  {
    const std::shared_lock lock(state.mutex);
    bytes = encode_route_tenant(state);
  }
  return store_.put_value(route_tenant_key(name), bytes);
}

Result<void> Router::forget(std::string_view name) {
  std::shared_ptr<RouteTenant> state;
  {
    const std::lock_guard lock(mutex_);
    ++epoch_;  // whoever is loading a tenant reads it again
    if (const auto it = tenants_.find(std::string(name)); it != tenants_.end()) {
      state = std::move(it->second);
      tenants_.erase(it);
    }
  }
  if (state != nullptr) {
    const std::lock_guard gate(state->write_gate);
    state->forgotten = true;
  }
  const std::string key = route_tenant_key(name);
  ASSIGN_OR_RETURN(const auto kept, store_.value(key));
  // An empty value only where there is one: after a deletion not even the name is left.
  if (kept && !kept->empty()) RETURN_IF_ERROR(store_.put_value(key, {}));
  return {};
}

RouterStatus Router::status(const Scope& scope) {
  RouterStatus out;
  const auto model = this->model();
  out.n_agents = model->n_agents();
  {
    const std::lock_guard lock(pending_->mutex);
    out.n_decisions_lost = pending_->n_lost;
  }
  const auto state = tenant(scope.tenant, model);
  if (!state) return out;
  const std::shared_lock lock((*state)->mutex);
  out.n_decisions = (*state)->n_decisions;
  out.n_outcomes = (*state)->n_outcomes();
  out.trained = (*state)->head.n_updates > 0;
  const RouteWeights weights = (*state)->weights(model->has_vectors());
  out.weight_prior = model->has_vectors() ? weights.alpha[0] : 0;
  out.weight_lexical = weights.alpha[1];
  out.weight_head = weights.alpha[2];
  out.weight_vote = weights.alpha[3];
  out.temperature = weights.temperature;
  out.n_head_updates = (*state)->head.n_updates;
  out.n_outcomes_in_head = (*state)->head.n_outcomes;
  return out;
}

}  // namespace ruvltra
