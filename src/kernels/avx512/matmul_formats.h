// The quantised formats in AVX-512 registers of 16 rows: what one shared loop (matmul_quants.h) needs to know
// of each, packed as in memory or unpacked beforehand.
#pragma once

#include "kernels/avx512/common.h"

namespace ruvltra {
namespace {

// K-group g (0..7, a constant) of a sub-block of two panels as unsigned bytes.
RUVLTRA_INLINE __m512i nibbles_of(const uint8_t (&first)[4][32], const uint8_t (&second)[4][32], int g) {
  const __m512i bytes = load_pair(first[g % 4], second[g % 4]);
  return _mm512_and_si512(g < 4 ? bytes : _mm512_srli_epi16(bytes, 4), _mm512_set1_epi8(15));
}

RUVLTRA_INLINE __m512i k_group(const Nibbles& first, const Nibbles& second, int g) {
  return nibbles_of(first.nibbles, second.nibbles, g);
}

// bits | (field & mask), field moved left by `shift` (right if negative).
RUVLTRA_INLINE __m512i or_field(__m512i bits, __m512i field, int shift, char mask) {
  const __m512i moved = shift >= 0 ? _mm512_slli_epi16(field, static_cast<unsigned>(shift))
                                   : _mm512_srli_epi16(field, static_cast<unsigned>(-shift));
  constexpr int kOrAnd = 0xf8;  // a | (b & c)
  return _mm512_ternarylogic_epi32(bits, moved, _mm512_set1_epi8(mask), kOrAnd);
}

RUVLTRA_INLINE __m512i k_group(const NibblesFifths& first, const NibblesFifths& second, int g) {
  const __m512i fifths = load_pair(first.fifths, second.fifths);
  return or_field(nibbles_of(first.nibbles, second.nibbles, g), fifths, 4 - g, 16);
}

RUVLTRA_INLINE __m512i k_group(const NibblesPairs& first, const NibblesPairs& second, int g) {
  const __m512i pairs = load_pair(first.pairs[g % 4 / 2], second.pairs[g % 4 / 2]);
  return or_field(nibbles_of(first.nibbles, second.nibbles, g), pairs, 4 - 2 * (g % 2 + g / 4 * 2), 48);
}

RUVLTRA_INLINE __m512i k_group(const Bytes& first, const Bytes& second, int g) {
  return _mm512_xor_si512(load_pair(first.bytes[g], second.bytes[g]), _mm512_set1_epi8(-128));
}

// kRun: k-groups under one scale. weight = scale * (level - kOffset).
template <class LayoutType, int kRunValue, int kOffsetValue>
struct QuantFormat {
  using Layout = LayoutType;
  using Header = typename Layout::Header;
  using SubBlock = typename Layout::SubBlock;
  static constexpr int kRun = kRunValue;
  static constexpr int kOffset = kOffsetValue;
  static constexpr bool kHasScales = Layout::kBlock == 256;
  static constexpr bool kHasMins = __is_same(Header, HeaderScalesMins);
  static constexpr bool kHasM = __is_same(Header, HeaderDM);
  static constexpr size_t kScales = kHasScales ? 64 / kRun : 0;   // per block and row
  static constexpr size_t kPairs = kHasScales ? kScales / 2 : 0;  // of factors that meet block sums
};
using Q4_0 = QuantFormat<LayoutQ4_0, 8, 8>;
using Q5_0 = QuantFormat<LayoutQ5_0, 8, 16>;
using Q5_1 = QuantFormat<LayoutQ5_1, 8, 0>;
using Q8_0 = QuantFormat<LayoutQ8_0, 8, 128>;
using Q4_K = QuantFormat<LayoutQ4_K, 8, 0>;
using Q5_K = QuantFormat<LayoutQ5_K, 8, 0>;
using Q6_K = QuantFormat<LayoutQ6_K, 4, 32>;

template <class Format>
using PackedPair = PackedBlock<Format, 2>;

template <class Format>
RUVLTRA_INLINE __m512i levels(const PackedPair<Format>& w, size_t s, int g) {
  return k_group(w.sub[0][s], w.sub[1][s], g);
}

RUVLTRA_INLINE __m512i scale(const PackedPair<Q6_K>& w, size_t s, int half) {
  const __m512i both = _mm512_cvtepi8_epi16(load_pair16(w.header[0]->scale[s], w.header[1]->scale[s]));
  return _mm512_srai_epi32(half == 0 ? _mm512_slli_epi32(both, 16) : both, 16);
}
template <class Format>
RUVLTRA_INLINE __m512i scale(const PackedPair<Format>& w, size_t s, int) {
  return _mm512_cvtepu8_epi32(load_pair8(w.header[0]->scale[s], w.header[1]->scale[s]));
}

// Pair i of the int16 factors of block sums: what isum has too much under an offset, or the mins.
RUVLTRA_INLINE __m512i factors(const PackedPair<Q6_K>& w, size_t i) {
  const __m512i both = _mm512_cvtepi8_epi16(load_pair16(w.header[0]->scale[i], w.header[1]->scale[i]));
  return _mm512_mullo_epi16(both, _mm512_set1_epi16(-Q6_K::kOffset));
}
template <class Format>
RUVLTRA_INLINE __m512i factors(const PackedPair<Format>& w, size_t i) {
  return _mm512_cvtepu8_epi16(load_pair16(w.header[0]->min[i], w.header[1]->min[i]));
}

template <class Format>
RUVLTRA_INLINE __m512 scale_d(const PackedPair<Format>& w) {
  return load_halves_pair(w.header[0]->d, w.header[1]->d);
}
template <class Format>
RUVLTRA_INLINE __m512 scale_m(const PackedPair<Format>& w) {
  if constexpr (Format::kHasMins) {
    return load_halves_pair(w.header[0]->dmin, w.header[1]->dmin);
  } else {
    return load_halves_pair(w.header[0]->m, w.header[1]->m);
  }
}

// What the sum of a run starts at.
template <class Format>
RUVLTRA_INLINE __m512i start(const PackedPair<Format>&, size_t, int) {
  return _mm512_setzero_si512();
}

// The same block with everything expanded, for many columns.
template <size_t kScales, size_t kPairs>
struct UnpackedScales {
  __m512i scale[kScales];
  __m512i factor[kPairs];
};
template <>
struct UnpackedScales<0, 0> {};

template <class Format>
struct UnpackedBlock : UnpackedScales<Format::kScales, Format::kPairs> {
  __m512i level[Format::Layout::kSubBlocks][8];
  __m512 d;
  __m512 m;
};

// Q6_K has its offset subtracted here: vpdpbusd takes the activation, moved by 128, as its unsigned operand
// and the level as the signed one. What the 128 adds depends on the levels only; `start` takes it away.
template <>
struct UnpackedBlock<Q6_K> {
  __m512i scale[Q6_K::kScales];
  __m512i start[Q6_K::kScales];
  __m512i level[8][8];
  __m512 d;
};

// True where levels are signed and activations have to be moved by 128.
template <class Weights>
constexpr bool kSignedLevels = false;
template <>
constexpr bool kSignedLevels<UnpackedBlock<Q6_K>> = true;

template <class Format>
RUVLTRA_INLINE __m512i start(const UnpackedBlock<Format>& w, size_t s, int half) {
  if constexpr (kSignedLevels<UnpackedBlock<Format>>) {
    return w.start[2 * s + static_cast<size_t>(half)];
  } else {
    return _mm512_setzero_si512();
  }
}

template <class Format>
RUVLTRA_INLINE __m512i levels(const UnpackedBlock<Format>& w, size_t s, int g) {
  return w.level[s][g];
}
template <class Format>
RUVLTRA_INLINE __m512i scale(const UnpackedBlock<Format>& w, size_t s, int half) {
  return w.scale[s * (8 / Format::kRun) + static_cast<size_t>(half)];
}
template <class Format>
RUVLTRA_INLINE __m512i factors(const UnpackedBlock<Format>& w, size_t i) {
  return w.factor[i];
}
template <class Format>
RUVLTRA_INLINE __m512 scale_d(const UnpackedBlock<Format>& w) {
  return w.d;
}
template <class Format>
RUVLTRA_INLINE __m512 scale_m(const UnpackedBlock<Format>& w) {
  return w.m;
}

template <class Format>
RUVLTRA_INLINE void unpack(const PackedPair<Format>& packed, UnpackedBlock<Format>& block) {
  for (size_t s = 0; s < Format::Layout::kSubBlocks; ++s) {
    RUVLTRA_UNROLL
    for (int g = 0; g < 8; ++g) block.level[s][g] = levels(packed, s, g);
    if constexpr (Format::kHasScales) {
      constexpr size_t kRuns = 8 / Format::kRun;
      RUVLTRA_UNROLL
      for (size_t half = 0; half < kRuns; ++half) {
        block.scale[s * kRuns + half] = scale(packed, s, static_cast<int>(half));
      }
    }
  }
  if constexpr (Format::kPairs != 0) {
    for (size_t i = 0; i < Format::kPairs; ++i) block.factor[i] = factors(packed, i);
  }
  block.d = scale_d(packed);
  if constexpr (Format::kHasMins || Format::kHasM) block.m = scale_m(packed);
}

RUVLTRA_INLINE void unpack(const PackedPair<Q6_K>& packed, UnpackedBlock<Q6_K>& block) {
  for (size_t s = 0; s < 8; ++s) {
    __m512i added[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    RUVLTRA_UNROLL
    for (int g = 0; g < 8; ++g) {
      block.level[s][g] = _mm512_sub_epi8(levels(packed, s, g), _mm512_set1_epi8(Q6_K::kOffset));
      added[g / 4] = _mm512_dpbusd_epi32(added[g / 4], _mm512_set1_epi8(-128), block.level[s][g]);
    }
    RUVLTRA_UNROLL
    for (size_t half = 0; half < 2; ++half) {
      block.scale[2 * s + half] = scale(packed, s, static_cast<int>(half));
      block.start[2 * s + half] = _mm512_sub_epi32(_mm512_setzero_si512(), added[half]);
    }
  }
  block.d = scale_d(packed);
}

}  // namespace
}  // namespace ruvltra
