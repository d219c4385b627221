// tokenizer.json and tokenizer_config.json of a Hugging Face model folder, as tokenizer.ggml.* keys.
#pragma once

#include <filesystem>

#include "gguf/metadata.h"
#include "model/hf_import_config.h"
#include "ruvltra/error.h"

namespace ruvltra {

// Byte-level BPE only. Ids without a token, up to n_vocab, become "[PADn]" of type unused. Roles named in
// tokenizer_config.json rule over `ids`. Errors: hf.tokenizer naming the field, expected and found.
Result<void> read_hf_tokenizer(const std::filesystem::path& folder, size_t n_vocab, const SpecialIds& ids,
                               Metadata& metadata);

}  // namespace ruvltra
