// config.json of a Hugging Face model folder.
#pragma once

#include <filesystem>
#include <optional>

#include "base/json.h"
#include "model/config.h"
#include "ruvltra/error.h"
#include "ruvltra/types.h"

namespace ruvltra {

// Ids of tokens with a role, as far as a file names them.
struct SpecialIds {
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  std::optional<TokenId> pad;
};

struct HfConfig {
  ModelShape shape;          // tied is not set
  std::optional<bool> tied;  // tie_word_embeddings
  SpecialIds special_ids;
};

// Errors: hf.config naming the key, expected and found; hf.unsupported (sliding window, RoPE scaling, other
// models).
Result<HfConfig> read_hf_config(const std::filesystem::path& folder);

// A JSON file of the folder, at most 64 MiB, whose top is an object.
Result<Json> read_hf_json(const std::filesystem::path& path);

// The member `key` of an object, or null.
const Json* find_member(const Json& object, const char* key);

}  // namespace ruvltra
