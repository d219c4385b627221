// Matrix products with the dot product instruction (sdot) of ARMv8.2: Q4_K and Q8_0. A k-group of a panel is
// what sdot multiplies: one lane per row, 4 products per lane. Every column walks the panel by itself.
#include <arm_neon.h>
#include <string.h>

#include "kernels/matmul.h"
#include "kernels/panel_layout.h"

#define RUVLTRA_INLINE inline __attribute__((always_inline))

namespace ruvltra {
namespace {

// One value per row of a panel.
struct Integers {
  int32x4_t half[2];  // rows 0..3, 4..7
};
struct Floats {
  float32x4_t half[2];
};

RUVLTRA_INLINE Integers no_integers() { return {{vdupq_n_s32(0), vdupq_n_s32(0)}}; }

// 4 activations in every lane.
RUVLTRA_INLINE int8x16_t broadcast4(const int8_t* q) {
  int32_t word;
  memcpy(&word, q, sizeof word);
  return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

RUVLTRA_INLINE Floats load_halves(const uint16_t* halves) {
  const float16x8_t values = vreinterpretq_f16_u16(vld1q_u16(halves));
  return {{vcvt_f32_f16(vget_low_f16(values)), vcvt_f32_f16(vget_high_f16(values))}};
}

// sum_k level * activation over one sub-block; a: its 32 activations.
RUVLTRA_INLINE Integers dot(const Nibbles& sub, const int8_t* a) {
  Integers sum = no_integers();
  for (size_t v = 0; v < 4; ++v) {
    const int8x16_t low_group = broadcast4(a + 4 * v);
    const int8x16_t high_group = broadcast4(a + 16 + 4 * v);
    for (size_t i = 0; i < 2; ++i) {
      const uint8x16_t bytes = vld1q_u8(sub.nibbles[v] + 16 * i);
      const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
      const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
      sum.half[i] = vdotq_s32(vdotq_s32(sum.half[i], low, low_group), high, high_group);
    }
  }
  return sum;
}

RUVLTRA_INLINE Integers dot(const Bytes& sub, const int8_t* a) {
  Integers sum = no_integers();
  for (size_t g = 0; g < 8; ++g) {
    const int8x16_t group = broadcast4(a + 4 * g);
    for (size_t i = 0; i < 2; ++i) {
      sum.half[i] = vdotq_s32(sum.half[i], vld1q_s8(sub.bytes[g] + 16 * i), group);
    }
  }
  return sum;
}

RUVLTRA_INLINE void add_scaled(Integers& isum, const Integers& sum, const uint8_t* scales) {
  const int16x8_t scale = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(scales)));
  isum.half[0] = vmlaq_s32(isum.half[0], sum.half[0], vmovl_s16(vget_low_s16(scale)));
  isum.half[1] = vmlaq_s32(isum.half[1], sum.half[1], vmovl_s16(vget_high_s16(scale)));
}

RUVLTRA_INLINE Integers min_sum(const HeaderScalesMins& header, const int16_t* sum32) {
  Integers sum = no_integers();
  for (size_t pair = 0; pair < 4; ++pair) {
    const uint8x8x2_t mins = vld2_u8(header.min[pair][0]);
    for (size_t which = 0; which < 2; ++which) {
      const int16x8_t min = vreinterpretq_s16_u16(vmovl_u8(mins.val[which]));
      const int16_t block_sum = sum32[2 * pair + which];
      sum.half[0] = vmlal_n_s16(sum.half[0], vget_low_s16(min), block_sum);
      sum.half[1] = vmlal_n_s16(sum.half[1], vget_high_s16(min), block_sum);
    }
  }
  return sum;
}

// acc plus the product of block b of a panel and the same block of one column.
RUVLTRA_INLINE void add_block(const HeaderScalesMins& header, const LayoutQ4_K::Quants& quants,
                              const int8_t* q, const int16_t* sum32, float d_a, Floats& acc) {
  Integers isum = no_integers();
  for (size_t s = 0; s < 8; ++s) add_scaled(isum, dot(quants.sub[s], q + 32 * s), header.scale[s]);
  const Integers msum = min_sum(header, sum32);
  const Floats d = load_halves(header.d);
  const Floats dmin = load_halves(header.dmin);
  for (size_t i = 0; i < 2; ++i) {
    acc.half[i] = vfmaq_f32(acc.half[i], vmulq_n_f32(d.half[i], d_a), vcvtq_f32_s32(isum.half[i]));
    acc.half[i] = vfmsq_f32(acc.half[i], vmulq_n_f32(dmin.half[i], d_a), vcvtq_f32_s32(msum.half[i]));
  }
}

RUVLTRA_INLINE void add_block(const HeaderD& header, const LayoutQ8_0::Quants& quants, const int8_t* q,
                              const int16_t*, float d_a, Floats& acc) {
  const Integers isum = dot(quants.sub[0], q);
  const Floats d = load_halves(header.d);
  for (size_t i = 0; i < 2; ++i) {
    acc.half[i] = vfmaq_f32(acc.half[i], vmulq_n_f32(d.half[i], d_a), vcvtq_f32_s32(isum.half[i]));
  }
}

// The epilogue for the rows of one panel and column c.
void store_rows(const MatmulArgs& args, size_t panel, size_t c, const Floats& acc) {
  float values[kPanelRows];
  vst1q_f32(values, acc.half[0]);
  vst1q_f32(values + 4, acc.half[1]);
  const size_t row = panel * kPanelRows;
  float* y = args.y + c * args.y_stride + row;
  for (size_t r = 0; r < kPanelRows && row + r < args.w.n_rows; ++r) {
    const float value = args.bias != nullptr ? values[r] + args.bias[row + r] : values[r];
    y[r] = args.accumulate ? y[r] + value : value;
  }
}

template <class Layout>
void matmul_quants(const MatmulArgs& args) {
  const size_t k = args.w.k;
  for (size_t panel = args.panel_begin; panel < args.panel_end; ++panel) {
    const uint8_t* data = args.w.data + panel * args.w.panel_bytes;
    const void* header_strip = data;
    const void* quant_strip = data + quant_offset(block_of<Layout>(), k);
    const auto* headers = static_cast<const typename Layout::Header*>(header_strip);
    const auto* quants = static_cast<const typename Layout::Quants*>(quant_strip);
    for (size_t c = 0; c < args.a.n_cols; ++c) {
      Floats acc = {{vdupq_n_f32(0), vdupq_n_f32(0)}};
      for (size_t b = 0; b < k / Layout::kBlock; ++b) {
        const size_t begin = c * k + b * Layout::kBlock;
        add_block(headers[b], quants[b], args.a.q + begin, args.a.sum32 + begin / 32,
                  args.a.d[begin / Layout::kBlock], acc);
      }
      store_rows(args, panel, c, acc);
    }
  }
}

}  // namespace

void fill_neon_matmul(MatmulKernels& kernels) {
  kernels.quantized[static_cast<size_t>(WeightKind::kQ4_K)] = matmul_quants<LayoutQ4_K>;
  kernels.quantized[static_cast<size_t>(WeightKind::kQ8_0)] = matmul_quants<LayoutQ8_0>;
}

}  // namespace ruvltra
