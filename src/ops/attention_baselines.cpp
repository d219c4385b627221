#include "ops/attention_baselines.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace ruvltra {
namespace {

constexpr size_t kBlockRows = 64;
constexpr size_t kTileFloats = kBlockRows * kPageTokens;  // scores of a block of rows and a page

size_t align16(size_t n) { return (n + 15) / 16 * 16; }
size_t count(size_t n, size_t per_block) { return (n + per_block - 1) / per_block; }

size_t local_floats(const AttentionInput& input) {
  const size_t d = align16(input.kv.d_head);
  // Two planes, queries and o of a block, p, alpha; m and l of all rows.
  return 2 * kPageTokens * d + 2 * kBlockRows * d + kTileFloats + kBlockRows +
         2 * align16(std::max(input.n_tokens, kBlockRows));
}

size_t score_floats(AttentionMethod method, const AttentionInput& input) {
  const size_t n_pages = count(input.n_tokens, kPageTokens);
  if (method == AttentionMethod::kTextbook) return count(input.n_tokens, kBlockRows) * n_pages * kTileFloats;
  return method == AttentionMethod::kBlocked ? n_pages * kTileFloats : 0;
}

AttentionScratch::Options flash_options(const AttentionInput& input, int n_threads) {
  return {n_threads, input.n_heads, input.kv.n_kv_heads, input.kv.d_head, input.n_tokens, input.n_tokens};
}

void page_to_f32(const AttentionKernels& kernels, const KvLayerView& kv, const uint8_t* plane, float* y) {
  kernels.from_f16(reinterpret_cast<const uint16_t*>(plane), y, kv.d_head * kPageTokens);
}

int32_t visible_slots(size_t position, size_t page) {
  const auto seen = static_cast<int64_t>(position) + 1 - static_cast<int64_t>(page * kPageTokens);
  return static_cast<int32_t>(std::clamp<int64_t>(seen, 0, kPageTokens));
}

// Largest of the first n; sixteen lanes, which a compiler turns into vectors.
float largest(const float* x, size_t n, float start) {
  float lane[16];
  std::fill_n(lane, 16, start);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (size_t j = 0; j < 16; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
  }
  for (; i < n; ++i) lane[0] = std::max(lane[0], x[i]);
  return *std::max_element(lane, lane + 16);
}

}  // namespace

struct AttentionBaseline::Local {
  float *k, *v;  // one page in f32
  float* q;      // (64, d_head), scaled
  float* o;      // (64, d_head)
  float* p;      // (64, 64)
  float* alpha;  // (64)
  float *m, *l;  // (n_tokens)
};

AttentionBaseline::AttentionBaseline(const Ctx& ctx, AttentionMethod method, const AttentionInput& input)
    : ctx_(ctx), method_(method), input_(input), positions_(input.n_tokens) {
  std::iota(positions_.begin(), positions_.end(), 0);
}

Result<AttentionBaseline> AttentionBaseline::make(const Ctx& ctx, AttentionMethod method,
                                                  const AttentionInput& input) {
  AttentionBaseline made(ctx, method, input);
  const auto n_threads = static_cast<size_t>(ctx.pool->n_threads());
  if (method == AttentionMethod::kFlash) {
    const auto options = flash_options(input, ctx.pool->n_threads());
    ASSIGN_OR_RETURN(made.flash_scratch_, AttentionScratch::make(options));
    return made;
  }
  ASSIGN_OR_RETURN(made.threads_, AlignedBuffer<float>::make(n_threads * local_floats(input)));
  ASSIGN_OR_RETURN(made.scores_, AlignedBuffer<float>::make(n_threads * score_floats(method, input)));
  std::fill_n(made.scores_.data(), made.scores_.size(), 0.0f);
  return made;
}

uint64_t AttentionBaseline::bytes_needed(AttentionMethod method, const AttentionInput& input, int n_threads) {
  if (method == AttentionMethod::kFlash)
    return AttentionScratch::bytes_needed(flash_options(input, n_threads));
  return static_cast<uint64_t>(n_threads) * sizeof(float) *
         (local_floats(input) + score_floats(method, input));
}

AttentionBaseline::Local AttentionBaseline::local(int thread) {
  const size_t d = align16(input_.kv.d_head);
  Local l;
  l.k = threads_.data() + static_cast<size_t>(thread) * local_floats(input_);
  l.v = l.k + kPageTokens * d;
  l.q = l.v + kPageTokens * d;
  l.o = l.q + kBlockRows * d;
  l.p = l.o + kBlockRows * d;
  l.alpha = l.p + kTileFloats;
  l.m = l.alpha + kBlockRows;
  l.l = l.m + align16(std::max(input_.n_tokens, kBlockRows));
  return l;
}

