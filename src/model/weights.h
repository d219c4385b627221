// The weights of a model in memory: matrices as panels, vectors as f32. Immutable after loading.
#pragma once

#include <filesystem>
#include <vector>

#include "base/aligned.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "gguf/reader.h"
#include "model/config.h"
#include "ops/context.h"
#include "ops/panel.h"
#include "ruvltra/types.h"

namespace ruvltra {

struct LayerWeights {
  AlignedBuffer<float> attn_norm;       // (d_model)
  PackedMatrix attn_q;                  // (d_q, d_model)
  PackedMatrix attn_k, attn_v;          // (d_kv, d_model)
  AlignedBuffer<float> q_bias;          // (d_q)
  AlignedBuffer<float> k_bias, v_bias;  // (d_kv)
  PackedMatrix attn_output;             // (d_model, d_q)
  AlignedBuffer<float> ffn_norm;        // (d_model)
  PackedMatrix ffn_gate, ffn_up;        // (d_ff, d_model)
  PackedMatrix ffn_down;                // (d_model, d_ff)
};

enum class ModelRole { kMain, kDraft };

// Thread safety: const after load, shared freely.
struct Weights {
  ModelShape shape;
  PackedMatrix token_embd;  // (n_vocab, d_model)
  std::vector<LayerWeights> layers;
  AlignedBuffer<float> output_norm;  // (d_model)
  PackedMatrix output;               // (n_logits, d_model); empty if tied
  std::vector<TokenId> head_ids;  // of a trimmed draft: the token of each logit; empty: logit i is token i's
  Sha256Digest file_digest = {};  // of the file's bytes (all parts in order): names the model

  const PackedMatrix& head() const { return shape.tied ? token_embd : output; }
  uint64_t n_bytes() const;                                      // memory held
  uint64_t bytes_per_token() const;                              // matrix bytes a decode step reads
  std::vector<std::span<const uint8_t>> read_per_token() const;  // these bytes, in the order of reading

  // Chooses on this machine how the kernels walk these matrices; changes no result (ops/autotune.h).
  Result<void> tune(const Ctx& ctx);

  // Reads the shape, checks the tensor set, then reads and repacks every tensor, a few panels at a time.
  // Values must be finite (weights.not_finite). A thread of its own hashes the file meanwhile. `progress`
  // counts file bytes and may stop the load (model.cancelled). Only a draft may be trimmed to some tokens
  // (model.trimmed_draft).
  static Result<Weights> load(const Ctx& ctx, const GgufFile& file, const Progress& progress = {},
                              ModelRole role = ModelRole::kMain);
};

// Digest of the file's bytes (of all parts in order).
Result<Sha256Digest> file_sha256(const GgufFile& file, const Progress& progress = {});

}  // namespace ruvltra
