// The quantised formats with vpmaddubsw: it adds two products as int16, and one int16 sum holds
// kProductsPerSum of its results. One lane per row; the walks are those of matmul_walks.h. The exact walk
// (f32 activations) stands below.
#pragma once

#include "kernels/avx2/matmul_formats.h"

namespace ruvltra {
namespace {

// K-groups in the order they are multiplied: those that share packed bytes are near each other, and each run
// of kProductsPerSum has one scale.
constexpr int kOrder[8] = {0, 1, 4, 5, 2, 3, 6, 7};

// 16 sums of two products.
template <class Format>
RUVLTRA_INLINE __m256i multiply(__m256i level, __m256i magnitude, __m256i activations) {
  return _mm256_maddubs_epi16(magnitude,
                              Format::kSigned ? _mm256_sign_epi8(activations, level) : activations);
}

// isum += scale * (levels . activations) of sub-block s, for kRegisters x kColumns.
template <class Format, int kRegisters, int kColumns, class Weights>
RUVLTRA_INLINE void add_sub_block(const Weights* w, const ActivationBlock<kColumns>& a, size_t s,
                                  __m256i (&isum)[kRegisters][kColumns]) {
  constexpr int kRun = Format::kProductsPerSum;
  __m256i sum[kRegisters][kColumns];
  RUVLTRA_UNROLL
  for (int i = 0; i < 8; ++i) {
    const int g = kOrder[i];
    __m256i level[kRegisters], magnitude[kRegisters];
    RUVLTRA_UNROLL
    for (int r = 0; r < kRegisters; ++r) {
      level[r] = levels(w[r], s, g);
      magnitude[r] = magnitudes(w[r], s, g);
    }
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const __m256i activations = broadcast4(a.q[c] + 32 * s + 4 * g);
      RUVLTRA_UNROLL
      for (int r = 0; r < kRegisters; ++r) {
        const __m256i products = multiply<Format>(level[r], magnitude[r], activations);
        if constexpr (kRun == 1) {
          isum[r][c] = _mm256_add_epi32(isum[r][c], _mm256_madd_epi16(products, scale(w[r], s, g / 4)));
        } else {
          sum[r][c] = i % kRun == 0 ? products : _mm256_add_epi16(sum[r][c], products);
        }
      }
    }
    if (kRun == 1 || i % kRun != kRun - 1) continue;
    RUVLTRA_UNROLL
    for (int r = 0; r < kRegisters; ++r) {
      const __m256i scale_of_run = scale(w[r], s, g / 4);
      RUVLTRA_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        isum[r][c] = _mm256_add_epi32(isum[r][c], _mm256_madd_epi16(sum[r][c], scale_of_run));
      }
    }
  }
}

struct Avx2 {
  using Ints = __m256i;
  using Floats = __m256;
  template <class Format>
  using UnpackedBlock = ::ruvltra::UnpackedBlock<Format>;
  template <class Weights>
  static constexpr bool kSignedLevels = false;

  static constexpr size_t kPanels = 1;            // per register
  static constexpr size_t kMaxDirectColumns = 6;  // 6 int16 and 6 int32 sums leave 4 of 16 registers
  static constexpr size_t kMaxTileColumns = 3;    // times 2 registers of rows
  static constexpr size_t kUnpackedFrom = 32;     // columns
  static constexpr size_t kColumnBlock = 96;      // columns whose activations stay in L2 while panels pass
  static constexpr size_t kChunk = 1024;          // k unpacked at once

  static RUVLTRA_INLINE Ints all(int32_t value) { return _mm256_set1_epi32(value); }
  static RUVLTRA_INLINE Floats all(float value) { return _mm256_set1_ps(value); }
  template <class T>
  static RUVLTRA_INLINE Ints broadcast4(const T* bytes) {
    return ::ruvltra::broadcast4(bytes);
  }
  static RUVLTRA_INLINE Ints add_pairs(Ints sum, Ints a, Ints b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
  }
  static RUVLTRA_INLINE Floats to_floats(Ints x) { return _mm256_cvtepi32_ps(x); }
  static RUVLTRA_INLINE Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static RUVLTRA_INLINE Floats add_product(Floats a, Floats b, Floats sum) {
    return _mm256_fmadd_ps(a, b, sum);
  }
  static RUVLTRA_INLINE Floats subtract_product(Floats a, Floats b, Floats sum) {
    return _mm256_fnmadd_ps(a, b, sum);
  }
  static RUVLTRA_INLINE void store(const MatmulArgs& args, size_t panel, size_t c, Floats acc) {
    store_rows(args, panel, c, acc);
  }
};

