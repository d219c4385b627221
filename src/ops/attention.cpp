#include "ops/attention.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace ruvltra {
namespace {

// A tile converts a page to f32 once for all its rows.
constexpr size_t kTileRows = 128;
constexpr size_t kMaxGroup = 256;
constexpr size_t kSplitPositions = kSplitPages * kPageTokens;
// Steps of up to this many rows may walk the splits of a sequence in parallel.
constexpr size_t kMaxSplitTokens = 16;

size_t align16(size_t n) { return (n + 15) / 16 * 16; }

size_t tile_tokens(const AttentionScratch::Options& o) {
  return std::max<size_t>(1, kTileRows / (o.n_heads / o.n_kv_heads));
}
size_t tile_rows(const AttentionScratch::Options& o) { return tile_tokens(o) * (o.n_heads / o.n_kv_heads); }

// m, l and o of n_rows rows, one after the other.
size_t state_floats(size_t n_rows, size_t d_head) { return 2 * align16(n_rows) + n_rows * align16(d_head); }
AttentionState state_at(float* base, size_t n_rows) {
  return {base, base + align16(n_rows), base + 2 * align16(n_rows)};
}

size_t thread_floats(const AttentionScratch::Options& o) {
  const size_t rows = tile_rows(o);
  return align16(o.d_head * kPageTokens) + align16(rows * o.d_head) + rows * kPageTokens + align16(rows) +
         2 * align16(state_floats(rows, o.d_head));
}

size_t max_splits(const AttentionScratch::Options& o) {
  return (o.max_positions + kSplitPositions - 1) / kSplitPositions;
}

// Splits are walked in parallel only in small steps with fewer tasks than this.
size_t few_tasks(int n_threads) { return 2 * static_cast<size_t>(n_threads); }
size_t partial_rows(const AttentionScratch::Options& o) {
  return std::min(tile_rows(o), kMaxSplitTokens * (o.n_heads / o.n_kv_heads));
}
size_t partial_floats(const AttentionScratch::Options& o) {
  const size_t n_tasks = std::min(few_tasks(o.n_threads), kMaxSplitTokens * o.n_kv_heads);
  return n_tasks * max_splits(o) * align16(state_floats(partial_rows(o), o.d_head));
}

}  // namespace

Result<AttentionScratch> AttentionScratch::make(const Options& options) {
  CHECK(options.n_kv_heads > 0 && options.n_heads % options.n_kv_heads == 0);
  CHECK(options.n_heads / options.n_kv_heads <= kMaxGroup);
  AttentionScratch scratch;
  scratch.options_ = options;
  const size_t n_threads = static_cast<size_t>(options.n_threads);
  ASSIGN_OR_RETURN(scratch.threads_, AlignedBuffer<float>::make(n_threads * thread_floats(options)));
  ASSIGN_OR_RETURN(scratch.partial_, AlignedBuffer<float>::make(partial_floats(options)));
  scratch.tiles_.reserve(options.max_tokens);
  return scratch;
}

uint64_t AttentionScratch::bytes_needed(const Options& options) {
  return sizeof(float) *
             (static_cast<uint64_t>(options.n_threads) * thread_floats(options) + partial_floats(options)) +
         options.max_tokens * sizeof(Tile);
}

// One call of attention(): the work of (tile, KV head) pairs, with splits walked in order or in parallel.
class AttentionRun {
 public:
  AttentionRun(const Ctx& ctx, const KvLayerView& kv, std::span<const int32_t> positions, const float* q,
               size_t n_heads, float* out, AttentionScratch& scratch)
      : ctx_(ctx),
        kv_(kv),
        positions_(positions),
        q_(q),
        n_heads_(n_heads),
        group_(n_heads / kv.n_kv_heads),
        out_(out),
        scratch_(scratch),
        state_stride_(align16(state_floats(tile_rows(scratch.options_), kv.d_head))),
        scale_(1.0f / std::sqrt(static_cast<float>(kv.d_head))) {}

  void run(std::span<const AttentionSequence> sequences) {
    size_t n_tokens = 0;
    size_t n_splits = 1;
    scratch_.tiles_.clear();
    for (const AttentionSequence& sequence : sequences) {
      for (size_t begin = 0; begin < sequence.n_rows; begin += tile_tokens(scratch_.options_)) {
        const size_t n_rows = std::min(tile_tokens(scratch_.options_), sequence.n_rows - begin);
        scratch_.tiles_.push_back({sequence.first_row + begin, n_rows, sequence.pages.data()});
        n_splits = std::max(n_splits, splits_of(scratch_.tiles_.back()));
      }
      n_tokens += sequence.n_rows;
    }
    const size_t n_tasks = scratch_.tiles_.size() * kv_.n_kv_heads;
    if (n_tasks < few_tasks(ctx_.pool->n_threads()) && n_splits > 1 && n_tokens <= kMaxSplitTokens) {
      run_splits_in_parallel(n_tasks, n_splits);
    } else {
      ctx_.pool->parallel_for(n_tasks, [&](size_t task, int thread) { walk_splits(task, thread); });
    }
  }

