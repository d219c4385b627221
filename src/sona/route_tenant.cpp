#include "sona/route_tenant.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>

#include "base/check.h"
#include "base/fail.h"
#include "base/sha256.h"
#include "sona/words.h"

namespace ruvltra {
namespace {

constexpr size_t kDriftBlock = 8;
constexpr double kVoteSharpness = 2;
constexpr double kRecencyHalfLifeUs = 30.0 * 24 * 3600 * 1e6;
constexpr size_t kHeldoutOneIn = 5;
constexpr uint64_t kSweptAtOnce = 64, kLinkedAtOnce = 16;  // slots per outcome: none of it takes long

std::vector<size_t> rows_from(const AgentRegistry& old, const AgentRegistry& next) {
  std::vector<size_t> from;
  for (const AgentProfile& agent : next.agents()) {
    size_t place = kNewLabel;
    for (size_t i = 0; i < old.agents().size(); ++i) {
      if (old.agents()[i].id == agent.id) place = i;
    }
    from.push_back(place);
  }
  return from;
}

// Embeddings of another space mean nothing here: their rows are those of the head that knows the registry
// alone.
void forget_embedding_rows(HeadState& state, const HeadState& fresh) {
  const size_t n = kEmbeddingDim * state.head.n_labels;
  Ewc::State memory = state.ewc.state();
  for (size_t i = 0; i < n; ++i) {
    state.head.weights[i] = memory.anchor[i] = fresh.head.weights[i];
    memory.total[i] = memory.run[i] = 0;
  }
  state.ewc.restore(std::move(memory));
}

// An index must take whatever the store has committed: room is made where there is none, and a vector that
// means nothing (zero, not finite) is left out.
void put(HnswIndex& index, uint64_t place, std::span<const float> vector) {
  auto done = index.append(place, vector);
  if (!done && done.error().id == "index.full") {
    // Twice: links to the erased go in one round, their slots are free after the next.
    for (int round = 0; round < 2; ++round) index.sweep(index.params().capacity);
    done = index.append(place, vector);
  }
  if (!done && done.error().id == "index.full") {
    if (auto fresh = index.rebuild()) index = *std::move(fresh);
    done = index.append(place, vector);
  }
  if (done) index.link_pending(kLinkedAtOnce);
}

void drop(HnswIndex& index, uint64_t place) {
  if (!index.contains(place) || !index.erase(place)) return;
  index.sweep(kSweptAtOnce);
}

}  // namespace

PageHinkley outcome_watch() {
  PageHinkley::Options options;
  options.threshold = 10;
  options.warm_up = 8;
  options.min_deviation = 0.2;
  options.clip = 4;
  options.cool_down = 5;
  return PageHinkley(options);
}

bool is_usable_embedding(std::span<const float> values) {
  double sum = 0;
  for (const float v : values) sum += double{v} * v;
  return values.size() == kEmbeddingDim && std::isfinite(sum) && sum > 0;
}

bool RouteExample::heldout() const {
  const Sha256Digest digest = sha256({reinterpret_cast<const uint8_t*>(task.data()), task.size()});
  uint32_t value;
  std::memcpy(&value, digest.data(), sizeof value);
  return value % kHeldoutOneIn == 0;
}

double RouteTenant::recency(const RouteExample& example, int64_t now_us) const {
  const double age = static_cast<double>(std::max<int64_t>(now_us - example.time_us, 0));
  return std::exp2(-age / kRecencyHalfLifeUs) * (example.time_us < drift_us ? kBeforeDrift : 1);
}

Result<void> RouteTenant::make_indices(const KernelTable& kernels, size_t max_outcomes) {
  HnswParams params;
  params.dim = static_cast<int>(kEmbeddingDim);
  params.capacity = 2 * max_outcomes + 64;  // erased ones wait in it for the sweep
  ASSIGN_OR_RETURN(by_meaning, HnswIndex::create(params, kernels));
  params.dim = static_cast<int>(kLexicalDim);
  ASSIGN_OR_RETURN(by_words, HnswIndex::create(params, kernels));
  std::vector<uint64_t> places;
  for (const auto& [place, example] : examples) places.push_back(place);
  std::sort(places.begin(), places.end());
  for (const uint64_t place : places) index(place, examples.find(place)->second);
  return {};
}

void RouteTenant::index(uint64_t place, const RouteExample& example) {
  const std::vector<std::string> words = content_words(example.task + "\n" + example.context);
  const std::vector<float> profile = model->words().profile(words);
  put(*by_words, place, profile);
  if (example.space == index_space && is_usable_embedding(example.embedding)) {
    put(*by_meaning, place, example.embedding);
  }
}

Result<void> RouteTenant::adopt(std::shared_ptr<const RouteModel> next, uint64_t space,
                                const KernelTable& kernels, size_t max_outcomes) {
  if (model == nullptr) {
    head = next->initial_head();
  } else if (model->registry().hash() != next->registry().hash()) {
    if (head.n_updates > 0) head_boundary(head);
    head = head.n_updates == 0
               ? next->initial_head()
               : remap_head(head, rows_from(model->registry(), next->registry()), next->initial_head());
    success = {};  // its agents' places have moved
    with_prior.fitted = words_only.fitted = false;
  } else if (head.n_updates == 0) {
    head = next->initial_head();
  }
  if (next->has_vectors() && next->space() != head_space) {
    if (head.n_updates > 0) forget_embedding_rows(head, next->initial_head());
    head_space = next->space();
  }
  index_space = next->has_vectors() ? next->space() : space;
  model = std::move(next);
  explorer.reset();
  return make_indices(kernels, max_outcomes);
}

void RouteTenant::learn(RouteExample example, size_t max_outcomes) {
  const std::string id = example.id.text();
  if (const auto it = place_of.find(id); it != place_of.end()) {
    // Another verdict on the same decision: its vectors stay where they are.
    RouteExample& old = examples.find(it->second)->second;
    old.agent = example.agent;
    old.quality = example.quality;
    old.output_tokens = example.output_tokens;
    old.time_us = example.time_us;
    explorer.reset();
    return;
  }
  const uint64_t place = next_place++;
  index(place, example);
  place_of.emplace(id, place);
  watch(example);
  examples.emplace(place, std::move(example));
  while (examples.size() > max_outcomes) {
    uint64_t oldest = place;
    for (const auto& [other, ignored] : examples) oldest = std::min(oldest, other);
    place_of.erase(examples.find(oldest)->second.id.text());
    examples.erase(oldest);
    drop(*by_meaning, oldest);
    drop(*by_words, oldest);
  }
}

void RouteTenant::embed(RouteExample example) {
  const auto it = place_of.find(example.id.text());
  if (it == place_of.end() || example.space != index_space || !is_usable_embedding(example.embedding)) return;
  RouteExample& kept = examples.find(it->second)->second;
  kept.space = example.space;
  kept.embedding = std::move(example.embedding);
  drop(*by_meaning, it->second);
  put(*by_meaning, it->second, kept.embedding);
}

size_t RouteTenant::explore(const RouteFeatures& x, std::span<const size_t> agents) const {
  const std::lock_guard lock(explorer_mutex);
  if (!explorer) {
    explorer.emplace(model->n_agents());
    explored_to = 0;
  }
  std::vector<uint64_t> places;
  for (const auto& [place, example] : examples) {
    if (place >= explored_to) places.push_back(place);
  }
  std::sort(places.begin(), places.end());
  for (const uint64_t place : places) {
    const RouteExample& example = examples.find(place)->second;
    const auto agent = model->registry().find(example.agent);
    if (!agent) continue;
    const std::string text = example.task + "\n" + example.context;
    std::span<const float> embedding;
    if (example.space == model->space()) embedding = example.embedding;
    explorer->update(*agent, model->features(text, content_words(text), embedding, !example.context.empty()),
                     example.quality);
  }
  explored_to = next_place;
  return *std::max_element(agents.begin(), agents.end(),
                           [&](size_t a, size_t b) { return explorer->score(a, x) < explorer->score(b, x); });
}

// Surprise is watched in blocks: a single miss says little, several in a row a lot.
void RouteTenant::watch(const RouteExample& example) {
  if (example.time_us < drift_us) return;
  if (block.empty()) block_began_us = example.time_us;
  block.push_back(example.surprise);
  if (block.size() < kDriftBlock) return;
  double sum = 0;
  for (const double s : block) sum += s;
  block.clear();
  block_times.push_back(block_began_us);
  if (!drift.add(sum / kDriftBlock)) return;
  // The change began with the first of the blocks in which the surprise rose.
  const size_t n = std::clamp<size_t>(drift.n_suspect(), 1, block_times.size());
  drift_us = block_times[block_times.size() - n];
  boundary_pending = true;
  next_boundary_us = drift_us;
  block_times.clear();
}

std::vector<RouteNeighbour> RouteTenant::neighbours(const RouteQuery& query, int64_t now_us,
                                                    const DecisionId* without) const {
  std::unordered_map<uint64_t, double> found;
  const auto look = [&](const std::optional<HnswIndex>& in, std::span<const float> vector) {
    if (!in || in->size() == 0 || vector.empty()) return;
    // One more, for the one that is left out. A vector of zeros finds nothing.
    const auto hits = in->search(vector, kVoters + (without != nullptr ? 1 : 0));
    if (!hits) return;
    for (const HnswHit& hit : *hits) {
      double& similarity = found[hit.id];
      similarity = std::max(similarity, static_cast<double>(hit.similarity));
    }
  };
  if (query.space == index_space) look(by_meaning, query.embedding);
  look(by_words, query.profile);

  std::vector<RouteNeighbour> out;
  for (const auto& [place, similarity] : found) {
    if (similarity < kVoterSimilarity) continue;
    const auto it = examples.find(place);
    if (it == examples.end() || (without != nullptr && it->second.id == *without)) continue;
    if (now_us - it->second.time_us > kDecisionLifeUs) continue;
    const double near = std::min(1.0, (similarity - kVoterSimilarity) / (1 - kVoterSimilarity));
    out.push_back({place, similarity, near * recency(it->second, now_us)});
  }
  std::sort(out.begin(), out.end(), [](const RouteNeighbour& a, const RouteNeighbour& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.place < b.place;
  });
  if (out.size() > kVoters) out.resize(kVoters);
  return out;
}

RouteLanesOf RouteTenant::lanes(const RouteQuery& query, int64_t now_us, const DecisionId* without) const {
  RouteLanesOf out;
  const bool has_prior = model->has_vectors() && !query.embedding.empty() && query.space == model->space();
  if (has_prior) out.log_p[static_cast<size_t>(RouteLane::kPrior)] = model->prior(query.embedding);
  out.log_p[static_cast<size_t>(RouteLane::kLexical)] = model->lexical(query.words, has_prior);
  out.log_p[static_cast<size_t>(RouteLane::kHead)] = head.head.log_probabilities(query.x);
  out.neighbours = neighbours(query, now_us, without);
  std::vector<double> votes(model->n_agents(), 0);
  for (const RouteNeighbour& n : out.neighbours) {
    const RouteExample& example = examples.find(n.place)->second;
    const auto agent = model->registry().find(example.agent);
    if (!agent) continue;
    votes[*agent] += n.weight * (2 * example.quality - 1);
    out.vote_mass += n.weight;
  }
  if (out.vote_mass > 0) {
    for (double& v : votes) v *= kVoteSharpness;
    log_softmax(votes);
    out.log_p[static_cast<size_t>(RouteLane::kVote)] = std::move(votes);
  }
  return out;
}

RouteWeights RouteTenant::weights(bool has_prior) const {
  const RouteWeights& fitted = has_prior ? with_prior : words_only;
  return fitted.fitted ? fitted : schedule(has_prior);
}

RouteWeights RouteTenant::schedule(bool has_prior) const {
  double n = 0;
  for (const auto& [place, example] : examples) n += example.time_us < drift_us ? kBeforeDrift : 1;
  const double t = model->calibration(has_prior).temperature;
  const double head_share = n < kOutcomesForHead ? 0 : n / (n + 50);
  RouteWeights out;
  // The calibration is that of the registry's lanes; head and votes are in nats of their own. The head looks
  // at the same words as they do: what it adds to their sum is not evidence of its own.
  out.alpha = {50 / (n + 50), kLexicalWeight, head_share * t, t};
  out.temperature = t * (1 + head_share);
  return out;
}

std::vector<double> combine_lanes(const RouteModel& model, const RouteLanesOf& lanes,
                                  const RouteWeights& weights) {
  std::vector<double> p(model.n_agents(), 0);
  for (size_t lane = 0; lane < kRouteLanes; ++lane) {
    double alpha = weights.alpha[lane];
    if (lane == static_cast<size_t>(RouteLane::kVote)) alpha *= lanes.vote_mass / (lanes.vote_mass + 1);
    if (lanes.log_p[lane].empty() || alpha == 0) continue;
    for (size_t a = 0; a < p.size(); ++a) p[a] += alpha * lanes.log_p[lane][a];
  }
  for (size_t a = 0; a < p.size(); ++a) {
    p[a] /= weights.temperature;
    if (!model.registry().agents()[a].enabled) p[a] = -std::numeric_limits<double>::infinity();
  }
  log_softmax(p);
  return p;
}

std::array<double, kRouteLanes> lane_shares(const RouteLanesOf& lanes, const RouteWeights& weights,
                                            size_t best) {
  std::array<double, kRouteLanes> out = {};
  for (size_t lane = 0; lane < kRouteLanes; ++lane) {
    const std::vector<double>& log_p = lanes.log_p[lane];
    if (log_p.empty()) continue;
    double mean = 0;
    for (const double v : log_p) mean += v / static_cast<double>(log_p.size());
    out[lane] = weights.alpha[lane] * (log_p[best] - mean);
    if (lane == static_cast<size_t>(RouteLane::kVote)) out[lane] *= lanes.vote_mass / (lanes.vote_mass + 1);
  }
  return out;
}

}  // namespace ruvltra
