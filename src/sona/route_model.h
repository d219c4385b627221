// What the router knows from its registry alone, before any outcome: made once per registry and embedding
// space, shared by all tenants.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sona/agent_registry.h"
#include "sona/lexical.h"
#include "sona/route_head.h"
#include "sona/text_embedder.h"

namespace ruvltra {

// How far to trust the registry's lanes: fitted on its own texts, each judged by the others.
struct RouteCalibration {
  double sharpness = 0.4;  // of the BM25 scores in P_lexical
  double temperature = 1;
};

inline constexpr double kPriorSharpness = 10;  // of the cosines in P_prior
inline constexpr double kLexicalWeight = 0.5;  // alpha_L before it is fitted

// *Thread safety*: const after construction.
class RouteModel {
 public:
  // Words alone, without an embedder; nothing here takes long.
  static std::shared_ptr<const RouteModel> create(AgentRegistry registry, double ewc_lambda);
  // With a vector for every text of texts(), of one space: (texts, kEmbeddingDim).
  static std::shared_ptr<const RouteModel> create(AgentRegistry registry, double ewc_lambda, uint64_t space,
                                                  std::vector<float> vectors);
  // Description and examples of every agent, in order: what vectors are made of.
  static std::vector<std::string> texts(const AgentRegistry& registry);

  const AgentRegistry& registry() const { return registry_; }
  const LexicalIndex& words() const { return words_; }
  size_t n_agents() const { return registry_.agents().size(); }
  bool has_vectors() const { return !vectors_.empty(); }
  uint64_t space() const { return space_; }

  // log P_prior: softmax of kPriorSharpness x the best cosine with the agent's texts. (n_agents) *Requires*:
  // has_vectors(), and an embedding of space(). `without`: a text not to compare with.
  std::vector<double> prior(std::span<const float> embedding, int without = -1) const;
  // The agent's text nearest to the embedding.
  const std::string& nearest_text(std::span<const float> embedding, size_t agent) const;
  // log P_lexical. (n_agents)
  std::vector<double> lexical(std::span<const std::string> words, bool beside_prior) const;

  const RouteCalibration& calibration(bool with_prior) const {
    return with_prior ? with_prior_ : without_prior_;
  }
  // A head that has learned the registry's texts, anchored there.
  const HeadState& initial_head() const { return initial_head_; }

  // log P(task type) from the texts of the task types, given how likely each agent is: what kind of work it
  // is. (task_types)
  std::vector<double> task_type(std::span<const std::string> words, const RouteFeatures& x,
                                std::span<const double> p_agents) const;

  RouteFeatures features(std::string_view text, std::span<const std::string> words,
                         std::span<const float> embedding, bool has_context, int without = -1) const;

 private:
  RouteModel() = default;
  RouteCalibration calibrate(bool with_prior) const;
  void fit_heads(double ewc_lambda);

  AgentRegistry registry_;
  std::vector<std::string> texts_;
  std::vector<size_t> agent_of_;  // of the texts
  LexicalIndex words_;            // the texts, then one of the names of each agent
  uint64_t space_ = 0;
  std::vector<float> vectors_;  // (texts, kEmbeddingDim) or empty
  RouteCalibration with_prior_, without_prior_;
  HeadState initial_head_;
  LexicalIndex type_words_;
  SoftmaxHead type_head_;
};

}  // namespace ruvltra
