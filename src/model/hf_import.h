// Model folders in Hugging Face's layout: config.json, tokenizer.json, tokenizer_config.json and
// *.safetensors.
#pragma once

#include <filesystem>
#include <memory>

#include "model/convert_source.h"

namespace ruvltra {

// Qwen2 models only (model_type "qwen2"). Errors: hf.config, hf.tokenizer, hf.tensor_extra,
// hf.tensor_missing, those of the JSON and safetensors readers and of check_tensors().
Result<std::unique_ptr<WeightSource>> open_hf_folder(const std::filesystem::path& folder);

}  // namespace ruvltra