 private:
  using Tile = AttentionScratch::Tile;

  // Slices of one thread's scratch memory.
  struct Local {
    float* plane;  // K or V of a page in f32: (d_head, 64) or (64, d_head)
    float* q;      // (tile rows, d_head), scaled
    float* p;      // (tile rows, 64)
    float* alpha;  // (tile rows)
    AttentionState state, split;
  };

  Local local(int thread) const {
    const size_t rows = tile_rows(scratch_.options_);
    float* base = scratch_.threads_.data() + static_cast<size_t>(thread) * thread_floats(scratch_.options_);
    Local l;
    l.plane = base;
    l.p = l.plane + align16(kv_.d_head * kPageTokens);
    l.q = l.p + rows * kPageTokens;
    l.alpha = l.q + align16(rows * kv_.d_head);
    float* states = l.alpha + align16(rows);
    l.state = state_at(states, rows);
    l.split = state_at(states + state_stride_, rows);
    return l;
  }

  const Tile& tile_of(size_t task) const { return scratch_.tiles_[task / kv_.n_kv_heads]; }
  size_t kv_head_of(size_t task) const { return task % kv_.n_kv_heads; }
  int32_t position(const Tile& tile, size_t row) const { return positions_[tile.first_row + row / group_]; }
  size_t splits_of(const Tile& tile) const {
    return static_cast<size_t>(positions_[tile.first_row + tile.n_rows - 1]) / kSplitPositions + 1;
  }
  // Rows ascend in position, so those that see a given position are the last ones.
  size_t first_row_seeing(const Tile& tile, size_t first_position) const {
    size_t token = 0;
    while (token < tile.n_rows && static_cast<size_t>(positions_[tile.first_row + token]) < first_position)
      ++token;
    return token * group_;
  }
  AttentionState rows_from(const AttentionState& state, size_t row) const {
    return {state.m + row, state.l + row, state.o + row * kv_.d_head};
  }

  // Rows (token, query head of the group) of a tile, scaled.
  void gather_queries(const Tile& tile, size_t kv_head, float* q) const {
    for (size_t token = 0; token < tile.n_rows; ++token) {
      const float* from = q_ + ((tile.first_row + token) * n_heads_ + kv_head * group_) * kv_.d_head;
      for (size_t i = 0; i < group_ * kv_.d_head; ++i) *q++ = from[i] * scale_;
    }
  }

  void fold_split(const Tile& tile, size_t kv_head, size_t split, const Local& local,
                  const AttentionState& state) const {
    const size_t n_rows = tile.n_rows * group_;
    std::fill_n(state.m, n_rows, -std::numeric_limits<float>::infinity());
    std::fill_n(state.l, n_rows, 0.0f);
    std::fill_n(state.o, n_rows * kv_.d_head, 0.0f);
    const size_t n_pages =
        static_cast<size_t>(positions_[tile.first_row + tile.n_rows - 1]) / kPageTokens + 1;
    int32_t n_visible[kMaxGroup > kTileRows ? kMaxGroup : kTileRows];
    for (size_t page = split * kSplitPages; page < (split + 1) * kSplitPages; ++page) {
      const size_t first = first_row_seeing(tile, page * kPageTokens);
      if (first == n_rows) return;
      for (size_t row = first; row < n_rows; ++row) {
        const int32_t seen = position(tile, row) + 1 - static_cast<int32_t>(page * kPageTokens);
        n_visible[row] = std::min(seen, static_cast<int32_t>(kPageTokens));
      }
      AttentionPage rows;
      rows.d_head = kv_.d_head;
      rows.q = local.q + first * kv_.d_head;
      rows.n_visible = n_visible + first;
      rows.n_rows = n_rows - first;
      rows.p = local.p;
      rows.alpha = local.alpha;
      rows.state = rows_from(state, first);
      rows.ahead_bytes = kv_.plane_bytes;
      const uint8_t* k = kv_.k(tile.pages[page], kv_head);
      const uint8_t* v = kv_.v(tile.pages[page], kv_head);
      rows.k = keys_f32(k, local.plane);
      rows.ahead = v;
      ctx_.kernels->attention.score(rows);
      ctx_.kernels->attention.weigh(rows);
      rows.v = values_f32(v, local.plane);
      rows.ahead = page + 1 < n_pages ? kv_.k(tile.pages[page + 1], kv_head) : v;
      ctx_.kernels->attention.add_values(rows);
    }
  }

