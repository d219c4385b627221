#include "sona/route_model.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "sona/words.h"

namespace ruvltra {
namespace {

constexpr double kTypeSharpness = 0.3;
// A type that an agent does not name is still possible for it.
constexpr double kOtherTypeShare = 0.1;

double dot(std::span<const float> a, const float* b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

std::vector<HeadExample> labelled(std::span<const RouteFeatures> x, std::span<const size_t> labels) {
  std::vector<HeadExample> out;
  for (size_t i = 0; i < x.size(); ++i) {
    HeadExample e;
    e.x = x[i];
    e.label = static_cast<uint32_t>(labels[i]);
    out.push_back(std::move(e));
  }
  return out;
}

}  // namespace

std::vector<std::string> RouteModel::texts(const AgentRegistry& registry) {
  std::vector<std::string> out;
  for (const AgentProfile& agent : registry.agents()) {
    out.push_back(agent.description);
    out.insert(out.end(), agent.examples.begin(), agent.examples.end());
  }
  return out;
}

std::shared_ptr<const RouteModel> RouteModel::create(AgentRegistry registry, double ewc_lambda) {
  return create(std::move(registry), ewc_lambda, 0, {});
}

std::shared_ptr<const RouteModel> RouteModel::create(AgentRegistry registry, double ewc_lambda,
                                                     uint64_t space, std::vector<float> vectors) {
  std::shared_ptr<RouteModel> model(new RouteModel);
  model->registry_ = std::move(registry);
  model->texts_ = texts(model->registry_);
  CHECK(vectors.empty() || vectors.size() == model->texts_.size() * kEmbeddingDim);
  model->space_ = space;
  model->vectors_ = std::move(vectors);
  const auto& agents = model->registry_.agents();
  std::vector<LexicalIndex::Document> documents;
  for (size_t a = 0; a < agents.size(); ++a) {
    model->agent_of_.insert(model->agent_of_.end(), 1 + agents[a].examples.size(), a);
  }
  for (size_t t = 0; t < model->texts_.size(); ++t)
    documents.push_back({model->agent_of_[t], model->texts_[t]});
  for (size_t a = 0; a < agents.size(); ++a) {
    std::string names = agents[a].id;
    for (const std::string& alias : agents[a].aliases) names += " " + alias;
    documents.push_back({a, std::move(names)});
  }
  model->words_ = LexicalIndex(agents.size(), documents);
  model->without_prior_ = model->calibrate(false);
  model->with_prior_ = model->has_vectors() ? model->calibrate(true) : model->without_prior_;
  model->fit_heads(ewc_lambda);
  return model;
}

std::vector<double> RouteModel::prior(std::span<const float> embedding, int without) const {
  std::vector<double> best(n_agents(), -1);
  for (size_t t = 0; t < agent_of_.size(); ++t) {
    if (static_cast<int>(t) == without) continue;
    const double cosine = dot(embedding, vectors_.data() + t * kEmbeddingDim);
    best[agent_of_[t]] = std::max(best[agent_of_[t]], cosine);
  }
  for (double& v : best) v *= kPriorSharpness;
  log_softmax(best);
  return best;
}

const std::string& RouteModel::nearest_text(std::span<const float> embedding, size_t agent) const {
  size_t best = 0;
  double top = -2;
  for (size_t t = 0; t < agent_of_.size(); ++t) {
    if (agent_of_[t] != agent) continue;
    const double cosine = dot(embedding, vectors_.data() + t * kEmbeddingDim);
    if (cosine > top) top = cosine, best = t;
  }
  return texts_[best];
}

std::vector<double> RouteModel::lexical(std::span<const std::string> words, bool beside_prior) const {
  return words_.log_probabilities(words, calibration(beside_prior).sharpness);
}

// The log loss of every registry text, predicted by all others, over a grid of (sharpness, temperature).
RouteCalibration RouteModel::calibrate(bool with_prior) const {
  std::vector<std::vector<double>> scores, priors;
  std::vector<size_t> labels;
  for (size_t t = 0; t < texts_.size(); ++t) {
    // A single text of an agent has nothing to be judged by.
    if (std::count(agent_of_.begin(), agent_of_.end(), agent_of_[t]) < 2) continue;
    scores.push_back(words_.scores(content_words(texts_[t]), static_cast<int>(t)));
    labels.push_back(agent_of_[t]);
    if (!with_prior) continue;
    const std::span<const float> vector(vectors_.data() + t * kEmbeddingDim, kEmbeddingDim);
    priors.push_back(prior(vector, static_cast<int>(t)));
  }
  RouteCalibration best;
  if (labels.size() < 4 * n_agents()) return best;  // too few texts to fit anything on
  double lowest = 1e300;
  std::vector<double> p;
  for (const double sharpness :
       {0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.6, 2.4, 3.2}) {
    for (const double temperature : {0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 6.0}) {
      // Without the prior only their ratio counts.
      if (!with_prior && temperature != 1.0) continue;
      double loss = 0;
      for (size_t i = 0; i < labels.size(); ++i) {
        p = scores[i];
        for (double& v : p) v *= sharpness;
        log_softmax(p);
        for (size_t a = 0; a < p.size(); ++a) {
          p[a] = (kLexicalWeight * p[a] + (with_prior ? priors[i][a] : 0)) / temperature;
        }
        log_softmax(p);
        loss -= p[labels[i]];
      }
      if (loss < lowest - 1e-9) lowest = loss, best = {sharpness, temperature};
    }
  }
  return best;
}

void RouteModel::fit_heads(double ewc_lambda) {
  std::vector<RouteFeatures> x;
  for (size_t t = 0; t < texts_.size(); ++t) {
    std::span<const float> vector;
    if (has_vectors()) vector = {vectors_.data() + t * kEmbeddingDim, kEmbeddingDim};
    x.push_back(features(texts_[t], content_words(texts_[t]), vector, false, static_cast<int>(t)));
  }
  initial_head_ = learn_initial_head(n_agents(), labelled(x, agent_of_), ewc_lambda);

  std::vector<LexicalIndex::Document> documents;
  std::vector<RouteFeatures> type_x;
  std::vector<size_t> labels;
  const auto& types = registry_.task_types();
  for (size_t k = 0; k < types.size(); ++k) {
    std::vector<std::string> of_type = types[k].examples;
    of_type.push_back(types[k].description);
    of_type.push_back(types[k].id);
    for (std::string& text : of_type) {
      type_x.push_back(features(text, content_words(text), {}, false));
      labels.push_back(k);
      documents.push_back({k, std::move(text)});
    }
  }
  type_words_ = LexicalIndex(types.size(), documents);
  type_head_ = learn_initial_head(types.size(), labelled(type_x, labels), 0).head;
}

std::vector<double> RouteModel::task_type(std::span<const std::string> words, const RouteFeatures& x,
                                          std::span<const double> p_agents) const {
  const auto& types = registry_.task_types();
  std::vector<double> log_p = type_words_.log_probabilities(words, kTypeSharpness);
  // The type head knows words alone.
  RouteFeatures without_embedding;
  for (size_t k = 0; k < x.index.size(); ++k) {
    if (x.index[k] < kEmbeddingDim) continue;
    without_embedding.index.push_back(x.index[k]);
    without_embedding.value.push_back(x.value[k]);
  }
  const std::vector<double> head = type_head_.log_probabilities(without_embedding);
  for (size_t k = 0; k < types.size(); ++k) {
    double by_agent = kOtherTypeShare / static_cast<double>(types.size());
    for (size_t a = 0; a < p_agents.size(); ++a) {
      const auto& own = registry_.agents()[a].task_types;
      if (own.empty()) by_agent += p_agents[a] / static_cast<double>(types.size());
      if (std::find(own.begin(), own.end(), types[k].id) == own.end()) continue;
      by_agent += p_agents[a] / static_cast<double>(own.size());
    }
    log_p[k] += 0.5 * head[k] + std::log(by_agent);
  }
  log_softmax(log_p);
  return log_p;
}

RouteFeatures RouteModel::features(std::string_view text, std::span<const std::string> words,
                                   std::span<const float> embedding, bool has_context, int without) const {
  return route_features(embedding, words_.profile(words, without), surface_values(text, has_context));
}

}  // namespace ruvltra
