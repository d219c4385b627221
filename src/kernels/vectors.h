// Inner products of whole vectors, for nearest-neighbour search.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace ruvltra {

// Vectors are padded with zeros to a multiple of this many values.
constexpr size_t kVectorBlock = 32;
constexpr size_t padded_to_block(size_t n) { return (n + kVectorBlock - 1) / kVectorBlock * kVectorBlock; }

// n is a multiple of kVectorBlock; no alignment is needed.
//   i8: values in -127..127 (never -128), n <= 2^16; the int32 sum is exact, so its order is free.
//   f32: 32 virtual lanes, element i in lane i mod 32, one fma each, folded pairwise (docs/kernels.md section
//   1).
struct VectorKernels {
  int32_t (*dot_i8)(const int8_t* a, const int8_t* b, size_t n) = nullptr;
  float (*dot_f32)(const float* a, const float* b, size_t n) = nullptr;
  // out[r] = dot(query, rows[r]): the bits of the calls above, several rows in flight.
  void (*dot_i8_rows)(const int8_t* query, const int8_t* const* rows, size_t n_rows, size_t n,
                      int32_t* out) = nullptr;
  void (*dot_f32_rows)(const float* query, const float* const* rows, size_t n_rows, size_t n,
                       float* out) = nullptr;
};

}  // namespace ruvltra
