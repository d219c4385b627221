// One answer in the making: a prompt, the tokens drawn so far, and the pages that hold their K and V.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "engine/page_manager.h"
#include "ruvltra/types.h"

namespace ruvltra {

inline constexpr double kNoDeadline = std::numeric_limits<double>::infinity();

struct SequenceSpec {
  std::vector<TokenId> prompt;  // at least one token
  size_t max_new_tokens = 0;    // 0: the prompt alone is computed
  size_t n_samples = 1;         // answers that share the prompt's pages; the others come from fork()
  Sha256Digest root = {};       // prefix_root(): whom it may share pages with
  bool use_cache = true;        // false: takes no page from the cache and leaves none
  TenantId tenant = 0;
  int priority = 0;                        // each level is a head start of SchedulerOptions::priority_ms
  double queue_deadline_ms = kNoDeadline;  // ends if not yet begun by then
  double deadline_ms = kNoDeadline;        // ends by then, whatever it has
  void* owner = nullptr;                   // the caller's own; never read
};

enum class Phase : uint8_t {
  kWaiting,  // holds no pages: new or preempted
  kPrefill,  // its known tokens are being computed
  kDecode,   // one token (and its drafts) per step
  kEnded,
};

enum class EndReason : uint8_t {
  kNone,
  kFinished,      // by the caller: a stop, or enough tokens
  kCancelled,     // on request
  kQueueTimeout,  // queue_deadline_ms passed before the first step
  kTimeout,       // deadline_ms passed
  kFailed,        // by the caller: its numbers are not finite
};

// Made by Scheduler::submit() and fork(), written by the scheduler alone, valid until the plan() after the
// one that reported its end or, when the caller ended it, until the next plan().
struct Sequence {
  SequenceSpec spec;  // the prompt has moved to `tokens`
  uint64_t id = 0;    // ascending in order of submission
  size_t choice = 0;  // 0..n_samples - 1
  Phase phase = Phase::kWaiting;
  EndReason end = EndReason::kNone;

  std::vector<TokenId> tokens;  // prompt, then output; the last one is not computed yet while decoding
  size_t n_prompt = 0;
  size_t n_cached = 0;       // prompt tokens taken from the cache when it began
  size_t n_preempted = 0;    // times
  size_t n_samples_due = 0;  // answers still to be forked off
  size_t n_draft = 0;        // rows wanted for proposals in the next step: propose()
  bool paused = false;       // gets no rows
  bool begun = false;        // admitted at least once
  bool cancelled = false;    // ends in the next plan

  double rank_ms = 0;  // arrival less the head start of its priority: the lower, the more senior
  PageTable table;

  size_t n_output() const { return tokens.size() - n_prompt; }
  size_t n_max() const { return n_prompt + spec.max_new_tokens; }
  // Rows it takes to have the next token: at least one, to obtain its logits, even if all is in the cache.
  size_t n_due() const { return table.n_tokens < tokens.size() ? tokens.size() - table.n_tokens : 1; }
  size_t first_due() const { return tokens.size() - n_due(); }
  bool senior_to(const Sequence& other) const {
    return rank_ms != other.rank_ms ? rank_ms < other.rank_ms : id < other.id;
  }

  size_t n_planned = 0;        // rows in the current plan, drafts included
  size_t n_draft_planned = 0;  // of these, drafts
  size_t tenant_at = 0;        // its tenant's place in the scheduler
};

}  // namespace ruvltra
