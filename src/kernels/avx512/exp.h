// exp(x) for x <= 0, sixteen at a time (docs/kernels.md section 7); the same operations as the scalar form.
#pragma once

#include <immintrin.h>

namespace ruvltra {
namespace {

inline __m512 exp_nonpositive(__m512 x) {
  const __m512 magic = _mm512_set1_ps(0x1.8p23f);
  const __m512 t = _mm512_fmadd_ps(x, _mm512_set1_ps(0x1.715476p+0f), magic);
  const __m512 n = _mm512_sub_ps(t, magic);
  __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-0x1.62e4p-1f), x);
  r = _mm512_fmadd_ps(n, _mm512_set1_ps(-0x1.7f7d1cp-20f), r);
  __m512 q = _mm512_set1_ps(0x1.6a23d0p-10f);
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.123a20p-7f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.5558f2p-5f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.555492p-3f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.fffffcp-2f));
  const __m512 u = _mm512_fmadd_ps(q, _mm512_mul_ps(r, r), r);
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
  const __m512 scale = _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(0x3f800000)));
  const __mmask16 large_enough = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
  return _mm512_maskz_fmadd_ps(large_enough, scale, u, scale);
}

}  // namespace
}  // namespace ruvltra
