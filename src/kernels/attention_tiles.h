// The register tiles of attention, written once for every vector unit. An ISA folder describes its vectors:
//   Type, kLanes (at most 16), kTileRows (rows of a tile of two vectors), zero, set, load, load_first
//   (lanes >= n are -inf), store, add, sub, mul, fma (a * b + c), max, exp (of x <= 0), sum (lane i + i +
//   half, then halves again), largest.
// Every accumulator is one chain of docs/kernels.md section 8, so tiles of any shape give the same bits.
#pragma once

#include <math.h>

#include "kernels/attention.h"

namespace ruvltra {
namespace {

template <class V>
struct AttentionTiles {
  using Vector = typename V::Type;
  static constexpr size_t kPageVectors = kPageTokens / V::kLanes;
  template <size_t n>
  struct Rows {};

  // The head size: a constant for usual ones, so that rows lie at constant distances. 0 = as the page says.
  template <size_t kHead>
  static size_t head_size(const AttentionPage& page) {
    return kHead != 0 ? kHead : page.d_head;
  }

  // Calls tile(Rows<n>, row) for blocks of at most kTileRows rows, the last ones about equal.
  template <class Tile>
  static void for_row_blocks(size_t n_rows, Tile&& tile) {
    for (size_t row = 0; row < n_rows;) {
      const size_t left = n_rows - row;
      const size_t n = left <= V::kTileRows ? left : left < V::kTileRows + 3 ? (left + 1) / 2 : V::kTileRows;
      call_with_rows<V::kTileRows>(n, row, tile);
      row += n;
    }
  }
  template <size_t kRows, class Tile>
  static void call_with_rows(size_t n, size_t row, Tile&& tile) {
    if constexpr (kRows > 0) {
      if (n == kRows) return tile(Rows<kRows>(), row);
      call_with_rows<kRows - 1>(n, row, tile);
    }
  }

  // Fetches what will be read next in step with a plane's values: a tile that begins at value `begin` and
  // takes `n` of them per step fetches the same share.
  class Ahead {
   public:
    Ahead(const AttentionPage& page, size_t begin, size_t n)
        : step_(n * page.ahead_bytes / (page.d_head * kPageTokens)),
          next_(reinterpret_cast<const char*>(page.p)) {
      if (page.ahead_bytes > 0) {
        next_ = reinterpret_cast<const char*>(page.ahead) +
                begin * page.ahead_bytes / (page.d_head * kPageTokens);
      }
    }
    void fetch() {
      __builtin_prefetch(next_, 0, 2);
      next_ += step_;
    }

   private:
    size_t step_;
    const char* next_;
  };