void AttentionBaseline::run(float* out) {
  const size_t n_blocks = count(input_.n_tokens, kBlockRows);
  switch (method_) {
    case AttentionMethod::kTextbook:
      ctx_.pool->parallel_for(input_.n_heads,
                              [&](size_t head, int thread) { textbook_head(head, thread, out); });
      break;
    case AttentionMethod::kBlocked:
      ctx_.pool->parallel_for(input_.n_heads * n_blocks, [&](size_t task, int thread) {
        blocked_rows(task / n_blocks, task % n_blocks, thread, out);
      });
      break;
    case AttentionMethod::kFlashUnskipped: {
      const size_t n_tiles = count(input_.n_tokens, kBlockRows / group());
      ctx_.pool->parallel_for(input_.kv.n_kv_heads * n_tiles, [&](size_t task, int thread) {
        unskipped_tile(task / n_tiles, task % n_tiles, thread, out);
      });
      break;
    }
    default:
      flash(out);
  }
}

void AttentionBaseline::flash(float* out) {
  const AttentionSequence sequence{0, input_.n_tokens, input_.pages};
  attention(ctx_, input_.kv, {&sequence, 1}, positions_, input_.q, input_.n_heads, out, flash_scratch_);
}

// S = Q K^T of rows [64 block, ...), page after page.
void AttentionBaseline::score_rows(const Local& local, size_t head, size_t block, size_t n_pages,
                                   float* scores) const {
  const size_t d_head = input_.kv.d_head;
  const size_t n_rows = std::min(kBlockRows, input_.n_tokens - block * kBlockRows);
  const float scale = 1.0f / std::sqrt(static_cast<float>(d_head));
  for (size_t row = 0; row < n_rows; ++row) {
    const float* q = input_.q + ((block * kBlockRows + row) * input_.n_heads + head) * d_head;
    for (size_t d = 0; d < d_head; ++d) local.q[row * d_head + d] = q[d] * scale;
  }
  for (size_t page = 0; page < n_pages; ++page) {
    page_to_f32(ctx_.kernels->attention, input_.kv, input_.kv.k(input_.pages[page], head / group()), local.k);
    AttentionPage rows;
    rows.k = local.k;
    rows.d_head = d_head;
    rows.q = local.q;
    rows.n_rows = n_rows;
    rows.p = scores + page * kTileFloats;
    rows.ahead = input_.kv.k(input_.pages[std::min(page + 1, n_pages - 1)], head / group());
    rows.ahead_bytes = input_.kv.plane_bytes;
    ctx_.kernels->attention.score(rows);
  }
}

// P = exp(S - row maximum) where visible, else 0; the row sums in l.
void AttentionBaseline::softmax_rows(const Local& local, size_t block, size_t n_pages, float* scores) const {
  const size_t first = block * kBlockRows;
  const size_t n_rows = std::min(kBlockRows, input_.n_tokens - first);
  for (size_t row = 0; row < n_rows; ++row) {
    float m = -std::numeric_limits<float>::infinity();
    for (size_t page = 0; page < n_pages; ++page) {
      const auto n_visible = static_cast<size_t>(visible_slots(first + row, page));
      m = largest(scores + page * kTileFloats + row * kPageTokens, n_visible, m);
    }
    local.m[first + row] = m;
    local.l[first + row] = 0;
  }
  for (size_t page = 0; page < n_pages; ++page) {
    int32_t n_visible[kBlockRows];
    for (size_t row = 0; row < n_rows; ++row) n_visible[row] = visible_slots(first + row, page);
    AttentionPage rows;
    rows.n_visible = n_visible;
    rows.n_rows = n_rows;
    rows.p = scores + page * kTileFloats;
    rows.alpha = local.alpha;
    rows.state = {local.m + first, local.l + first, nullptr};
    ctx_.kernels->attention.weigh(rows);
  }
}

// O = P V / l.
void AttentionBaseline::add_value_rows(const Local& local, size_t head, size_t block, size_t n_pages,
                                       float* scores, float* out) const {
  const size_t d_head = input_.kv.d_head;
  const size_t first = block * kBlockRows;
  const size_t n_rows = std::min(kBlockRows, input_.n_tokens - first);
  std::fill_n(local.alpha, n_rows, 1.0f);
  std::fill_n(local.o, n_rows * d_head, 0.0f);
  for (size_t page = 0; page < n_pages; ++page) {
    page_to_f32(ctx_.kernels->attention, input_.kv, input_.kv.v(input_.pages[page], head / group()), local.v);
    AttentionPage rows;
    rows.v = local.v;
    rows.d_head = d_head;
    rows.n_rows = n_rows;
    rows.p = scores + page * kTileFloats;
    rows.alpha = local.alpha;
    rows.state.o = local.o;
    rows.ahead = input_.kv.v(input_.pages[std::min(page + 1, n_pages - 1)], head / group());
    rows.ahead_bytes = input_.kv.plane_bytes;
    ctx_.kernels->attention.add_values(rows);
  }
  for (size_t row = 0; row < n_rows; ++row) {
    ctx_.kernels->attention.finish(local.o + row * d_head, local.l[first + row],
                                   out + ((first + row) * input_.n_heads + head) * d_head, d_head);
  }
}

