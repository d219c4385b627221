// What is kept of a token to learn from it later: enough of its logits to know, without a forward pass, how
// likely any other adapter makes it, and in which direction it pulls B.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/num.h"
#include "ruvltra/types.h"
#include "sona/micro_lora.h"

namespace ruvltra {

inline constexpr size_t kDefaultTopK = 256;
// Vocabularies of at most so many tokens are recorded whole: nothing is left in the tail.
inline constexpr size_t kWholeVocabulary = 1024;
// Mean probability outside the K recorded tokens above which later records get twice as many. Below a quarter
// of it, half as many again.
inline constexpr double kMaxMeanTail = 0.05;

// A view of one record. Tokens in ascending order, y among them.
struct TokenRecord {
  uint32_t token = 0;               // y, what was written
  float lse = 0;                    // log sum exp of all V logits
  float logit = 0;                  // z_y
  float tail = 0;                   // probability outside `ids`
  float hidden_norm = 0;            // |h|
  std::span<const float> features;  // phi (m)
  std::span<const uint32_t> ids;    // (k) the most likely ones, and y
  std::span<const f16_t> log_p;     // (k) z - lse
  std::span<const float> made_at;   // B (m, d) the logits were made with; empty: the zero adapter

  double nll() const { return static_cast<double>(lse) - static_cast<double>(logit); }
};

// Records of one basis, in memory taken at the start: add() allocates nothing, so that a decode step may
// call it.
//
// *Thread safety*: one thread adds; const calls may run in parallel otherwise.
class TokenRecords {
 public:
  struct Options {
    size_t n_features = 0;  // m
    size_t n_rows = 0;      // V: rows of the output matrix in use
    size_t capacity = 0;    // tokens
    size_t top_k = kDefaultTopK;
    size_t max_ids = 0;  // of all records together; 0: capacity x (top_k + 1), and fewer tokens if K doubles
  };
  explicit TokenRecords(const Options& options);

  size_t size() const { return heads_.size(); }
  bool full() const;
  size_t n_bytes() const;  // memory held
  size_t n_features() const { return options_.n_features; }
  size_t n_rows() const { return options_.n_rows; }
  // K of the next record: all of V where that is at most kWholeVocabulary. Looked at after each 1,024
  // records; never below the K of the start.
  size_t top_k() const { return top_k_; }
  double mean_tail() const;  // over all records

  // What add() calls the adapter that made the logits; null or zero: 0. Adapters stay alive until clear().
  uint32_t reference_to(const std::shared_ptr<const Adapter>& adapter);
  // logits: (>= V) raw, of which the first V count; features: (m). False, and nothing kept, if full, or if a
  // number is not finite: such a token teaches nothing. *Requires*: token < V; reference from reference_to().
  bool add(std::span<const float> logits, uint32_t token, std::span<const float> features, float hidden_norm,
           uint32_t reference = 0);
  // A copy of another's record. False if full. *Requires*: the same m and V.
  bool copy(const TokenRecords& from, size_t i);
  // A record that was kept in a file, made at the zero adapter. False if full. *Requires*: ids ascending and
  // below V, the token among them, features (m), log_p as many as ids.
  bool restore(const TokenRecord& record);
  void clear();

  // How far the choice of K has come: what goes on from other records goes on with their K.
  struct KState {
    double top_k = 0, n_in_window = 0, window_tail = 0;
  };
  KState k_state() const;
  // *Requires*: a state of records with the same V.
  void set_k_state(const KState& state);

  TokenRecord operator[](size_t i) const;

 private:
  struct Head {
    uint32_t token, n_ids;
    float lse, logit, tail, hidden_norm;
    uint32_t reference;
  };
  void select(std::span<const float> logits, uint32_t token);
  void adapt_k();

  Options options_;
  size_t top_k_ = 0, first_k_ = 0;
  std::vector<Head> heads_;      // (capacity)
  std::vector<size_t> begin_;    // (capacity) of a record in ids_
  std::vector<float> features_;  // (capacity, m)
  std::vector<uint32_t> ids_;    // (max_ids)
  std::vector<f16_t> log_p_;
  std::vector<std::shared_ptr<const Adapter>> references_;  // [0]: none
  struct Candidate {
    float logit;
    uint32_t id;
  };
  std::vector<Candidate> heap_;  // scratch of select()
  double tail_sum_ = 0, window_tail_ = 0;
  size_t n_in_window_ = 0;
};

}  // namespace ruvltra
