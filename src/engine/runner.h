// Runs steps: gathers the rows of many sequences into one StepInput and keeps the rows that come out.
#pragma once

#include <span>
#include <vector>

#include "base/aligned.h"
#include "model/qwen2.h"
#include "ruvltra/error.h"

namespace ruvltra {

// What one sequence contributes to a step: `tokens` at first_position and on.
struct StepPart {
  std::span<const TokenId> tokens;
  size_t first_position = 0;
  std::span<const PageId> pages;         // cover the positions; must stay until the step has run
  size_t n_wanted = 0;                   // last tokens whose output of the model is wanted
  bool writes = true;                    // false: the positions are in the cache already
  const AdapterView* adapter = nullptr;  // of the wanted rows; must stay until the step has run
};

// Thread safety: none. Memory is taken by make(); a step allocates nothing. The weights must outlive it.
class Runner {
 public:
  struct Options {
    size_t max_rows = 512;     // of a step
    size_t max_parts = 8;      // sequences in a step
    size_t max_wanted = 8;     // rows whose output is wanted
    size_t max_positions = 0;  // longest sequence
    size_t n_pages = 0;
    KvType kv_type = KvType::kF16;
    bool exact = false;  // f32 activations instead of int8
  };
  static Result<Runner> make(const Ctx& ctx, const Weights& weights, const Options& options);

  const Options& options() const { return options_; }
  const Ctx& ctx() const { return ctx_; }
  const Weights& weights() const { return *weights_; }
  KvPool& kv() { return kv_; }
  Workspace& workspace() { return workspace_; }  // idle between steps

  // A step is begun, gets its parts, and is run. *Requires*: at most max_rows rows, max_parts
  // parts and max_wanted rows that are wanted.
  void begin();
  void add(const StepPart& part);
  size_t n_rows() const { return rows_.n_rows(); }

  // Makes room for the residual stream of wanted rows after these layers (ascending; none: no taps). Between
  // steps. Error: memory.exhausted.
  Result<void> set_tap_layers(std::vector<int> layers);
  std::span<const int> tap_layers() const { return tap_layers_; }

  // `form` is kLogits, or kBest if no wanted row is needed in full. never_best: ascending, tokens kBest
  // leaves out. With `taps` the wanted rows' residual streams are kept, too.
  void run(RowOutput form, std::span<const TokenId> never_best, bool taps = false);

  // Of the i-th row that was wanted; valid until the next run().
  std::span<const float> logits(size_t i) const;  // (n_logits)
  const BestLogit& best(size_t i) const { return best_[i]; }
  // After tap_layers()[l], if the step had taps.
  std::span<const float> tap(size_t l, size_t i) const;  // (d_model)

 private:
  Runner(const Ctx& ctx, const Weights& weights, const Options& options, KvPool kv, Workspace workspace,
         AlignedBuffer<float> logits);

  Ctx ctx_;
  const Weights* weights_;
  Options options_;
  KvPool kv_;
  Workspace workspace_;
  AlignedBuffer<float> logits_;  // (max_wanted, n_logits)
  std::vector<BestLogit> best_;  // (max_wanted)
  std::vector<int> tap_layers_;
  AlignedBuffer<float> taps_;  // (tap_layers, max_wanted, d_model), packed to the step's wanted rows
  StepRows rows_;
  size_t n_wanted_ = 0;  // in the step
};

}  // namespace ruvltra
