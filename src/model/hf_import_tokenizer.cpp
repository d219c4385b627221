#include "model/hf_import_tokenizer.h"

#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "base/file.h"
#include "text/tokenizer.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxTemplateBytes = uint64_t{256} << 10;

class TokenizerImport {
 public:
  TokenizerImport(std::string source, size_t n_vocab)
      : source_(std::move(source)), tokens_(n_vocab), kinds_(n_vocab, 0) {}

  Result<void> read(const Json& json) {
    const Json* model = find_member(json, "model");
    if (model == nullptr || !model->is_object()) return refuse("model", "an object", model);
    const Json* type = find_member(*model, "type");
    if (type != nullptr && *type != "BPE") return refuse("model.type", "\"BPE\"", type);
    RETURN_IF_ERROR(read_vocab(find_member(*model, "vocab")));
    RETURN_IF_ERROR(read_added(find_member(json, "added_tokens")));
    RETURN_IF_ERROR(read_merges(find_member(*model, "merges")));
    return pad();
  }

  // The id of an added token, or -1.
  TokenId find_added(std::string_view content) const {
    for (size_t id = 0; id < tokens_.size(); ++id) {
      const bool added =
          kinds_[id] == kind(TokenKind::kControl) || kinds_[id] == kind(TokenKind::kUserDefined);
      if (added && tokens_[id] == content) return static_cast<TokenId>(id);
    }
    return -1;
  }
  bool has(TokenId id) const { return id >= 0 && static_cast<size_t>(id) < tokens_.size(); }

  void store(Metadata& metadata) && {
    metadata.set("tokenizer.ggml.model", std::string("gpt2"));
    metadata.set("tokenizer.ggml.pre", std::string("qwen2"));
    metadata.set("tokenizer.ggml.tokens", std::move(tokens_));
    metadata.set("tokenizer.ggml.token_type", std::move(kinds_));
    metadata.set("tokenizer.ggml.merges", std::move(merges_));
  }

  tl::unexpected<Error> refuse(std::string_view field, std::string_view expected, const Json* found) const {
    return fail("hf.tokenizer", "{}: {}: expected {}, found {}", source_, field, expected,
                found == nullptr ? "nothing" : ruvltra::quoted(to_json(*found)));
  }

 private:
  static int32_t kind(TokenKind kind) { return static_cast<int32_t>(kind); }

  Result<void> place(const Json& id, std::string_view field, const std::string& token, TokenKind token_kind) {
    const bool fits = id.is_number_unsigned() && id.get<uint64_t>() < tokens_.size();
    if (!fits) return refuse(field, fmt::format("an id below vocab_size {}", tokens_.size()), &id);
    const size_t index = id.get<size_t>();
    if (kinds_[index] != 0 && tokens_[index] != token) {
      return fail("hf.tokenizer", "{}: {}: expected one token per id, found {} and {} at {}", source_, field,
                  ruvltra::quoted(tokens_[index]), ruvltra::quoted(token), index);
    }
    tokens_[index] = token;
    kinds_[index] = kind(token_kind);
    return {};
  }

  Result<void> read_vocab(const Json* vocab) {
    if (vocab == nullptr || !vocab->is_object()) return refuse("model.vocab", "an object", vocab);
    for (const auto& [token, id] : vocab->items()) {
      RETURN_IF_ERROR(place(id, "model.vocab", token, TokenKind::kNormal));
    }
    return {};
  }

  Result<void> read_added(const Json* added) {
    if (added == nullptr) return {};
    if (!added->is_array()) return refuse("added_tokens", "an array", added);
    for (const Json& item : *added) {
      const Json* content = find_member(item, "content");
      const Json* id = find_member(item, "id");
      const Json* special = find_member(item, "special");
      if (content == nullptr || !content->is_string())
        return refuse("added_tokens.content", "a string", content);
      if (id == nullptr) return refuse("added_tokens.id", "an id", id);
      const bool control = special != nullptr && special->is_boolean() && special->get<bool>();
      RETURN_IF_ERROR(place(*id, "added_tokens.id", content->get<std::string>(),
                            control ? TokenKind::kControl : TokenKind::kUserDefined));
    }
    return {};
  }

