// Queries, keys and values of a layer.
#pragma once

#include <span>

#include "ops/kv_layer.h"
#include "ops/matmul.h"
#include "ops/rope.h"

namespace ruvltra {

struct QkvWeights {
  const PackedMatrix* q;  // (n_heads * d_head, d_model)
  const PackedMatrix* k;  // (n_kv_heads * d_head, d_model)
  const PackedMatrix* v;
  const float* q_bias;  // one value per row
  const float* k_bias;
  const float* v_bias;
};

// q, k, v (n_tokens, heads * d_head) = rope(W_q x + b_q), rope(W_k x + b_k), W_v x + b_v; k and v also go to
// their slots of the cache. One parallel loop over heads: whoever multiplies the rows of a head rotates and
// stores it while the cache holds it.
void project_qkv(const Ctx& ctx, Activations& x, const QkvWeights& w, const RopeTable& rope,
                 const KvLayerView& kv, std::span<const KvSlot> slots, float* q, float* k, float* v,
                 bool exact);

}  // namespace ruvltra
