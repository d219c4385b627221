// The attention of ops/attention.h computed in plainer ways, to measure it against. All of them give the same
// values up to rounding; none is used by the model.
#pragma once

#include <span>

#include "ops/attention.h"

namespace ruvltra {

enum class AttentionMethod {
  kFlash,           // ops/attention.h itself
  kFlashUnskipped,  // the same recurrence over every page, wholly masked ones too
  kBlocked,         // B1: 64 rows x their visible pages of scores, then softmax, then values; masked blocks
                    // are skipped
  kTextbook,        // B0: all n x n scores of a head, then softmax, then values; nothing is skipped
  kNaive,           // a loop over tokens and a loop over earlier tokens, plain scalar code on f32 arrays
};

// A sequence of n_tokens rows at positions 0, 1, ...
struct AttentionInput {
  KvLayerView kv;
  std::span<const PageId> pages;
  const float* q = nullptr;  // (n_tokens, n_heads * d_head)
  size_t n_tokens = 0;
  size_t n_heads = 0;
};

// Every method but the naive one. All but kFlash are walked by the row kernels of ctx.
class AttentionBaseline {
 public:
  // Memory is touched here, so that the first run is like the others. Error: memory.exhausted.
  static Result<AttentionBaseline> make(const Ctx& ctx, AttentionMethod method, const AttentionInput& input);
  // What make() will take: the scores of one head per thread for kTextbook.
  static uint64_t bytes_needed(AttentionMethod method, const AttentionInput& input, int n_threads);

  void run(float* out);  // (n_tokens, n_heads * d_head)

 private:
  struct Local;
  AttentionBaseline(const Ctx& ctx, AttentionMethod method, const AttentionInput& input);
  Local local(int thread);
  size_t group() const { return input_.n_heads / input_.kv.n_kv_heads; }

  void textbook_head(size_t head, int thread, float* out);
  void blocked_rows(size_t head, size_t block, int thread, float* out);
  void unskipped_tile(size_t kv_head, size_t tile, int thread, float* out);
  void flash(float* out);

  void score_rows(const Local& local, size_t head, size_t block, size_t n_pages, float* scores) const;
  void softmax_rows(const Local& local, size_t block, size_t n_pages, float* scores) const;
  void add_value_rows(const Local& local, size_t head, size_t block, size_t n_pages, float* scores,
                      float* out) const;

  Ctx ctx_;
  AttentionMethod method_;
  AttentionInput input_;
  AlignedBuffer<float> threads_;  // (n_threads, local floats)
  AlignedBuffer<float> scores_;   // (n_threads, scores of a head or of a block of rows)
  AttentionScratch flash_scratch_;
  std::vector<int32_t> positions_;
};

// Rows first, first + step, ...: out (n_tokens, n_heads * d_head) from k and v (n_tokens, n_kv_heads *
// d_head).
void naive_attention(const Ctx& ctx, const AttentionInput& input, const float* k, const float* v,
                     size_t first, size_t step, float* out);

}  // namespace ruvltra