  // A plane of a page in f32: in place, or converted to `buffer`.
  const float* keys_f32(const uint8_t* plane, float* buffer) const {
    if (kv_.type == KvType::kQ8_0) {
      ctx_.kernels->attention.keys_from_q8(reinterpret_cast<const int8_t*>(plane), scales(plane), buffer,
                                           kv_.d_head);
      return buffer;
    }
    return plain_f32(plane, buffer);
  }
  const float* values_f32(const uint8_t* plane, float* buffer) const {
    if (kv_.type == KvType::kQ8_0) {
      ctx_.kernels->attention.values_from_q8(reinterpret_cast<const int8_t*>(plane), scales(plane), buffer,
                                             kv_.d_head);
      return buffer;
    }
    return plain_f32(plane, buffer);
  }
  const float* plain_f32(const uint8_t* plane, float* buffer) const {
    if (kv_.type == KvType::kF32) return reinterpret_cast<const float*>(plane);
    ctx_.kernels->attention.from_f16(reinterpret_cast<const uint16_t*>(plane), buffer,
                                     kv_.d_head * kPageTokens);
    return buffer;
  }
  const uint16_t* scales(const uint8_t* plane) const {
    return reinterpret_cast<const uint16_t*>(plane + kv_.d_head * kPageTokens);
  }

  void merge(const Tile& tile, size_t split, const AttentionState& into, const AttentionState& from) const {
    const size_t first = first_row_seeing(tile, split * kSplitPositions);
    ctx_.kernels->attention.merge(rows_from(into, first), rows_from(from, first),
                                  tile.n_rows * group_ - first, kv_.d_head);
  }

  void finish(const Tile& tile, size_t kv_head, const AttentionState& state) const {
    for (size_t row = 0; row < tile.n_rows * group_; ++row) {
      const size_t token = tile.first_row + row / group_;
      const size_t head = kv_head * group_ + row % group_;
      ctx_.kernels->attention.finish(state.o + row * kv_.d_head, state.l[row],
                                     out_ + (token * n_heads_ + head) * kv_.d_head, kv_.d_head);
    }
  }

  void walk_splits(size_t task, int thread) const {
    const Tile& tile = tile_of(task);
    const size_t kv_head = kv_head_of(task);
    const Local mine = local(thread);
    gather_queries(tile, kv_head, mine.q);
    fold_split(tile, kv_head, 0, mine, mine.state);
    for (size_t split = 1; split < splits_of(tile); ++split) {
      fold_split(tile, kv_head, split, mine, mine.split);
      merge(tile, split, mine.state, mine.split);
    }
    finish(tile, kv_head, mine.state);
  }

  void run_splits_in_parallel(size_t n_tasks, size_t n_splits) const {
    const size_t n_rows = partial_rows(scratch_.options_);
    const size_t stride = align16(state_floats(n_rows, kv_.d_head));
    const auto partial = [&](size_t task, size_t split) {
      return state_at(scratch_.partial_.data() + (task * n_splits + split) * stride, n_rows);
    };
    CHECK(n_tasks * n_splits * stride <= scratch_.partial_.size());
    ctx_.pool->parallel_for(n_tasks * n_splits, [&](size_t index, int thread) {
      const size_t task = index / n_splits;
      const size_t split = index % n_splits;
      if (split >= splits_of(tile_of(task))) return;
      const Local mine = local(thread);
      gather_queries(tile_of(task), kv_head_of(task), mine.q);
      fold_split(tile_of(task), kv_head_of(task), split, mine, partial(task, split));
    });
    ctx_.pool->parallel_for(n_tasks, [&](size_t task, int) {
      const Tile& tile = tile_of(task);
      for (size_t split = 1; split < splits_of(tile); ++split)
        merge(tile, split, partial(task, 0), partial(task, split));
      finish(tile, kv_head_of(task), partial(task, 0));
    });
  }

  const Ctx& ctx_;
  const KvLayerView& kv_;
  std::span<const int32_t> positions_;
  const float* q_;
  size_t n_heads_;
  size_t group_;
  float* out_;
  AttentionScratch& scratch_;
  size_t state_stride_;
  float scale_;
};

void attention(const Ctx& ctx, const KvLayerView& kv, std::span<const AttentionSequence> sequences,
               std::span<const int32_t> positions, const float* q, size_t n_heads, float* out,
               AttentionScratch& scratch) {
  AttentionRun(ctx, kv, positions, q, n_heads, out, scratch).run(sequences);
}

}  // namespace ruvltra
