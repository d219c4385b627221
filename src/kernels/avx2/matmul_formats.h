// The quantised formats in AVX2 registers: what one shared loop (matmul_quants.h) needs to know of each.
#pragma once

#include "kernels/avx2/common.h"

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

// A sub-block unpacked beforehand, for many columns.
struct UnpackedSubBlock {
  __m256i groups[8];
};
RUVLTRA_INLINE __m256i k_group(const UnpackedSubBlock& sub, int g) { return sub.groups[g]; }

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
  static constexpr int kProductsPerSum = kProductsPerSumValue;
  static constexpr int kOffset = kOffsetValue;  // weight = scale * (level - offset)
  static constexpr bool kSigned = kSignedValue;
  static constexpr bool kHasScales = Layout::kBlock == 256;
  static constexpr bool kHasMins = __is_same(Header, HeaderScalesMins);
  static constexpr bool kHasM = __is_same(Header, HeaderDM);
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

}  // namespace
}  // namespace ruvltra
