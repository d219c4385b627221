// The router's slow part: vectors of the registry, training of the head, fitting of the weights.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/fail.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "sona/route_tenant.h"
#include "sona/router.h"
#include "sona/words.h"

namespace ruvltra {
namespace {

constexpr std::string_view kVectorsValue = "router/registry_vectors";
constexpr uint32_t kVectorsVersion = 1;
constexpr size_t kVectorsHeader = 4 + sizeof(uint32_t) + sizeof(uint64_t) + sizeof(Sha256Digest);

// Of the texts alone: vectors stay valid when an alias changes.
Sha256Digest hash_of(std::span<const std::string> texts) {
  Sha256 hash;
  for (const std::string& text : texts) {
    const uint64_t size = text.size();
    hash.update({reinterpret_cast<const uint8_t*>(&size), sizeof size});
    hash.update({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  return hash.finish();
}

// "RVRV", version, space, hash of the texts, then the floats.
std::vector<uint8_t> encode_vectors(uint64_t space, const Sha256Digest& texts,
                                    std::span<const float> vectors) {
  std::vector<uint8_t> out(kVectorsHeader + vectors.size_bytes());
  uint8_t* at = out.data();
  const auto put = [&at](const void* data, size_t size) {
    std::memcpy(at, data, size);
    at += size;
  };
  put("RVRV", 4);
  put(&kVectorsVersion, sizeof kVectorsVersion);
  put(&space, sizeof space);
  put(texts.data(), texts.size());
  put(vectors.data(), vectors.size_bytes());
  return out;
}

// Empty: of other texts, of another space, or damaged; they are made again.
std::vector<float> decode_vectors(std::span<const uint8_t> bytes, uint64_t space, const Sha256Digest& texts,
                                  size_t n_floats) {
  ByteView view(bytes);
  const auto magic = view.take_text(4);
  const auto version = view.read<uint32_t>();
  const auto kept_space = view.read<uint64_t>();
  const auto kept_texts = view.take(texts.size());
  if (!kept_texts || *magic != "RVRV" || *version != kVectorsVersion || *kept_space != space) return {};
  if (!std::equal(texts.begin(), texts.end(), kept_texts->begin())) return {};
  if (view.remaining() != n_floats * sizeof(float)) return {};
  std::vector<float> out;
  for (size_t i = 0; i < n_floats; ++i) {
    out.push_back(view.read<float>().value_or(0));
    if (!(out.back() >= -1.01f && out.back() <= 1.01f)) return {};
  }
  return out;
}

// Of a text, or of as much of it as the model takes.
Result<Embedding> embed_beginning(TextEmbedder& embedder, std::string_view text) {
  for (;;) {
    auto embedding = embedder.embed(text, Scope().tenant);
    if (embedding || embedding.error().id != "learning.text_too_long" || text.size() < 64) return embedding;
    text = text.substr(0, text.size() / 2);
    text = text.substr(0, text.size() - utf8_incomplete_tail(text));
  }
}

struct Prepared {
  std::vector<RouteExample> examples;  // in order of place
  std::vector<RouteQuery> queries;     // of the examples
};

RouteQuery query_of(const RouteExample& example, const RouteModel& model, bool with_embedding) {
  RouteQuery query;
  query.task = example.task;
  query.text = example.context.empty() ? example.task : example.task + "\n" + example.context;
  query.words = content_words(query.text);
  query.profile = model.words().profile(query.words);
  if (with_embedding && !example.embedding.empty() && example.space == model.space()) {
    query.space = example.space;
    query.embedding = example.embedding;
  }
  query.x = model.features(query.text, query.words, query.embedding, !example.context.empty());
  return query;
}

std::vector<HeadExample> head_examples(const Prepared& data, const RouteTenant& tenant, int64_t from_us,
                                       int64_t now_us, bool heldout) {
  std::vector<HeadExample> out;
  for (size_t i = 0; i < data.examples.size(); ++i) {
    const RouteExample& example = data.examples[i];
    const auto label = tenant.model->registry().find(example.agent);
    const double weight = example.weight() * tenant.recency(example, now_us);
    if (example.heldout() != heldout || example.time_us < from_us || !label || weight <= 0) continue;
    out.push_back({data.queries[i].x, static_cast<uint32_t>(*label), example.success(), weight});
  }
  return out;
}

RouteWeights fit_weights(const RouteTenant& tenant, const Prepared& data, bool with_prior, int64_t now_us) {
  std::vector<RouteExample> examples;
  std::vector<RouteLanesOf> lanes;
  std::vector<double> importance;
  const std::shared_lock lock(tenant.mutex);
  for (const RouteExample& example : data.examples) {
    if (!example.heldout()) continue;
    const RouteQuery query = query_of(example, *tenant.model, with_prior);
    if (with_prior && query.embedding.empty()) continue;
    lanes.push_back(tenant.lanes(query, now_us, &example.id));
    examples.push_back(example);
    importance.push_back(tenant.recency(example, now_us));
  }
  return fit_route_weights(*tenant.model, lanes, examples, importance, tenant.schedule(with_prior));
}

}  // namespace

Result<std::shared_ptr<const RouteModel>> Router::embedded(AgentRegistry registry) {
  if (embedder_ == nullptr) return RouteModel::create(std::move(registry), options_.ewc_lambda);
  const std::vector<std::string> texts = RouteModel::texts(registry);
  const Sha256Digest hash = hash_of(texts);
  const uint64_t space = embedder_->space();
  std::vector<float> vectors;
  ASSIGN_OR_RETURN(const auto kept, store_.value(kVectorsValue));
  if (kept) vectors = decode_vectors(*kept, space, hash, texts.size() * kEmbeddingDim);
  if (vectors.empty()) {
    for (const std::string& text : texts) {
      ASSIGN_OR_RETURN(const Embedding embedding, embed_beginning(*embedder_, text));
      if (embedding.space != space || embedding.values.size() != kEmbeddingDim) {
        return fail(ErrorKind::kBusy, "learning.space",
                    "embeddings: the space changed while agents were embedded");
      }
      vectors.insert(vectors.end(), embedding.values.begin(), embedding.values.end());
    }
    // Only a saving: a store that takes nothing (read-only, full) costs the next open the same work.
    static_cast<void>(store_.put_value(kVectorsValue, encode_vectors(space, hash, vectors)).has_value());
  }
  return RouteModel::create(std::move(registry), options_.ewc_lambda, space, std::move(vectors));
}

Result<HeadReport> Router::train_head(const Scope& scope) {
  RETURN_IF_ERROR(prepare());
  const auto model = this->model();
  ASSIGN_OR_RETURN(const auto state, tenant(scope.tenant, model));
  if (state->training.exchange(true)) {
    return fail(ErrorKind::kBusy, "learning.busy", "router: the head of this tenant is being trained");
  }
  const std::shared_ptr<void> done(nullptr, [&](void*) { state->training = false; });
  const int64_t now_us = now();
  RETURN_IF_ERROR(store_.expire_decisions(now_us - kDecisionLifeUs));

  Prepared data;
  HeadState head;
  HeadReport report;
  int64_t boundary_us = 0;
  {
    const std::shared_lock lock(state->mutex);
    std::vector<uint64_t> places;
    for (const auto& [place, example] : state->examples) places.push_back(place);
    std::sort(places.begin(), places.end());
    for (const uint64_t place : places) {
      const RouteExample& example = state->examples.find(place)->second;
      if (now_us - example.time_us <= kDecisionLifeUs) data.examples.push_back(example);
    }
    head = state->head;
    boundary_us = state->boundary_us;
    if (state->boundary_pending) {
      head_boundary(head);
      boundary_us = state->next_boundary_us;
      report.boundary = true;
    }
  }
  const bool boundary = report.boundary;
  RETURN_IF_ERROR(embed_examples(*model, scope.tenant, *state, data.examples));
  for (const RouteExample& example : data.examples) data.queries.push_back(query_of(example, *model, true));

  std::vector<HeadExample> train, heldout;
  {
    const std::shared_lock lock(state->mutex);
    train = head_examples(data, *state, boundary_us, now_us, false);
    // Held-out outcomes of before count too: they tell what is forgotten. Drift takes most of their weight.
    heldout = head_examples(data, *state, 0, now_us, true);
  }
  const size_t n_before = head.n_outcomes;
  ASSIGN_OR_RETURN(report, ruvltra::train_head(head, train, heldout));
  report.boundary = boundary;
  report.n_new = data.examples.size() - std::min(data.examples.size(), n_before);

  std::vector<ComplexityModel::Example> sizes;
  std::vector<SuccessModel::Example> successes;
  for (size_t i = 0; i < data.examples.size(); ++i) {
    const RouteExample& example = data.examples[i];
    if (example.output_tokens > 0) sizes.push_back({data.queries[i].x, example.output_tokens});
    if (const auto agent = model->registry().find(example.agent)) {
      successes.push_back({data.queries[i].x, static_cast<uint32_t>(*agent), example.quality});
    }
  }
  ComplexityModel complexity = ComplexityModel::fit(sizes);
  SuccessModel success = SuccessModel::fit(model->n_agents(), successes);
  {
    const std::unique_lock lock(state->mutex);
    if (state->model != model) {
      return fail(ErrorKind::kBusy, "learning.busy", "router: the registry changed during the training");
    }
    head.n_outcomes = report.accepted ? data.examples.size() : n_before;
    state->head = std::move(head);
    state->complexity = std::move(complexity);
    state->success = std::move(success);
    if (boundary) {
      state->boundary_us = boundary_us;
      state->boundary_pending = false;
    }
  }
  if (data.examples.size() >= kOutcomesForWeights) {
    const RouteWeights words_only = fit_weights(*state, data, false, now_us);
    RouteWeights with_prior;
    if (model->has_vectors()) with_prior = fit_weights(*state, data, true, now_us);
    const std::unique_lock lock(state->mutex);
    state->words_only = words_only;
    state->with_prior = with_prior;
  }
  RETURN_IF_ERROR(keep(scope.tenant, *state));
  return report;
}

// Outcomes from before there was an embedder, or from another space, get vectors of this one.
Result<void> Router::embed_examples(const RouteModel& model, const std::string& tenant_name,
                                    RouteTenant& state, std::vector<RouteExample>& examples) {
  if (embedder_ == nullptr || !model.has_vectors()) return {};
  std::vector<RouteExample> changed;
  for (RouteExample& example : examples) {
    if (!example.embedding.empty() && example.space == model.space()) continue;
    const std::string text = example.context.empty() ? example.task : example.task + "\n" + example.context;
    auto embedding = embedder_->embed(text, tenant_name);
    if (!embedding && embedding.error().id == "learning.text_too_long") continue;
    if (!embedding) return tl::unexpected<Error>(std::move(embedding).error());
    if (embedding->space != model.space()) continue;
    example.space = embedding->space;
    example.embedding = std::move(embedding->values);
    changed.push_back(example);
  }
  const std::unique_lock lock(state.mutex);
  for (RouteExample& example : changed) state.embed(std::move(example));
  return {};
}

}  // namespace ruvltra
