// A complete Qwen2 model of two small layers, made in memory: for tests that change one thing in a valid
// file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "gguf/writer.h"
#include "model/config.h"

namespace ruvltra::testing {

struct TinyTensor {
  TensorPlan plan;
  std::vector<uint8_t> data;
};

struct TinyModel {
  Metadata metadata;
  std::vector<TinyTensor> tensors;

  TinyTensor& tensor(std::string_view name) {
    const auto found = std::find_if(tensors.begin(), tensors.end(),
                                    [&](const TinyTensor& t) { return t.plan.name == name; });
    CHECK(found != tensors.end());
    return *found;
  }
  void erase(std::string_view name) {
    std::erase_if(tensors, [&](const TinyTensor& t) { return t.plan.name == name; });
  }
  // A tensor of zeros.
  void add(std::string name, TensorType type, std::vector<uint64_t> dims) {
    uint64_t n_elements = 1;
    for (const uint64_t dim : dims) n_elements *= dim;
    const uint64_t n_bytes = format_of(type).row_bytes(n_elements);
    tensors.push_back({{std::move(name), type, std::move(dims)}, std::vector<uint8_t>(n_bytes)});
  }
  void reshape(std::string_view name, std::vector<uint64_t> dims) {
    const TensorType type = tensor(name).plan.type;
    erase(name);
    add(std::string(name), type, std::move(dims));
  }
  template <class T>
  std::vector<T>& list(std::string_view key) {
    return std::get<std::vector<T>>(const_cast<MetaValue&>(*metadata.find(key)));
  }

  Result<void> write(const std::filesystem::path& path) const {
    std::vector<TensorPlan> plans;
    for (const TinyTensor& t : tensors) plans.push_back(t.plan);
    auto writer = GgufWriter::create(path, metadata, plans, true);
    if (!writer) return tl::unexpected<Error>(writer.error());
    for (size_t i = 0; i < tensors.size(); ++i) {
      const auto written = writer->write(i, 0, tensors[i].data);
      if (!written) return written;
    }
    return writer->finish();
  }
};

struct TinyVocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<std::string> merges = {"h e", "l l", "he ll"};

  // The 256 bytes in the stored alphabet, what the merges make, then added tokens.
  TinyVocabulary() {
    char32_t next = 0x100;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool same = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      std::string text;
      utf8_append(text, same ? byte : next++);
      add(text, 1);
    }
    for (const char* text : {"he", "ll", "hell"}) add(text, 1);
    for (const char* text : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) add(text, 3);
    add("<tool>", 4);
  }
  void add(std::string text, int32_t type) {
    tokens.push_back(std::move(text));
    types.push_back(type);
  }
};

// The sizes of a small model whose matrices are of `type`. Heads have 16 dimensions, two share a KV head.
inline ModelShape tiny_shape(TensorType type, bool tied, size_t n_layers = 2, size_t d_model = 64) {
  ModelShape shape;
  shape.n_layers = n_layers;
  shape.d_head = 16;
  shape.d_model = std::max(d_model, format_of(type).block_elements);
  shape.n_heads = shape.d_model / shape.d_head;
  shape.n_kv_heads = shape.n_heads / 2;
  shape.d_ff = shape.d_model == 64 ? 96 : shape.d_model;
  shape.n_vocab = TinyVocabulary().tokens.size();
  shape.context_length = 128;
  shape.tied = tied;
  return shape;
}

// A model of this shape with random weights of `type`.
inline TinyModel tiny_model(const ModelShape& shape, TensorType type) {
  const TinyVocabulary vocabulary;
  TinyModel model;
  Metadata& m = model.metadata;
  m.set("general.architecture", std::string("qwen2"));
  m.set("general.name", std::string("tiny, random weights"));
  m.set("qwen2.block_count", static_cast<uint32_t>(shape.n_layers));
  m.set("qwen2.context_length", static_cast<uint32_t>(shape.context_length));
  m.set("qwen2.embedding_length", static_cast<uint32_t>(shape.d_model));
  m.set("qwen2.feed_forward_length", static_cast<uint32_t>(shape.d_ff));
  m.set("qwen2.attention.head_count", static_cast<uint32_t>(shape.n_heads));
  m.set("qwen2.attention.head_count_kv", static_cast<uint32_t>(shape.n_kv_heads));
  m.set("qwen2.attention.layer_norm_rms_epsilon", 1e-6f);
  m.set("qwen2.rope.freq_base", 1e6f);
  m.set("tokenizer.ggml.model", std::string("gpt2"));
  m.set("tokenizer.ggml.pre", std::string("qwen2"));
  m.set("tokenizer.ggml.tokens", vocabulary.tokens);
  m.set("tokenizer.ggml.token_type", vocabulary.types);
  m.set("tokenizer.ggml.merges", vocabulary.merges);
  m.set("tokenizer.ggml.eos_token_id", uint32_t{261});
  m.set("tokenizer.chat_template",
        std::string("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"));

  uint64_t state = 1;
  const auto next_weight = [&] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (static_cast<float>(state >> 40) * 0x1p-23f - 1.0f) * 0.1f;
  };
  for (const TensorSpec& spec : expected_tensors(shape)) {
    model.add(spec.name, spec.is_matrix() ? type : TensorType::kF32, spec.dims);
    TinyTensor& tensor = model.tensors.back();
    const Format& own = format_of(tensor.plan.type);
    std::vector<float> values(tensor.data.size() / own.block_bytes * own.block_elements);
    for (float& value : values) value = spec.name.ends_with("norm.weight") ? 1.0f : next_weight();
    own.encode(values.data(), tensor.data.data(), values.size(), nullptr);
  }
  return model;
}

inline TinyModel tiny_model(TensorType type = TensorType::kF32, bool tied = true) {
  return tiny_model(tiny_shape(type, tied), type);
}

}  // namespace ruvltra::testing
