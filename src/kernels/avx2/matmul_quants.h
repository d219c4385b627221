// The shared loop of the quantised formats: one lane per row, exact integers inside a block, one fma per
// block and lane. Three walks use it: direct (few columns, weights unpacked in registers), unpacked (many
// columns, weights unpacked once into bytes), exact (f32 activations).
#pragma once

#include "kernels/avx2/matmul_formats.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxDirectColumns =
    6;  // 6 int16 and 6 int32 sums, weights, broadcast, mask, spare: 16 registers
constexpr size_t kUnpackedFrom = 16;  // columns
constexpr size_t kTilePanels = 2;
constexpr size_t kColumnBlock = 96;  // columns whose activations stay in L2 while panels pass
constexpr size_t kChunk = 1024;      // k unpacked at once: 16 KiB per tile

// K-groups in the order they are multiplied: those that share packed bytes are near each other, and each run
// of kProductsPerSum has one scale.
constexpr int kOrder[8] = {0, 1, 4, 5, 2, 3, 6, 7};

// Block b of some panel: its header, and its sub-blocks packed or unpacked.
template <class Format, class SubBlockType>
struct WeightBlock {
  using SubBlock = SubBlockType;
  const typename Format::Header* header;
  const SubBlock* sub;
};

// Block b of kColumns activation rows.
template <int kColumns>
struct ActivationBlock {
  const int8_t* q[kColumns];
  const int16_t* sum16[kColumns];
  const int16_t* sum32[kColumns];
  float d[kColumns];
};

template <class Format, int kColumns>
RUVLTRA_INLINE ActivationBlock<kColumns> activation_block(const ActivationView& a, size_t k, size_t c0,
                                                          size_t b) {
  constexpr size_t kBlock = Format::Layout::kBlock;
  ActivationBlock<kColumns> block;
  RUVLTRA_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const size_t begin = (c0 + static_cast<size_t>(c)) * k + b * kBlock;
    block.q[c] = a.q + begin;
    block.sum16[c] = a.sum16 + (Format::kHasScales ? begin / 16 : 0);
    block.sum32[c] = a.sum32 + begin / 32;
    block.d[c] = a.d[begin / kBlock];
  }
  return block;
}

// 16 sums of two products.
template <class Format>
RUVLTRA_INLINE __m256i multiply(__m256i weights, __m256i activations) {
  if constexpr (Format::kSigned) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(activations, weights));
  } else {
    return _mm256_maddubs_epi16(weights, activations);
  }
}

// isum += scale * (levels . activations) of sub-block s, for kPanels x kColumns.
template <class Format, int kPanels, int kColumns, class Weights>
RUVLTRA_INLINE void add_sub_block(const Weights (&w)[kPanels], const ActivationBlock<kColumns>& a, size_t s,
                                  __m256i (&isum)[kPanels][kColumns]) {
  constexpr int kRun = Format::kProductsPerSum;
  __m256i sum[kPanels][kColumns];
  RUVLTRA_UNROLL
  for (int i = 0; i < 8; ++i) {
    const int g = kOrder[i];
    __m256i levels[kPanels];
    RUVLTRA_UNROLL
    for (int p = 0; p < kPanels; ++p) levels[p] = k_group(w[p].sub[s], g);
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const __m256i activations = broadcast4(a.q[c] + 32 * s + 4 * g);
      RUVLTRA_UNROLL
      for (int p = 0; p < kPanels; ++p) {
        const __m256i products = multiply<Format>(levels[p], activations);
        sum[p][c] = i % kRun == 0 ? products : _mm256_add_epi16(sum[p][c], products);
      }
    }
    if (i % kRun != kRun - 1) continue;
    RUVLTRA_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      const __m256i scale = scale_of(*w[p].header, s, g / 4);
      RUVLTRA_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        isum[p][c] = _mm256_add_epi32(isum[p][c], _mm256_madd_epi16(sum[p][c], scale));
      }
    }
  }
}

// offset * sum_j scale_j * (block sum j): what unsigned levels have too much.
template <class Format>
RUVLTRA_INLINE __m256i offset_sum(const typename Format::Header& header, const int16_t* sum16,
                                  const int16_t* sum32) {
  if constexpr (Format::kHasScales) {
    __m256i sum = _mm256_setzero_si256();
    RUVLTRA_UNROLL
    for (size_t s = 0; s < 8; ++s) {
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(scale_pair_of(header, s), broadcast4(sum16 + 2 * s)));
    }
    return _mm256_mullo_epi32(sum, _mm256_set1_epi32(Format::kOffset));
  } else {
    return _mm256_set1_epi32(Format::kOffset * sum32[0]);
  }
}

RUVLTRA_INLINE __m256i min_sum(const HeaderScalesMins& header, const int16_t* sum32) {
  __m256i sum = _mm256_setzero_si256();
  RUVLTRA_UNROLL
  for (size_t pair = 0; pair < 4; ++pair) {
    const __m256i mins = _mm256_cvtepu8_epi16(load16(header.min[pair]));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(mins, broadcast4(sum32 + 2 * pair)));
  }
  return sum;
}

