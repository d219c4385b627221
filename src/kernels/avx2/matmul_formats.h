// The quantised formats in AVX2 registers: what one shared loop (matmul_quants.h) needs to know of each.
#pragma once

#include "kernels/avx2/matmul_walks.h"

namespace ruvltra {
namespace {

// K-group g (0..7, a constant) of a sub-block as bytes: unsigned levels, or signed ones in Q8_0.
RUVLTRA_INLINE __m256i nibbles_of(const uint8_t (&nibbles)[4][32], int g) {
  const __m256i bytes = load(nibbles[g % 4]);
  const __m256i mask = _mm256_set1_epi8(15);
  return _mm256_and_si256(g < 4 ? bytes : _mm256_srli_epi16(bytes, 4), mask);
}

RUVLTRA_INLINE __m256i k_group(const Nibbles& sub, int g) { return nibbles_of(sub.nibbles, g); }

RUVLTRA_INLINE __m256i k_group(const NibblesFifths& sub, int g) {
  const __m256i fifths = load(sub.fifths);
  const __m256i moved = g < 4 ? _mm256_slli_epi16(fifths, 4 - g) : _mm256_srli_epi16(fifths, g - 4);
  return _mm256_or_si256(nibbles_of(sub.nibbles, g), _mm256_and_si256(moved, _mm256_set1_epi8(16)));
}

RUVLTRA_INLINE __m256i k_group(const NibblesPairs& sub, int g) {
  const __m256i pairs = load(sub.pairs[g % 4 / 2]);
  const int shift = 2 * (g % 2 + g / 4 * 2) - 4;
  const __m256i moved = shift < 0 ? _mm256_slli_epi16(pairs, -shift) : _mm256_srli_epi16(pairs, shift);
  return _mm256_or_si256(nibbles_of(sub.nibbles, g), _mm256_and_si256(moved, _mm256_set1_epi8(48)));
}

RUVLTRA_INLINE __m256i k_group(const Bytes& sub, int g) { return load(sub.bytes[g]); }

// Scale of half `half` (k-groups 0..3, 4..7) of sub-block s: the same int16 twice per lane, as vpmaddwd wants
// it.
RUVLTRA_INLINE __m256i scale_of(const HeaderScalesMins& header, size_t s, int) {
  const __m256i spread = _mm256_setr_epi8(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1,  //
                                          4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
  return _mm256_shuffle_epi8(broadcast8(header.scale[s]), spread);
}

RUVLTRA_INLINE __m256i scale_pair_of(const HeaderScales16& header, size_t s) {
  return _mm256_cvtepi8_epi16(load16(header.scale[s]));
}

RUVLTRA_INLINE __m256i scale_of(const HeaderScales16& header, size_t s, int half) {
  const __m256i first = _mm256_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13,  //
                                         0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
  const __m256i second = _mm256_setr_epi8(2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15,  //
                                          2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15);
  return _mm256_shuffle_epi8(scale_pair_of(header, s), half == 0 ? first : second);
}

RUVLTRA_INLINE __m256i scale_of(const HeaderD&, size_t, int) { return _mm256_set1_epi16(1); }
RUVLTRA_INLINE __m256i scale_of(const HeaderDM&, size_t, int) { return _mm256_set1_epi16(1); }

// kProductsPerSum: how many vpmaddubsw results one int16 sum can hold (docs/kernels.md section 4).
template <class LayoutType, int kProductsPerSumValue, int kOffsetValue, bool kSignedValue = false>
struct QuantFormat {
  using Layout = LayoutType;
  using Header = typename Layout::Header;
  using SubBlock = typename Layout::SubBlock;
  static constexpr int kProductsPerSum = kProductsPerSumValue;
  static constexpr int kOffset = kOffsetValue;  // weight = scale * (level - offset)
  static constexpr bool kSigned = kSignedValue;
  static constexpr bool kHasScales = Layout::kBlock == 256;
  static constexpr bool kHasMins = __is_same(Header, HeaderScalesMins);
  static constexpr bool kHasM = __is_same(Header, HeaderDM);
  // Scales per block and row, and pairs of factors that meet block sums.
  static constexpr size_t kScales = __is_same(Header, HeaderScales16) ? 16 : kHasScales ? 8 : 0;
  static constexpr size_t kPairs = kScales / 2;
};
using Q4_0 = QuantFormat<LayoutQ4_0, 8, 8>;
using Q5_0 = QuantFormat<LayoutQ5_0, 4, 16>;
using Q5_1 = QuantFormat<LayoutQ5_1, 4, 0>;
using Q8_0 = QuantFormat<LayoutQ8_0, 1, 0, true>;
using Q4_K = QuantFormat<LayoutQ4_K, 8, 0>;
using Q5_K = QuantFormat<LayoutQ5_K, 4, 0>;
using Q6_K = QuantFormat<LayoutQ6_K, 2, 32>;

// The largest level and activation must fit: every int16 lane gets two products per vpmaddubsw.
template <class Format>
constexpr bool sums_fit(int max_level) {
  return Format::kProductsPerSum * 2 * max_level * 127 <= 32767;
}
static_assert(sums_fit<Q4_0>(15) && sums_fit<Q5_0>(31) && sums_fit<Q5_1>(31) && sums_fit<Q8_0>(128));
static_assert(sums_fit<Q4_K>(15) && sums_fit<Q5_K>(31) && sums_fit<Q6_K>(63));

// What a block says of itself, packed or unpacked: k-groups, scales, int16 factors of block sums (what isum
// has too much under an offset, or the mins), f32 factors.
template <class Format>
using PackedRows = PackedBlock<Format, 1>;

template <class Format>
RUVLTRA_INLINE __m256i levels(const PackedRows<Format>& w, size_t s, int g) {
  return k_group(w.sub[0][s], g);
}
template <class Format>
RUVLTRA_INLINE __m256i magnitudes(const PackedRows<Format>& w, size_t s, int g) {
  return Format::kSigned ? _mm256_abs_epi8(levels(w, s, g)) : levels(w, s, g);
}
template <class Format>
RUVLTRA_INLINE __m256i scale(const PackedRows<Format>& w, size_t s, int half) {
  return scale_of(*w.header[0], s, half);
}
RUVLTRA_INLINE __m256i factors(const PackedRows<Q6_K>& w, size_t i) {
  return _mm256_mullo_epi16(scale_pair_of(*w.header[0], i), _mm256_set1_epi16(-Q6_K::kOffset));
}
template <class Format>
RUVLTRA_INLINE __m256i factors(const PackedRows<Format>& w, size_t i) {
  return _mm256_cvtepu8_epi16(load16(w.header[0]->min[i]));
}
template <class Format>
RUVLTRA_INLINE __m256 scale_d(const PackedRows<Format>& w) {
  return load_halves(w.header[0]->d);
}
template <class Format>
RUVLTRA_INLINE __m256 scale_m(const PackedRows<Format>& w) {
  if constexpr (Format::kHasMins) {
    return load_halves(w.header[0]->dmin);
  } else {
    return load_halves(w.header[0]->m);
  }
}

template <size_t kScales, size_t kPairs>
struct UnpackedScales {
  __m256i scale[kScales];
  __m256i factor[kPairs];
};
template <>
struct UnpackedScales<0, 0> {};

template <bool kSigned>
struct UnpackedLevels {
  __m256i level[8];
};
template <>
struct UnpackedLevels<true> {
  __m256i level[8];
  __m256i magnitude[8];
};

template <class Format>
struct UnpackedBlock : UnpackedScales<Format::kScales, Format::kPairs> {
  UnpackedLevels<Format::kSigned> sub[Format::Layout::kSubBlocks];
  __m256 d;
  __m256 m;
};

template <class Format>
RUVLTRA_INLINE __m256i levels(const UnpackedBlock<Format>& w, size_t s, int g) {
  return w.sub[s].level[g];
}
template <class Format>
RUVLTRA_INLINE __m256i magnitudes(const UnpackedBlock<Format>& w, size_t s, int g) {
  if constexpr (Format::kSigned) {
    return w.sub[s].magnitude[g];
  } else {
    return w.sub[s].level[g];
  }
}
template <class Format>
RUVLTRA_INLINE __m256i scale(const UnpackedBlock<Format>& w, size_t s, int half) {
  if constexpr (!Format::kHasScales) {
    return _mm256_set1_epi16(1);
  } else {
    return w.scale[s * (Format::kScales / 8) + (Format::kScales == 16 ? static_cast<size_t>(half) : 0)];
  }
}
template <class Format>
RUVLTRA_INLINE __m256i factors(const UnpackedBlock<Format>& w, size_t i) {
  return w.factor[i];
}
template <class Format>
RUVLTRA_INLINE __m256 scale_d(const UnpackedBlock<Format>& w) {
  return w.d;
}
template <class Format>
RUVLTRA_INLINE __m256 scale_m(const UnpackedBlock<Format>& w) {
  return w.m;
}

template <class Format>
RUVLTRA_INLINE void unpack(const PackedRows<Format>& packed, UnpackedBlock<Format>& block) {
  for (size_t s = 0; s < Format::Layout::kSubBlocks; ++s) {
    RUVLTRA_UNROLL
    for (int g = 0; g < 8; ++g) {
      block.sub[s].level[g] = levels(packed, s, g);
      if constexpr (Format::kSigned) block.sub[s].magnitude[g] = magnitudes(packed, s, g);
    }
  }
  if constexpr (Format::kHasScales) {
    constexpr size_t kPerSubBlock = Format::kScales / 8;
    for (size_t s = 0; s < 8; ++s) {
      block.scale[s * kPerSubBlock] = scale(packed, s, 0);
      if constexpr (kPerSubBlock == 2) block.scale[2 * s + 1] = scale(packed, s, 1);
    }
  }
  if constexpr (Format::kHasMins || (Format::kHasScales && Format::kOffset != 0)) {
    for (size_t i = 0; i < Format::kPairs; ++i) block.factor[i] = factors(packed, i);
  }
  block.d = scale_d(packed);
  if constexpr (Format::kHasMins || Format::kHasM) block.m = scale_m(packed);
}

}  // namespace
}  // namespace ruvltra
