#include "kernels/vectors.h"

#include <math.h>

namespace ruvltra {
namespace {

int32_t dot_i8(const int8_t* a, const int8_t* b, size_t n) {
  int32_t sum = 0;
  for (size_t i = 0; i < n; ++i) sum += int32_t{a[i]} * int32_t{b[i]};
  return sum;
}

float dot_f32(const float* a, const float* b, size_t n) {
  float lane[kVectorBlock] = {};
  for (size_t i = 0; i < n; ++i) lane[i % kVectorBlock] = fmaf(a[i], b[i], lane[i % kVectorBlock]);
  for (size_t half = kVectorBlock / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

void dot_i8_rows(const int8_t* query, const int8_t* const* rows, size_t n_rows, size_t n, int32_t* out) {
  for (size_t r = 0; r < n_rows; ++r) out[r] = dot_i8(query, rows[r], n);
}

void dot_f32_rows(const float* query, const float* const* rows, size_t n_rows, size_t n, float* out) {
  for (size_t r = 0; r < n_rows; ++r) out[r] = dot_f32(query, rows[r], n);
}

}  // namespace

void fill_scalar_vectors(VectorKernels& kernels) { kernels = {dot_i8, dot_f32, dot_i8_rows, dot_f32_rows}; }

}  // namespace ruvltra