void AttentionBaseline::textbook_head(size_t head, int thread, float* out) {
  const Local mine = local(thread);
  const size_t n_blocks = count(input_.n_tokens, kBlockRows);
  const size_t n_pages = count(input_.n_tokens, kPageTokens);
  float* scores = scores_.data() + static_cast<size_t>(thread) * score_floats(method_, input_);
  const auto of_block = [&](size_t block) { return scores + block * n_pages * kTileFloats; };
  for (size_t block = 0; block < n_blocks; ++block) score_rows(mine, head, block, n_pages, of_block(block));
  for (size_t block = 0; block < n_blocks; ++block) softmax_rows(mine, block, n_pages, of_block(block));
  for (size_t block = 0; block < n_blocks; ++block)
    add_value_rows(mine, head, block, n_pages, of_block(block), out);
}

void AttentionBaseline::blocked_rows(size_t head, size_t block, int thread, float* out) {
  const Local mine = local(thread);
  float* scores = scores_.data() + static_cast<size_t>(thread) * score_floats(method_, input_);
  const size_t n_seen = std::min((block + 1) * kBlockRows, input_.n_tokens);
  const size_t n_pages = count(n_seen, kPageTokens);
  score_rows(mine, head, block, n_pages, scores);
  softmax_rows(mine, block, n_pages, scores);
  add_value_rows(mine, head, block, n_pages, scores, out);
}

void AttentionBaseline::unskipped_tile(size_t kv_head, size_t tile, int thread, float* out) {
  const Local mine = local(thread);
  const size_t d_head = input_.kv.d_head;
  const size_t first = tile * (kBlockRows / group());
  const size_t n_rows = std::min(kBlockRows / group(), input_.n_tokens - first) * group();
  const float scale = 1.0f / std::sqrt(static_cast<float>(d_head));
  const auto row_at = [&](size_t row) {
    return ((first + row / group()) * input_.n_heads + kv_head * group() + row % group()) * d_head;
  };
  for (size_t row = 0; row < n_rows; ++row) {
    for (size_t d = 0; d < d_head; ++d) mine.q[row * d_head + d] = input_.q[row_at(row) + d] * scale;
  }
  std::fill_n(mine.m, n_rows, -std::numeric_limits<float>::infinity());
  std::fill_n(mine.l, n_rows, 0.0f);
  std::fill_n(mine.o, n_rows * d_head, 0.0f);
  const size_t n_pages = count(input_.n_tokens, kPageTokens);
  for (size_t page = 0; page < n_pages; ++page) {
    page_to_f32(ctx_.kernels->attention, input_.kv, input_.kv.k(input_.pages[page], kv_head), mine.k);
    page_to_f32(ctx_.kernels->attention, input_.kv, input_.kv.v(input_.pages[page], kv_head), mine.v);
    int32_t n_visible[kBlockRows];
    for (size_t row = 0; row < n_rows; ++row) n_visible[row] = visible_slots(first + row / group(), page);
    AttentionPage rows;
    rows.k = mine.k;
    rows.v = mine.v;
    rows.d_head = d_head;
    rows.q = mine.q;
    rows.n_visible = n_visible;
    rows.n_rows = n_rows;
    rows.p = mine.p;
    rows.alpha = mine.alpha;
    rows.state = {mine.m, mine.l, mine.o};
    rows.ahead = input_.kv.k(input_.pages[std::min(page + 1, n_pages - 1)], kv_head);
    rows.ahead_bytes = input_.kv.plane_bytes;
    ctx_.kernels->attention.score(rows);
    ctx_.kernels->attention.weigh(rows);
    ctx_.kernels->attention.add_values(rows);
  }
  for (size_t row = 0; row < n_rows; ++row)
    ctx_.kernels->attention.finish(mine.o + row * d_head, mine.l[row], out + row_at(row), d_head);
}

void naive_attention(const Ctx& ctx, const AttentionInput& input, const float* k, const float* v,
                     size_t first, size_t step, float* out) {
  const size_t d_head = input.kv.d_head;
  const size_t group = input.n_heads / input.kv.n_kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d_head));
  const size_t n_rows = input.n_tokens > first ? count(input.n_tokens - first, step) : 0;
  ctx.pool->parallel_for(n_rows, [&](size_t index, int) {
    const size_t token = first + index * step;
    std::vector<float> p(token + 1);
    for (size_t head = 0; head < input.n_heads; ++head) {
      const float* q = input.q + (token * input.n_heads + head) * d_head;
      float* o = out + (token * input.n_heads + head) * d_head;
      float m = -std::numeric_limits<float>::infinity();
      for (size_t s = 0; s <= token; ++s) {
        const float* key = k + (s * input.kv.n_kv_heads + head / group) * d_head;
        float sum = 0;
        for (size_t d = 0; d < d_head; ++d) sum += q[d] * key[d];
        p[s] = sum * scale;
        m = std::max(m, p[s]);
      }
      float total = 0;
      for (float& weight : p) total += weight = std::exp(weight - m);
      std::fill_n(o, d_head, 0.0f);
      for (size_t s = 0; s <= token; ++s) {
        const float* value = v + (s * input.kv.n_kv_heads + head / group) * d_head;
        for (size_t d = 0; d < d_head; ++d) o[d] += p[s] / total * value[d];
      }
    }
  });
}

}  // namespace ruvltra
