// Everything one forward pass may read and write. Built by whoever schedules; the forward pass keeps no
// state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/adapter.h"
#include "model/kv_pool.h"
#include "ops/greedy.h"
#include "ruvltra/types.h"

namespace ruvltra {

// What is wanted of a row after the last layer.
enum class RowOutput : uint8_t {
  kNone,
  kLogits,  // (n_logits) logits
  kHidden,  // (d_model) the normalised hidden state, adapter included, the output matrix is applied to
  kBest,    // the likeliest token alone; rows of both forms in one step read the output matrix twice
};

// One sequence in a step. Pages in order: pages[p] holds positions 64 p .. 64 p + 63.
struct StepSequence {
  std::span<const PageId> pages;
  const AdapterView* adapter = nullptr;  // of its wanted rows; null: none
};

// n rows; row t is token tokens[t] at positions[t] of sequences[seq_of[t]].
// *Requires*: token ids < n_vocab; rows of one sequence are adjacent and have ascending positions; the pages
// of a sequence cover every position up to its rows' own, and all those were written before or are written in
// this step.
struct StepInput {
  std::span<const TokenId> tokens;         // (n)
  std::span<const int32_t> positions;      // (n)
  std::span<const int32_t> seq_of;         // (n)
  std::span<const KvSlot> kv_slots;        // (n)
  std::span<const RowOutput> rows_wanted;  // (n)
  std::span<const StepSequence> sequences;
  std::span<const TokenId> never_best;  // ascending; tokens that kBest leaves out
  std::span<const int> tap_layers;      // ascending; residual stream after these layers
  bool tap_wanted_rows = false;         // taps of wanted rows alone, packed like their outputs
  int stop_after_layer = -1;            // >= 0: run no further and give taps only (no row may be wanted)

  size_t n_tokens() const { return tokens.size(); }
};

// Filled by the forward pass; the caller owns the memory. Wanted rows are packed in ascending t. In a trimmed
// draft the tokens of logits, of never_best and of BestLogit are rows of its head: Weights::head_ids.
struct StepOutput {
  std::span<float> logits = {};    // (rows wanting logits, n_logits)
  std::span<float> hidden = {};    // (rows wanting hidden, d_model)
  std::span<float> taps = {};      // (tap_layers, n or wanted rows of any form, d_model)
  std::span<BestLogit> best = {};  // (rows wanting the best token); its row is the token
};

// Gathers the rows of a step, sequence by sequence. Thread safety: none.
class StepRows {
 public:
  // Later steps of at most so many rows and sequences allocate nothing.
  void reserve(size_t n_rows, size_t n_sequences);
  void clear();

  // Rows of one more sequence: `tokens` at first_position and on, none of them wanted. With `writes` their K
  // and V go to `pages`, else they are in the cache already. *Requires*: pages cover the positions and stay
  // until the step has run.
  void add(std::span<const TokenId> tokens, size_t first_position, std::span<const PageId> pages,
           bool writes = true, const AdapterView* adapter = nullptr);
  // What is wanted of the last n rows, or of all.
  void want_last(RowOutput form, size_t n = 1);
  void want_all(RowOutput form);
  // Rows wanted in one form become wanted in another.
  void change(RowOutput from, RowOutput to);

  size_t n_rows() const { return tokens_.size(); }
  size_t n_sequences() const { return sequences_.size(); }
  StepInput input() const;  // valid until the next change

 private:
  std::vector<TokenId> tokens_;
  std::vector<int32_t> positions_, seq_of_;
  std::vector<KvSlot> slots_;
  std::vector<RowOutput> wanted_;
  std::vector<StepSequence> sequences_;
};

// The plain way to build steps: one sequence that owns pages first_page, first_page + 1, ... of a pool.
class SingleSequence {
 public:
  SingleSequence(size_t first_page, size_t n_pages);
  // Of the rows appended from now on; must stay until their steps have run.
  void set_adapter(const AdapterView* adapter) { adapter_ = adapter; }

  size_t n_tokens() const { return n_tokens_; }
  size_t capacity() const { return pages_.size() * kPageTokens; }
  void truncate(size_t n_tokens);

  // Which rows of an appended chunk are wanted, all in the same form.
  enum class Rows { kNone, kLast, kAll };
  // The step that computes `tokens` at the next positions, and counts them. Valid until the next call.
  // *Requires*: n_tokens() + tokens.size() <= capacity().
  StepInput append(std::span<const TokenId> tokens, Rows rows, RowOutput form = RowOutput::kLogits);

 private:
  size_t n_tokens_ = 0;
  const AdapterView* adapter_ = nullptr;
  std::vector<PageId> pages_;
  StepRows rows_;
};

}  // namespace ruvltra
