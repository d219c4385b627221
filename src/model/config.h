// The shape of a Qwen2 model, read from a file's metadata, and the exact set of tensors such a model has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/reader.h"
#include "ruvltra/config.h"
#include "ruvltra/error.h"

namespace ruvltra {

struct ModelShape {
  size_t n_layers = 0;
  size_t d_model = 0;
  size_t n_heads = 0;
  size_t n_kv_heads = 0;  // divides n_heads
  size_t d_head = 0;      // even; not always d_model / n_heads
  size_t d_ff = 0;
  size_t n_vocab = 0;  // rows of the embedding
  size_t context_length = 0;
  float rms_eps = 1e-6f;
  double rope_theta = 1e6;
  bool tied = false;       // the output matrix is the embedding
  size_t n_head_rows = 0;  // of a trimmed draft's output matrix; 0: one for each token

  bool is_trimmed() const { return n_head_rows != 0; }
  size_t n_logits() const { return is_trimmed() ? n_head_rows : n_vocab; }  // in a row
  size_t d_q() const { return n_heads * d_head; }
  size_t d_kv() const { return n_kv_heads * d_head; }
  size_t group_size() const { return n_heads / n_kv_heads; }  // query heads per KV head
  uint64_t n_parameters() const;

  // Reads the keys of architecture `qwen2`; n_vocab and tied come from the tensor list. Every value is
  // checked against the range table of docs/model.md. Errors: model.architecture, model.block_count,
  // model.head_count, ... one per key.
  static Result<ModelShape> from_metadata(const Metadata& metadata, std::span<const TensorInfo> tensors);
  static Result<ModelShape> from_file(const GgufFile& file) {
    return from_metadata(file.metadata(), file.tensors());
  }
  // The shape of a configuration, for models made without a file; and the other way round.
  static ModelShape from_config(const MediumConfig& config, bool tied);
  void describe(MediumConfig& config) const;
  // Sets the keys that from_metadata() reads.
  void describe(Metadata& metadata) const;
};

// The tokens whose logits a trimmed draft computes, one for each row of its output matrix: ascending, each
// below n_vocab. Empty: all of them, in order.
constexpr std::string_view kDraftVocabularyKey = "ruvltra.draft.vocab_ids";
Result<std::vector<int32_t>> read_draft_vocabulary(const Metadata& metadata, size_t n_vocab);

// One tensor a model must have.
struct TensorSpec {
  std::string name;
  std::vector<uint64_t> dims;                          // dims[0] fastest: (K) or (K, rows)
  bool is_matrix() const { return dims.size() == 2; }  // vectors (norms, biases) are F32
};

// All of them, in the usual file order: embedding, blocks, final norm, output matrix unless tied.
std::vector<TensorSpec> expected_tensors(const ModelShape& shape);

// Compares names, dimensions and the type of vectors. Errors: model.tensor_missing, model.tensor_extra,
// model.tensor_shape, model.tensor_type, model.bias_missing; each names the tensor, expected and found.
Result<void> check_tensors(const ModelShape& shape, const std::string& source,
                           std::span<const TensorInfo> tensors);

}  // namespace ruvltra