// The f32 step of one block: acc for one panel and column.
template <class Format>
RUVLTRA_INLINE __m256 scale_and_add(const typename Format::Header& header, __m256i isum, const int16_t* sum16,
                                    const int16_t* sum32, float d, __m256 acc) {
  if constexpr (Format::kOffset != 0) isum = _mm256_sub_epi32(isum, offset_sum<Format>(header, sum16, sum32));
  const __m256 d_a = _mm256_set1_ps(d);
  acc = _mm256_fmadd_ps(_mm256_mul_ps(d_a, load_halves(header.d)), _mm256_cvtepi32_ps(isum), acc);
  if constexpr (Format::kHasMins) {
    const __m256 msum = _mm256_cvtepi32_ps(min_sum(header, sum32));
    acc = _mm256_fnmadd_ps(_mm256_mul_ps(d_a, load_halves(header.dmin)), msum, acc);
  }
  if constexpr (Format::kHasM) {
    const __m256 block_sum = _mm256_set1_ps(static_cast<float>(sum32[0]));
    acc = _mm256_fmadd_ps(_mm256_mul_ps(d_a, load_halves(header.m)), block_sum, acc);
  }
  return acc;
}

template <class Format, int kPanels, int kColumns, class Weights>
RUVLTRA_INLINE void add_block(const Weights (&w)[kPanels], const ActivationBlock<kColumns>& a,
                              __m256 (&acc)[kPanels][kColumns]) {
  __m256i isum[kPanels][kColumns];
  RUVLTRA_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) isum[p][c] = _mm256_setzero_si256();
  }
  for (size_t s = 0; s < Format::Layout::kSubBlocks; ++s) {
    add_sub_block<Format, kPanels, kColumns>(w, a, s, isum);
    if constexpr (__is_same(typename Weights::SubBlock, typename Format::Layout::SubBlock)) {
      RUVLTRA_UNROLL
      for (size_t line = 0; line < sizeof *w[0].sub; line += 64)
        prefetch(w[0].sub + s, kPrefetchBytes + line);
    }
  }
  RUVLTRA_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      acc[p][c] = scale_and_add<Format>(*w[p].header, isum[p][c], a.sum16[c], a.sum32[c], a.d[c], acc[p][c]);
    }
  }
}

// A panel's two strips.
template <class Format>
struct Panel {
  const typename Format::Header* headers;
  const typename Format::Layout::Quants* quants;
};

template <class Format>
RUVLTRA_INLINE Panel<Format> panel_at(const PanelView& w, size_t panel) {
  const uint8_t* data = w.data + panel * w.panel_bytes;
  const void* headers = data;
  const void* quants = data + quant_offset(block_of<typename Format::Layout>(), w.k);
  return {static_cast<const typename Format::Header*>(headers),
          static_cast<const typename Format::Layout::Quants*>(quants)};
}

template <class Format, int kColumns>
void direct_columns(const MatmulArgs& args, size_t panel, size_t c0) {
  using Weights = WeightBlock<Format, typename Format::Layout::SubBlock>;
  const Panel<Format> w = panel_at<Format>(args.w, panel);
  __m256 acc[1][kColumns];
  RUVLTRA_UNROLL
  for (int c = 0; c < kColumns; ++c) acc[0][c] = _mm256_setzero_ps();
  for (size_t b = 0; b < args.w.k / Format::Layout::kBlock; ++b) {
    const Weights block[1] = {{w.headers + b, w.quants[b].sub}};
    add_block<Format, 1, kColumns>(block, activation_block<Format, kColumns>(args.a, args.w.k, c0, b), acc);
  }
  RUVLTRA_UNROLL
  for (int c = 0; c < kColumns; ++c) store_rows(args, panel, c0 + static_cast<size_t>(c), acc[0][c]);
}

template <class Format>
void direct(const MatmulArgs& args) {
  const size_t n_groups = (args.a.n_cols + kMaxDirectColumns - 1) / kMaxDirectColumns;
  for (size_t panel = args.panel_begin; panel < args.panel_end; ++panel) {
    size_t c = 0;
    for (size_t group = 0; group < n_groups; ++group) {
      const size_t left = args.a.n_cols - c;
      const size_t n = (left + n_groups - group - 1) / (n_groups - group);
      switch (n) {
        case 1:
          direct_columns<Format, 1>(args, panel, c);
          break;
        case 2:
          direct_columns<Format, 2>(args, panel, c);
          break;
        case 3:
          direct_columns<Format, 3>(args, panel, c);
          break;
        case 4:
          direct_columns<Format, 4>(args, panel, c);
          break;
        case 5:
          direct_columns<Format, 5>(args, panel, c);
          break;
        default:
          direct_columns<Format, 6>(args, panel, c);
          break;
      }
      c += n;
    }
  }
}

