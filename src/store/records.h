// The durable records of the learning system: plain data, one struct per table (docs/storage.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/sha256.h"
#include "ruvltra/learning.h"

namespace ruvltra {

// Trajectories are split once, by a hash of their content: duplicates fall on the same side.
enum class Split : uint8_t { kTrain, kHoldout };

struct TrajectoryRecord {
  TrajectoryId id;
  std::string tenant, session;
  Trajectory body{""};
  std::optional<double> quality;  // final
  QualitySource source = QualitySource::kNone;
  uint64_t generation = 0;  // of the adapter that answered; 0 = none
  Sha256Digest generation_hash = {};
  Sha256Digest model_hash = {};
  std::string provenance;  // route, client, signal source: "api", "cli", "engine", ...
  int64_t ended_us = 0;
  int64_t expires_us = 0;  // 0 = never
  Split split = Split::kTrain;
};

// A bank item. Embeddings are unit vectors, stored as f16.
struct PatternRecord {
  PatternId id;
  std::string tenant, session;  // session: of whoever stored it; empty where that is unknown
  PatternKind kind = PatternKind::kStrategy;
  std::string title, text;
  std::string when;  // the task its embedding is made of; empty: title and text
  uint64_t space = 0;
  std::vector<float> embedding;  // (kEmbeddingDim) or empty
  double a = 1, b = 1;           // Beta(a, b) of its quality
  int64_t created_us = 0, last_used_us = 0;
  uint32_t uses = 0;
  std::vector<RecordId> origins;  // trajectories it was made from, at most 64
  std::string provenance;         // "caller", "correction", "actions", "model", "import"
  bool pinned = false;
  int32_t cluster = -1;
};

struct ClusterRecord {
  int32_t cluster = 0;
  uint64_t space = 0;
  std::vector<float> centroid;  // (kEmbeddingDim)
  uint64_t n_members = 0;
};

// One feedback per (tenant, feedback_id); the same again is nothing new, another with that id is a conflict.
struct FeedbackRecord {
  RecordId id;
  std::string tenant;
  std::string feedback_id;  // the client's own, at most 128 bytes, or empty: never compared
  enum class About : uint8_t { kRequest, kDecision, kTrajectory } about = About::kRequest;
  std::string target;  // id of what it is about, as text
  std::optional<double> quality;
  std::optional<bool> success;
  std::string agent;       // the right one, if named
  std::string correction;  // text that should have been the answer
  int64_t time_us = 0;
};

struct AgentProbability {
  std::string agent;
  double p = 0;
};

// What the router decided, and what came of it.
struct DecisionRecord {
  DecisionId id;
  std::string tenant, session;  // session: empty where that is unknown
  std::string task, context;
  uint64_t space = 0;
  std::vector<float> embedding;                 // (kEmbeddingDim), or empty where the answer was lexical
  std::string agent;                            // chosen
  std::string method;                           // "hnsw", "prior", "lexical", "head"
  std::vector<AgentProbability> probabilities;  // the best ones, best first
  double propensity = 1;                        // probability of the choice under exploration
  int64_t created_us = 0;
  // The outcome, once there is one.
  std::string outcome_agent;              // who did it; the router's choice unless feedback says otherwise
  std::optional<double> outcome_quality;  // success 1, failure 0
  uint32_t output_tokens = 0;             // of the work, 0 = unknown
  int64_t outcome_us = 0;
};

// A version of what was learned for a scope; its files are content-addressed (docs/learning.md).
struct GenerationRecord {
  std::string tenant, session;  // both empty: the global scope
  uint64_t number = 0;          // ascending per scope
  Sha256Digest content = {};    // all zero: the zero adapter
  uint64_t parent = 0;
  std::string file;    // name inside the data directory, or empty
  std::string reason;  // "instant", "background", "deep", "import", "rollback", "reset", "operator"
  std::string report;  // JSON: gates and measures
  int64_t created_us = 0;
};

}  // namespace ruvltra
