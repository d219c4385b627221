// What a candidate adapter must show before it goes live (docs/learning.md). Every gate must hold; a report
// says what was measured and why it was refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"
#include "sona/lora_gradient.h"

namespace ruvltra {

struct GateLimits {
  size_t block_tokens = 64;
  size_t min_blocks = 16;
  size_t min_sequences = 8;           // serve as blocks where there are too few of those
  size_t min_fresh_tokens = 256;      // held-out tokens that no earlier attempt has used
  double max_canary_rise = 0.005;     // relative to the base's NLL
  double max_drift = 0.02;            // mean KL(p_base || p_candidate), nat per token
  double max_delta_ratio = 0.05;      // 99.9 % quantile of |delta| / |h|
  size_t min_canary_tokens = 12'000;  // fewer say too little; none: nothing is published

  // Errors (usage): learning.gate_limits.
  Result<void> validate() const;
};

enum class Gate : uint8_t { kEvidence, kCanary, kDrift, kNorm };
std::string_view gate_name(Gate gate);  // "G1 evidence", ...

struct GateResult {
  Gate gate = Gate::kEvidence;
  bool passed = false;
  double value = 0, limit = 0;  // what was measured, and its limit
  std::string reason;           // of a refusal, for people
};

// D = NLL(live) - NLL(candidate), in blocks.
struct Evidence {
  std::vector<double> differences;  // one for each block
  bool by_sequence = false;
  double mean = 0;
  double lower_bound = 0;  // one-sided 95 % t-bound of the mean
  double mean_error = 0;   // mean error bound of the NLLs it is made of
  size_t n_tokens = 0;
};

struct GateReport {
  bool passed = false;
  double t = 0;  // of B_live + t (B_candidate - B_live); the first that passed, else the last tried
  std::vector<GateResult> results;  // at that t, in order; operator commands have no G1
  Evidence evidence;
  double canary_base = 0, canary_candidate = 0;  // mean NLL
  double canary_error = 0;                       // mean error bound of canary_candidate
  double drift = 0, delta_p999 = 0;
  std::vector<double> tried;         // every t, and
  std::vector<std::string> reasons;  // why it was refused
  int n_attempts = 0;                // that count: t = 1, and the first that passed
};

// Data never trained on. Sequence i is the examples [sequence_begin[i], sequence_begin[i + 1]) of `batch`.
struct HeldOut {
  Batch batch;
  std::span<const uint32_t> sequence_begin;  // (n_sequences + 1)
  size_t n_fresh_tokens = 0;
};

// 95 % quantile of Student's t. *Requires*: degrees >= 1.
double t_quantile_95(size_t degrees);

// Blocks of block_tokens in order, across sequences; the sequences' own means where there are too few blocks.
Evidence measure_evidence(LoraLoss& loss, const HeldOut& held_out, std::span<const float> live,
                          std::span<const float> candidate, const GateLimits& limits);

// All gates at one candidate. `canary` holds records of the fixed general text, made at the base.
// Without `held_out` (operator commands, imports) there is no G1.
GateReport check_gates(LoraLoss& loss, const HeldOut* held_out, const Batch& canary,
                       std::span<const float> live, std::span<const float> candidate,
                       const GateLimits& limits);

// The same, and where it fails the candidate is drawn towards the live one: t = 1/2, 1/4, 1/8. NLL, KL and
// |delta| are convex in B, so a smaller step is safer. `b` is what may go live; empty if nothing may.
struct Admission {
  GateReport report;
  std::vector<float> b;
};
Admission admit(LoraLoss& loss, const HeldOut* held_out, const Batch& canary, std::span<const float> live,
                std::span<const float> candidate, const GateLimits& limits);

}  // namespace ruvltra
