// How far to draft: the length and the cut-off that give the most tokens per second, from what steps cost and
// how often proposals were confirmed. Pure logic: no clock, no tensors. Nothing here can change a token.
//
// A step that verifies proposals yields more tokens and takes longer. Tokens per time are a ratio of two
// sums, and the best ratio L is reached by doing whatever adds tokens worth more than L times the time they
// add (Dinkelbach, "On nonlinear fractional programming", 1967). L is the rate measured while serving; so one
// rule gives the length, the confidence below which drafting stops, "off", and the restraint that many
// sequences in a step ask for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ruvltra {

inline constexpr size_t kMaxDraft = 8;  // proposals of one sequence in one step

// Where proposals come from.
enum class DraftOrigin : uint8_t { kLookup, kModel };

// Times of steps in units of a step with one decode row. The unit follows the machine and the context; the
// ratios are those of the kernels and hardly move.
class StepTimes {
 public:
  static constexpr size_t kMostRows = 64;

  StepTimes();
  void learn_step(size_t n_rows, double ms);  // without prompt rows; 1 <= n_rows
  void learn_draft(double ms);                // one step of the draft model

  bool is_known() const { return n_steps_ >= kFirstSteps; }
  double unit_ms() const { return unit_ms_; }
  // V(n): a step of n rows. *Requires*: n_rows >= 1; above kMostRows it counts as kMostRows.
  double step(size_t n_rows) const;
  double draft() const { return draft_; }  // c

 private:
  static constexpr uint64_t kFirstSteps = 4;

  std::array<double, kMostRows + 1> ratio_;  // V(n)
  std::array<uint32_t, kMostRows + 1> n_seen_ = {};
  double unit_ms_ = 0;
  double draft_ = 0.25;
  uint64_t n_steps_ = 0, n_drafts_ = 0;
};

// How often proposals of one source were confirmed, by what the source thought of them: confidence classes of
// width 0.1 for a draft model, the length of the match for lookup.
class Acceptance {
 public:
  static constexpr size_t kClasses = 10;

  Acceptance();
  double rate(size_t c) const { return rate_[c]; }    // confirmed, if all before it were
  double share(size_t c) const { return share_[c]; }  // of proposals that come up
  // A case counts 1 / (cases + 3) at first and never less than least_weight: fast, then steady.
  void saw(size_t c, double least_weight);
  void judged(size_t c, bool confirmed, double least_weight);
  // Counts for no more than a few cases: where a new sequence begins.
  Acceptance as_prior() const;

 private:
  std::array<double, kClasses> rate_, share_;
  std::array<uint32_t, kClasses> n_judged_ = {};
  uint32_t n_seen_ = 0;
};

size_t confidence_class(double probability);  // 0..1
size_t match_class(size_t length);            // SuffixIndex::kLeast..

// What one sequence has learned about its proposals, and when it tries again although they do not pay.
struct DraftHistory {
  static constexpr size_t kFirstProbe = 64;  // tokens until the first try
  std::array<Acceptance, 2> acceptance;      // by DraftOrigin
  struct Probe {
    size_t n_tokens_since = 0;
    size_t interval = kFirstProbe;
  };
  std::array<Probe, 2> probes;
};

// A proposal's class and whether it was confirmed; those after the first refused one were not judged.
struct DraftVerdict {
  DraftOrigin origin = DraftOrigin::kLookup;
  size_t n = 0;                         // proposed
  size_t n_judged = 0, n_accepted = 0;  // n_judged is n_accepted or one more
  std::array<uint8_t, kMaxDraft> classes = {};
};

// The rule. One per engine. Thread safety: none.
class Lookahead {
 public:
  struct Options {
    size_t most = kMaxDraft;  // proposals
    double cut_off = 0;       // a draft model's proposals below this probability are not made
    bool adaptive = true;     // false: always `most`
  };
  explicit Lookahead(const Options& options) : options_(options) {}

  StepTimes& times() { return times_; }
  const StepTimes& times() const { return times_; }
  // A sequence's history begins with what all have learned.
  DraftHistory new_history() const;

  // A decode step: the rows it had, the tokens it gave, its time with all drafting.
  void learn(size_t n_rows, size_t n_tokens, double step_ms, double draft_ms);
  // A proposal of class c came up, verified or not.
  void saw(DraftHistory& history, DraftOrigin origin, size_t c);
  void learn(DraftHistory& history, const DraftVerdict& verdict);
  static double rate_of(const DraftHistory& history, DraftOrigin origin, size_t c);

  // For a sequence whose row comes on top of the step's n_rows - 1 others.
  //
  // Lookup: how many of `n` proposals of match class c to make.
  size_t lookup_length(const DraftHistory& history, size_t c, size_t n, size_t n_rows) const;
  // Tokens that `n` such proposals add, less what their time is worth.
  double lookup_gain(const DraftHistory& history, size_t c, size_t n, size_t n_rows) const;
  // Draft model: whether to compute another proposal after n_made ones that are all confirmed with
  // probability `survival`; n_sharing sequences share the draft step.
  bool draft_on(const DraftHistory& history, double survival, size_t n_made, size_t n_rows,
                size_t n_sharing) const;
  // And how many of the n made to verify, given their classes.
  size_t model_length(const DraftHistory& history, const DraftVerdict& made, size_t n_rows) const;
  // Tokens that drafting adds on average, less what its time is worth.
  double model_gain(const DraftHistory& history, size_t n_rows, size_t n_sharing) const;

  // Whether a source that does not pay is to be tried all the same: ever more rarely.
  bool probe_due(const DraftHistory& history, DraftOrigin origin) const;
  static void count_token(DraftHistory& history);
  // A source is tried now: the next time is twice as far away,
  static void try_now(DraftHistory& history, DraftOrigin origin);
  // unless the verdict on its proposals is better than that. was_probe: they were made for a try.
  void tried(DraftHistory& history, const DraftVerdict& verdict, bool was_probe, size_t n_rows) const;

  // Tokens per unit of time, as measured.
  double rate() const { return units_ > 0 ? tokens_ / units_ : 1; }
  const Options& options() const { return options_; }

 private:
  double price(double units) const;
  double rows_price(size_t n_rows, size_t n_more) const;
  double worth(const Acceptance& model, double price_of_row) const;

  Options options_;
  StepTimes times_;
  DraftHistory common_;
  double tokens_ = 0, units_ = 0;  // recent ones, older ones fading
};

}  // namespace ruvltra