  // "a b", or ["a", "b"] in newer files.
  Result<void> read_merges(const Json* merges) {
    if (merges == nullptr || !merges->is_array()) return refuse("model.merges", "an array", merges);
    merges_.reserve(merges->size());
    for (const Json& merge : *merges) {
      if (merge.is_string()) {
        merges_.push_back(merge.get<std::string>());
        continue;
      }
      const bool pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
      if (!pair) return refuse("model.merges", "\"a b\" or [\"a\", \"b\"]", &merge);
      merges_.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    }
    return {};
  }

  Result<void> pad() {
    std::unordered_set<std::string_view> known;
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (kinds_[id] == 0) {
        tokens_[id] = fmt::format("[PAD{}]", id);
        kinds_[id] = kind(TokenKind::kUnused);
      }
      if (!known.insert(tokens_[id]).second) {
        return fail("hf.tokenizer", "{}: token {}: expected once, found twice", source_,
                    ruvltra::quoted(tokens_[id]));
      }
    }
    return {};
  }

  const std::string source_;
  std::vector<std::string> tokens_;
  std::vector<int32_t> kinds_;  // 0: no token yet
  std::vector<std::string> merges_;
};

// "<|im_end|>", or {"content": "<|im_end|>", ...}.
const Json* token_text(const Json& config, const char* key) {
  const Json* value = find_member(config, key);
  if (value != nullptr && value->is_object()) value = find_member(*value, "content");
  return value != nullptr && value->is_string() ? value : nullptr;
}

Result<void> store_role(const TokenizerImport& tokens, const Json& config, const char* role,
                        std::optional<TokenId> id, Metadata& metadata) {
  const std::string key = std::string(role) + "_token";
  if (const Json* text = token_text(config, key.c_str())) {
    const TokenId named = tokens.find_added(text->get<std::string>());
    if (named < 0) return tokens.refuse(key, "an added token", text);
    id = named;
  }
  if (!id) return {};
  if (!tokens.has(*id)) {
    return fail("hf.config", "config.json: {}_token_id: expected an id below vocab_size, found {}", role,
                *id);
  }
  const std::string_view name = std::string_view(role) == "pad" ? "padding" : role;
  metadata.set(fmt::format("tokenizer.ggml.{}_token_id", name), static_cast<uint32_t>(*id));
  return {};
}

// The template text: a string, or the one called "default" of a list, or the file chat_template.jinja.
Result<std::optional<std::string>> find_template(const Json& config, const std::filesystem::path& folder) {
  const Json* value = find_member(config, "chat_template");
  if (value != nullptr && value->is_string()) return value->get<std::string>();
  if (value != nullptr && value->is_array()) {
    for (const Json& item : *value) {
      const Json* name = find_member(item, "name");
      const Json* text = find_member(item, "template");
      if (name != nullptr && *name == "default" && text != nullptr && text->is_string())
        return text->get<std::string>();
    }
  }
  const std::filesystem::path path = folder / "chat_template.jinja";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  ASSIGN_OR_RETURN(std::string text, read_text_file(path, kMaxTemplateBytes));
  return text;
}

}  // namespace

Result<void> read_hf_tokenizer(const std::filesystem::path& folder, size_t n_vocab, const SpecialIds& ids,
                               Metadata& metadata) {
  const std::filesystem::path path = folder / "tokenizer.json",
                              config_path = folder / "tokenizer_config.json";
  Json config = Json::object();
  std::error_code ignored;
  if (std::filesystem::exists(config_path, ignored)) {
    ASSIGN_OR_RETURN(config, read_hf_json(config_path));
  }
  TokenizerImport tokens(path.string(), n_vocab);
  {
    ASSIGN_OR_RETURN(const Json json, read_hf_json(path));
    RETURN_IF_ERROR(tokens.read(json));
  }
  RETURN_IF_ERROR(store_role(tokens, config, "bos", ids.bos, metadata));
  RETURN_IF_ERROR(store_role(tokens, config, "eos", ids.eos, metadata));
  RETURN_IF_ERROR(store_role(tokens, config, "pad", ids.pad, metadata));
  const Json* add_bos = find_member(config, "add_bos_token");
  metadata.set("tokenizer.ggml.add_bos_token",
               add_bos != nullptr && add_bos->is_boolean() && add_bos->get<bool>());
  ASSIGN_OR_RETURN(auto text, find_template(config, folder));
  if (text) metadata.set("tokenizer.chat_template", std::move(*text));
  std::move(tokens).store(metadata);
  return {};
}

}  // namespace ruvltra
