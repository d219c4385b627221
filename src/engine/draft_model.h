// A small model that runs ahead of a large one: it reads the same text with KV pages of its own and proposes
// how it goes on. What it says is never more than a guess that the large model's own samples confirm or
// refuse.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "engine/lookahead.h"
#include "engine/page_manager.h"
#include "engine/runner.h"
#include "text/tokenizer.h"

namespace ruvltra {

// Thread safety: none; the engine's loop thread owns it. Memory is taken by make() and open(): a step
// allocates nothing. The weights must outlive it.
class DraftModel {
 public:
  struct Options {
    size_t max_sequences = 8;  // in a step
    size_t max_positions = 0;  // read of one sequence, at least kLeastPositions; older text is forgotten
    size_t n_pages = 0;
    size_t n_target_vocab = 0;  // no id beyond is proposed
    KvType kv_type = KvType::kF16;
    float temperature = 0;  // 0: the likeliest token is proposed, else one is drawn
  };
  static constexpr size_t kMaxRows =
      256;  // of a step, beside one for each sequence: texts are read in chunks
  static constexpr size_t kLeastPositions = 2 * kMaxDraft;  // some text, and the proposals after it
  // `unused`: tokens that are never proposed. Errors: memory.exhausted, kv.head_size.
  static Result<DraftModel> make(const Ctx& ctx, const Weights& weights, std::span<const TokenId> unused,
                                 const Options& options);

  // What it has read of one sequence.
  struct Context {
    PageTable table;
    size_t first = 0;             // the sequence's position that is the table's position 0
    size_t n_text = 0;            // tokens of the sequence when it last drafted
    std::vector<TokenId> beyond;  // its own proposals that it has read since
  };
  Context open(TenantId tenant) const;
  void close(Context& context) { pages_.release(context.table); }

  // Forgets what is not so in `text`. With more than `window` unread tokens it starts anew with the last
  // `window`, and with the last half of what it may read where the text outgrows that.
  void catch_up(Context& context, std::span<const TokenId> text, size_t window);
  size_t n_unread(const Context& context, size_t n_text) const {
    return n_text - context.first - context.table.n_tokens;
  }

  // One step over several contexts: each reads the next tokens. False, and nothing happens, if rows or pages
  // are lacking.
  void begin();
  size_t rows_left() const { return runner_.options().max_rows - runner_.n_rows(); }
  bool add(Context& context, std::span<const TokenId> tokens, bool wants_proposal);
  size_t n_rows() const { return runner_.n_rows(); }
  void run();

  struct Proposal {
    TokenId token = -1;      // -1: there is none
    double probability = 0;  // at temperature 1, among the tokens it may propose
  };
  // After the tokens of the i-th context that wanted one. u: a random number in [0, 1), used above
  // temperature 0.
  Proposal proposal(size_t i, double u) const;

 private:
  DraftModel(Runner runner, const Options& options, std::vector<TokenId> ids, std::vector<float> mask);

  Options options_;
  Runner runner_;
  PageManager pages_;
  std::vector<TokenId> ids_;  // of the head's rows
  std::vector<float> mask_;   // (rows of the head) 0, or minus infinity: never proposed
  std::vector<PageWork> work_;
  std::vector<TokenId> read_;    // by the context that was added last
  std::vector<Context*> parts_;  // of the step
  std::vector<size_t> n_new_;    // tokens they read
};

// Whether proposals of one model mean the same to another: every id stands for the same token in both, or for
// none in the one that knows it. Error: draft.vocabulary (usage) naming the first id that differs.
Result<void> check_draft(const Tokenizer& target, const Tokenizer& draft, std::string_view draft_name);

}  // namespace ruvltra