  // Scores of kRows rows against kVectors vectors of tokens.
  template <size_t kHead, size_t kRows, size_t kVectors>
  static void score_tile(const AttentionPage& page, size_t row, size_t token) {
    const size_t d_head = head_size<kHead>(page);
    Ahead ahead(page, token * d_head, kVectors * V::kLanes);
    const float* q = page.q + row * d_head;
    const float* k = page.k + token;
    Vector sum[kRows][kVectors];
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kVectors; ++v) sum[r][v] = V::zero();
    }
    for (size_t d = 0; d < d_head; ++d, k += kPageTokens) {
      ahead.fetch();
      Vector key[kVectors];
      for (size_t v = 0; v < kVectors; ++v) key[v] = V::load(k + v * V::kLanes);
      for (size_t r = 0; r < kRows; ++r) {
        const Vector qd = V::set(q[r * d_head + d]);
        for (size_t v = 0; v < kVectors; ++v) sum[r][v] = V::fma(key[v], qd, sum[r][v]);
      }
    }
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kVectors; ++v)
        V::store(page.p + (row + r) * kPageTokens + token + v * V::kLanes, sum[r][v]);
    }
  }

  // A slice of the keys stays in the first cache while all rows pass by.
  template <size_t kHead>
  static void score_page(const AttentionPage& page) {
    if (page.n_rows < 3) {
      for (size_t row = 0; row < page.n_rows; ++row) score_tile<kHead, 1, kPageVectors>(page, row, 0);
      return;
    }
    for (size_t token = 0; token < kPageTokens; token += 2 * V::kLanes) {
      for_row_blocks(page.n_rows, [&]<size_t kRows>(Rows<kRows>, size_t row) {
        score_tile<kHead, kRows, 2>(page, row, token);
      });
    }
  }

  static void score(const AttentionPage& page) {
    if (page.d_head == 128) return score_page<128>(page);
    if (page.d_head == 64) return score_page<64>(page);
    score_page<0>(page);
  }

  // Largest visible score of a row, or m if that is larger.
  static float new_maximum(const float* score, int32_t n_visible, float m) {
    Vector largest = V::load_first(score, n_visible);
    for (size_t v = 1; v < kPageVectors; ++v) {
      const auto first = static_cast<int32_t>(v * V::kLanes);
      largest = V::max(largest, V::load_first(score + first, n_visible - first));
    }
    const float page_max = V::largest(largest);
    return m > page_max ? m : page_max;
  }

  // Weights of a row in place of its scores; returns their sum.
  static float weigh_row(float* score, int32_t n_visible, float m) {
    const Vector offset = V::set(m);
    Vector p[kPageVectors];
    for (size_t v = 0; v < kPageVectors; ++v) {
      const auto first = static_cast<int32_t>(v * V::kLanes);
      p[v] = V::exp(V::sub(V::load_first(score + first, n_visible - first), offset));
      V::store(score + first, p[v]);
    }
    for (size_t half = kPageVectors / 2; half > 0; half /= 2) {
      for (size_t v = 0; v < half; ++v) p[v] = V::add(p[v], p[v + half]);
    }
    return V::sum(p[0]);
  }

  static void weigh(const AttentionPage& page) {
    const AttentionState& state = page.state;
    for (size_t begin = 0; begin < page.n_rows; begin += V::kLanes) {
      const size_t left = page.n_rows - begin;
      const size_t n = left < V::kLanes ? left : V::kLanes;
      float change[V::kLanes] = {};
      for (size_t i = 0; i < n; ++i) {
        const size_t row = begin + i;
        const float m = new_maximum(page.p + row * kPageTokens, page.n_visible[row], state.m[row]);
        change[i] = state.m[row] - m;
        state.m[row] = m;
      }
      float alpha[V::kLanes];
      V::store(alpha, V::exp(V::load(change)));
      for (size_t i = 0; i < n; ++i) {
        const size_t row = begin + i;
        page.alpha[row] = alpha[i];
        const float sum = weigh_row(page.p + row * kPageTokens, page.n_visible[row], state.m[row]);
        state.l[row] = state.l[row] * alpha[i] + sum;
      }
    }
  }

  // Weighted values of kRows rows and kVectors vectors of dimensions.
  template <size_t kHead, size_t kRows, size_t kVectors>
  static void value_tile(const AttentionPage& page, size_t row, size_t dim) {
    const size_t d_head = head_size<kHead>(page);
    Ahead ahead(page, dim * kPageTokens, kVectors * V::kLanes);
    float* o = page.state.o + row * d_head + dim;
    const float* p = page.p + row * kPageTokens;
    const float* v_row = page.v + dim;
    Vector sum[kRows][kVectors];
    for (size_t r = 0; r < kRows; ++r) {
      const Vector alpha = V::set(page.alpha[row + r]);
      for (size_t v = 0; v < kVectors; ++v)
        sum[r][v] = V::mul(V::load(o + r * d_head + v * V::kLanes), alpha);
    }
    for (size_t t = 0; t < kPageTokens; ++t, v_row += d_head) {
      ahead.fetch();
      Vector value[kVectors];
      for (size_t v = 0; v < kVectors; ++v) value[v] = V::load(v_row + v * V::kLanes);
      for (size_t r = 0; r < kRows; ++r) {
        const Vector weight = V::set(p[r * kPageTokens + t]);
        for (size_t v = 0; v < kVectors; ++v) sum[r][v] = V::fma(weight, value[v], sum[r][v]);
      }
    }
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kVectors; ++v) V::store(o + r * d_head + v * V::kLanes, sum[r][v]);
    }
  }

  // Dimensions that do not fill a vector.
  static void value_tail(const AttentionPage& page, size_t row, size_t dim) {
    const float* p = page.p + row * kPageTokens;
    for (; dim < page.d_head; ++dim) {
      float& o = page.state.o[row * page.d_head + dim];
      float sum = o * page.alpha[row];
      for (size_t t = 0; t < kPageTokens; ++t) sum = fmaf(p[t], page.v[t * page.d_head + dim], sum);
      o = sum;
    }
  }

  template <size_t kHead>
  static void add_page_values(const AttentionPage& page) {
    const size_t d_head = head_size<kHead>(page);
    size_t dim = 0;
    for (; page.n_rows < 3 && dim + kPageTokens <= d_head; dim += kPageTokens) {
      for (size_t row = 0; row < page.n_rows; ++row) value_tile<kHead, 1, kPageVectors>(page, row, dim);
    }
    for (; dim + 2 * V::kLanes <= d_head; dim += 2 * V::kLanes) {
      for_row_blocks(page.n_rows, [&]<size_t kRows>(Rows<kRows>, size_t row) {
        value_tile<kHead, kRows, 2>(page, row, dim);
      });
    }
    for (; dim + V::kLanes <= d_head; dim += V::kLanes) {
      for (size_t row = 0; row < page.n_rows; ++row) value_tile<kHead, 1, 1>(page, row, dim);
    }
    for (size_t row = 0; row < page.n_rows; ++row) value_tail(page, row, dim);
  }

  static void add_values(const AttentionPage& page) {
    if (page.d_head == 128) return add_page_values<128>(page);
    if (page.d_head == 64) return add_page_values<64>(page);
    add_page_values<0>(page);
  }
};

}  // namespace
}  // namespace ruvltra