// Byte i of every lane's k-group as a float, offset removed.
template <class Format>
RUVLTRA_INLINE __m256 level(__m256i group, int i) {
  if constexpr (Format::kSigned) {
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(group, 24 - 8 * i), 24));
  } else {
    const __m256i byte = _mm256_and_si256(_mm256_srli_epi32(group, 8 * i), _mm256_set1_epi32(255));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(byte, _mm256_set1_epi32(Format::kOffset)));
  }
}

// The lower int16 of every lane as a float.
RUVLTRA_INLINE __m256 low_half(__m256i pairs) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(pairs, 16), 16));
}

template <class Format>
RUVLTRA_INLINE __m256 min_of(const typename Format::Header& header, size_t s) {
  if constexpr (Format::kHasMins) {
    const __m256i pair = _mm256_cvtepu8_epi16(load16(header.min[s / 2]));
    const __m256 min = low_half(s % 2 == 0 ? pair : _mm256_srli_epi32(pair, 16));
    return _mm256_mul_ps(load_halves(header.dmin), min);
  } else if constexpr (Format::kHasM) {
    return _mm256_sub_ps(_mm256_setzero_ps(), load_halves(header.m));
  } else {
    return _mm256_setzero_ps();
  }
}

template <class Format, int kColumns>
void exact_columns(const MatmulArgs& args, size_t panel, size_t c0) {
  constexpr size_t kBlock = Format::Layout::kBlock;
  const size_t k = args.w.k;
  const Panel<Format> w = panel_at<Format>(args.w, panel);
  __m256 acc[kColumns];
  RUVLTRA_UNROLL
  for (int c = 0; c < kColumns; ++c) acc[c] = _mm256_setzero_ps();
  for (size_t b = 0; b < k / kBlock; ++b) {
    const typename Format::Header& header = w.headers[b];
    for (size_t s = 0; s < Format::Layout::kSubBlocks; ++s) {
      const __m256 min = min_of<Format>(header, s);
      const float* x = args.a.x + c0 * k + b * kBlock + 32 * s;
      RUVLTRA_UNROLL
      for (int g = 0; g < 8; ++g) {
        const __m256 scale = _mm256_mul_ps(load_halves(header.d), low_half(scale_of(header, s, g / 4)));
        const __m256i group = k_group(w.quants[b].sub[s], g);
        RUVLTRA_UNROLL
        for (int i = 0; i < 4; ++i) {
          __m256 weight = _mm256_mul_ps(scale, level<Format>(group, i));
          if constexpr (Format::kHasMins || Format::kHasM) weight = _mm256_sub_ps(weight, min);
          RUVLTRA_UNROLL
          for (int c = 0; c < kColumns; ++c) {
            acc[c] = _mm256_fmadd_ps(
                weight, _mm256_set1_ps(x[static_cast<size_t>(c) * k + static_cast<size_t>(4 * g + i)]),
                acc[c]);
          }
        }
      }
    }
  }
  RUVLTRA_UNROLL
  for (int c = 0; c < kColumns; ++c) store_rows(args, panel, c0 + static_cast<size_t>(c), acc[c]);
}

template <class Format>
void matmul_exact(const MatmulArgs& args) {
  for (size_t panel = args.panel_begin; panel < args.panel_end; ++panel) {
    size_t c = 0;
    for (; c + 4 <= args.a.n_cols; c += 4) exact_columns<Format, 4>(args, panel, c);
    for (; c < args.a.n_cols; ++c) exact_columns<Format, 1>(args, panel, c);
  }
}

template <class Format>
void fill_format(MatmulKernels& kernels, WeightKind kind) {
  kernels.quantized[static_cast<size_t>(kind)] = matmul_quants<Avx2, Format>;
  kernels.exact[static_cast<size_t>(kind)] = matmul_exact<Format>;
}

}  // namespace
}  // namespace ruvltra
