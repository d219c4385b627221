// Speculative decoding: proposals for the next tokens of running answers, from text that stood before and
// from a small model. The engine computes their rows together with the next token's and keeps those that its
// own samples confirm: "sample and match" (docs/engine.md). Nothing here can change what an answer says.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/draft_model.h"
#include "engine/lookahead.h"
#include "engine/suffix_index.h"
#include "ruvltra/config.h"
#include "ruvltra/types.h"

namespace ruvltra {

// What speculation keeps of one answer.
struct Drafting {
  SuffixIndex index;
  DraftHistory history;
  std::optional<DraftModel::Context> context;  // with a draft model
  std::vector<TokenId> tokens;                 // proposals for the next step, at most kMaxDraft
  DraftVerdict made;                           // what its source thinks of them
  bool is_probe = false;
  size_t n_rows = 1;  // of the step without them
};

// Thread safety: none; the engine's loop thread owns it. Memory is taken by the constructor and by open().
class Speculator {
 public:
  // `model` may be null. It must outlive the speculator.
  Speculator(const SpeculativeConfig& config, DraftModel* model);

  // For an answer of at most n_tokens, prompt included.
  std::unique_ptr<Drafting> open(size_t n_tokens, TenantId tenant) const;
  void close(Drafting& drafting);

  // An answer whose next token is to be drawn in the coming step.
  struct Ask {
    Drafting* drafting = nullptr;
    std::span<const TokenId> text;  // prompt and answer so far
    size_t n_most = 0;              // proposals it can use
    size_t n_left = 0;              // tokens it may still get
    uint64_t seed = 0;
    uint32_t choice = 0;
  };
  // Fills Drafting::tokens of each, the first ask first. n_others: rows of the step beside these answers'
  // own.
  void propose(std::span<const Ask> asks, size_t n_others);
  double last_draft_ms() const { return draft_ms_; }  // spent in the last propose()

  // Leaves the first n of an answer's proposals.
  void cut(Drafting& drafting, size_t n);

  // The step verified the first n_granted proposals, compared n_judged of them with its samples, and
  // n_accepted of these, the first ones, were right.
  void judge(Drafting& drafting, size_t n_granted, size_t n_judged, size_t n_accepted);
  // A step without prompt rows: its rows, the tokens that came of it, and its time.
  void learn(size_t n_rows, size_t n_tokens, double step_ms);
  // One more token of an answer.
  static void count_token(Drafting& drafting) { Lookahead::count_token(drafting.history); }

  const SpeculationStats& stats();

 private:
  // An answer that the draft model works for.
  struct Drafter {
    const Ask* ask = nullptr;
    double survival = 1;  // probability that all its proposals are confirmed
    bool goes_on = true;  // wants another proposal
    bool is_done_reading = false;
  };

  bool propose_by_lookup(const Ask& ask, size_t n_rows);
  bool wants_model(const Ask& ask, size_t n_rows, size_t n_sharing);
  void propose_by_model(size_t n_rows);
  bool run_draft_step(size_t n_rows);
  bool add_to_step(Drafter& drafter);
  void take(Drafter& drafter, const DraftModel::Proposal& proposal, size_t n_rows);
  void trim(size_t n_rows);

  SpeculativeConfig config_;
  DraftModel* model_;
  Lookahead lookahead_;
  std::vector<Drafter> drafters_;
  std::vector<Drafter*> in_step_;  // those that get a proposal of the draft step
  double draft_ms_ = 0;
  SpeculationStats stats_;
};

}  // namespace ruvltra
