#include "model/hf_import.h"

#include <array>
#include <map>
#include <utility>

#include "base/fail.h"
#include "gguf/safetensors.h"
#include "model/hf_import_config.h"
#include "model/hf_import_tokenizer.h"

namespace ruvltra {
namespace {

// Names inside a block: Hugging Face's and GGUF's. Rows are stored in the same order in both.
constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kBlockNames = {{
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.q_proj.bias", "attn_q.bias"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.k_proj.bias", "attn_k.bias"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.v_proj.bias", "attn_v.bias"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
    {"input_layernorm.weight", "attn_norm.weight"},
    {"post_attention_layernorm.weight", "ffn_norm.weight"},
}};

// GGUF name -> Hugging Face name.
std::string hf_name(std::string_view gguf_name) {
  if (gguf_name == "token_embd.weight") return "model.embed_tokens.weight";
  if (gguf_name == "output_norm.weight") return "model.norm.weight";
  if (gguf_name == "output.weight") return "lm_head.weight";
  const size_t dot = gguf_name.find('.', 4);  // "blk.N.PART"
  for (const auto& [theirs, ours] : kBlockNames) {
    if (gguf_name.substr(dot + 1) != ours) continue;
    return fmt::format("model.layers.{}.{}", gguf_name.substr(4, dot - 4), theirs);
  }
  return {};
}

// Buffers that some exporters save although they follow from the configuration.
bool is_derived(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

class HfSource : public WeightSource {
 public:
  static Result<std::unique_ptr<WeightSource>> open(const std::filesystem::path& folder) {
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::open(folder));
    std::unique_ptr<HfSource> source(new HfSource(std::move(file)));
    RETURN_IF_ERROR(source->read_header(folder));
    return source;
  }

  Result<void> read(size_t tensor, uint64_t begin, std::span<uint8_t> out) const override {
    return file_.read(*stored_[tensor], begin, out);
  }

 private:
  explicit HfSource(SafetensorsFile file) : file_(std::move(file)) {}

  Result<void> read_header(const std::filesystem::path& folder) {
    ASSIGN_OR_RETURN(const HfConfig config, read_hf_config(folder));
    const bool has_head = file_.find("lm_head.weight") != nullptr;
    shape_ = config.shape;
    shape_.tied = config.tied.value_or(!has_head);
    if (shape_.tied && has_head)
      warnings_.push_back("lm_head.weight is left out: config.json ties it to the embedding");
    metadata_ = Metadata(folder.string());
    describe_model(config, folder);
    RETURN_IF_ERROR(map_tensors(folder.string()));
    // Everything a GGUF file must satisfy holds here, too; the tokenizer comes after the sizes are known to
    // be true.
    const std::vector<TensorInfo> infos = as_stored_in_gguf();
    RETURN_IF_ERROR(check_tensors(shape_, folder.string(), infos));
    RETURN_IF_ERROR(read_hf_tokenizer(folder, shape_.n_vocab, config.special_ids, metadata_));
    ASSIGN_OR_RETURN(shape_, ModelShape::from_metadata(metadata_, infos));
    return {};
  }

  std::vector<TensorInfo> as_stored_in_gguf() const {
    std::vector<TensorInfo> infos;
    for (const SourceTensor& tensor : tensors_) {
      TensorInfo info;
      info.name = tensor.name;
      info.type = tensor.dims.size() == 1 ? TensorType::kF32 : tensor.type;
      info.dims = tensor.dims;
      info.n_elements = tensor.n_elements();
      infos.push_back(std::move(info));
    }
    return infos;
  }

  void describe_model(const HfConfig& config, const std::filesystem::path& folder) {
    std::string name = folder.filename().string();
    if (name.empty()) name = folder.parent_path().filename().string();
    metadata_.set("general.architecture", std::string("qwen2"));
    metadata_.set("general.name", name);
    config.shape.describe(metadata_);
  }

  Result<void> map_tensors(const std::string& source) {
    std::map<std::string_view, bool> used;
    for (const SafetensorsTensor& tensor : file_.tensors()) used[tensor.name] = is_derived(tensor.name);
    if (shape_.tied && used.contains("lm_head.weight")) used["lm_head.weight"] = true;
    for (const TensorSpec& spec : expected_tensors(shape_)) {
      const std::string name = hf_name(spec.name);
      const SafetensorsTensor* tensor = file_.find(name);
      if (tensor == nullptr) {
        return fail("hf.tensor_missing", "{}: tensor {}: expected for {}, not found", source,
                    ruvltra::quoted(name), spec.name);
      }
      if (!tensor->type) {
        return fail(ErrorKind::kUnsupported, "safetensors.dtype",
                    "{}: tensor {}: expected F32, F16 or BF16, found {}", source, ruvltra::quoted(name),
                    tensor->dtype);
      }
      used[tensor->name] = true;
      tensors_.push_back({spec.name, *tensor->type, {tensor->shape.rbegin(), tensor->shape.rend()}});
      stored_.push_back(tensor);
    }
    for (const auto& [name, known] : used) {
      if (!known)
        return fail("hf.tensor_extra", "{}: tensor {}: not part of a Qwen2 model", source,
                    ruvltra::quoted(name));
    }
    return {};
  }

  SafetensorsFile file_;
  std::vector<const SafetensorsTensor*> stored_;  // parallel to tensors_
};

}  // namespace

Result<std::unique_ptr<WeightSource>> open_hf_folder(const std::filesystem::path& folder) {
  return HfSource::open(folder);
}

}  // namespace ruvltra