// Blocks [b0, b0 + n_blocks) of kPanels panels as bytes, and the f32 sums of a column block so far.
template <class Format>
struct UnpackedChunk {
  static constexpr size_t kBlocks = kChunk / Format::Layout::kBlock;
  UnpackedSubBlock sub[kTilePanels][kBlocks][Format::Layout::kSubBlocks];
};

template <class Format, int kPanels, int kColumns>
void unpacked_tile(const MatmulArgs& args, const UnpackedChunk<Format>& chunk, size_t panel, size_t b0,
                   size_t n_blocks, size_t c0, __m256 (*sums)[kTilePanels]) {
  using Weights = WeightBlock<Format, UnpackedSubBlock>;
  __m256 acc[kPanels][kColumns];
  RUVLTRA_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) acc[p][c] = sums[c][p];
  }
  for (size_t i = 0; i < n_blocks; ++i) {
    Weights block[kPanels];
    RUVLTRA_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      block[p] = {panel_at<Format>(args.w, panel + static_cast<size_t>(p)).headers + b0 + i, chunk.sub[p][i]};
    }
    add_block<Format, kPanels, kColumns>(
        block, activation_block<Format, kColumns>(args.a, args.w.k, c0, b0 + i), acc);
  }
  RUVLTRA_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    RUVLTRA_UNROLL
    for (int c = 0; c < kColumns; ++c) sums[c][p] = acc[p][c];
  }
}

template <class Format>
void unpack_chunk(const PanelView& w, size_t panel, int n_panels, size_t b0, size_t n_blocks,
                  UnpackedChunk<Format>& chunk) {
  for (int p = 0; p < n_panels; ++p) {
    const Panel<Format> packed = panel_at<Format>(w, panel + static_cast<size_t>(p));
    for (size_t i = 0; i < n_blocks; ++i) {
      for (size_t s = 0; s < Format::Layout::kSubBlocks; ++s) {
        RUVLTRA_UNROLL
        for (int g = 0; g < 8; ++g) chunk.sub[p][i][s].groups[g] = k_group(packed.quants[b0 + i].sub[s], g);
        // The next chunk arrives while this one is multiplied.
        RUVLTRA_UNROLL
        for (size_t line = 0; line < sizeof packed.quants->sub[s]; line += 64) {
          prefetch(packed.quants[b0 + i].sub + s, chunk.kBlocks * sizeof *packed.quants + line);
        }
      }
    }
  }
}

template <class Format, int kPanels>
void unpacked_panels(const MatmulArgs& args, size_t panel, size_t c0, size_t n_cols) {
  const size_t n_blocks = args.w.k / Format::Layout::kBlock;
  UnpackedChunk<Format> chunk;
  __m256 sums[kColumnBlock][kTilePanels];
  for (size_t c = 0; c < n_cols; ++c) sums[c][0] = sums[c][1] = _mm256_setzero_ps();
  for (size_t b0 = 0; b0 < n_blocks; b0 += chunk.kBlocks) {
    const size_t n = n_blocks - b0 < chunk.kBlocks ? n_blocks - b0 : chunk.kBlocks;
    unpack_chunk<Format>(args.w, panel, kPanels, b0, n, chunk);
    for (size_t c = 0; c < n_cols;) {
      const size_t left = n_cols - c;
      if (left >= 3 && left != 4) {
        unpacked_tile<Format, kPanels, 3>(args, chunk, panel, b0, n, c0 + c, sums + c);
        c += 3;
      } else if (left >= 2) {
        unpacked_tile<Format, kPanels, 2>(args, chunk, panel, b0, n, c0 + c, sums + c);
        c += 2;
      } else {
        unpacked_tile<Format, kPanels, 1>(args, chunk, panel, b0, n, c0 + c, sums + c);
        c += 1;
      }
    }
  }
  for (size_t c = 0; c < n_cols; ++c) {
    for (size_t p = 0; p < kPanels; ++p) store_rows(args, panel + p, c0 + c, sums[c][p]);
  }
}

template <class Format>
void unpacked(const MatmulArgs& args) {
  for (size_t c0 = 0; c0 < args.a.n_cols; c0 += kColumnBlock) {
    const size_t n_cols = args.a.n_cols - c0 < kColumnBlock ? args.a.n_cols - c0 : kColumnBlock;
    size_t panel = args.panel_begin;
    for (; panel + kTilePanels <= args.panel_end; panel += kTilePanels) {
      unpacked_panels<Format, kTilePanels>(args, panel, c0, n_cols);
    }
    if (panel < args.panel_end) unpacked_panels<Format, 1>(args, panel, c0, n_cols);
  }
}

template <class Format>
void matmul_quants(const MatmulArgs& args) {
  if (args.a.n_cols < kUnpackedFrom) {
    direct<Format>(args);
  } else {
    unpacked<Format>(args);
  }
}

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
  kernels.quantized[static_cast<size_t>(kind)] = matmul_quants<Format>;
  kernels.exact[static_cast<size_t>(kind)] = matmul_exact<Format>;
}

}  // namespace
}  // namespace ruvltra
