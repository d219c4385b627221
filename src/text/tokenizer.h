// The Qwen2 tokenizer: added tokens, NFC, pre-tokenizer split, byte-level BPE (docs/tokenizer.md).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/metadata.h"
#include "ruvltra/error.h"
#include "ruvltra/types.h"

namespace ruvltra {

// Values are those stored in tokenizer.ggml.token_type.
enum class TokenKind : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// Which added tokens may be recognised in a piece of text.
enum class Recognise {
  kNone,         // everything is plain text
  kUserDefined,  // user-defined tokens only: text written by a user or a document
  kAll,          // control tokens too: text written by a template or asked for by --parse-special
};

// A stretch of text and how far it is trusted. Adjacent text is joined before splitting, so "user\n" from the
// template and the message after it are one run; only the recognition of added tokens differs.
struct TextRun {
  std::string text;
  Recognise recognise = Recognise::kUserDefined;
};

// Thread safety: const after load; calls may run in parallel.
class Tokenizer {
 public:
  // From tokenizer.ggml.* keys. Errors: tokenizer.* naming the key, expected and found.
  static Result<Tokenizer> load(const Metadata& metadata);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Ids of valid UTF-8 text; nothing is prepended. Error: tokenizer.invalid_utf8 with the byte offset.
  Result<std::vector<TokenId>> encode(std::string_view text, Recognise recognise) const;
  Result<std::vector<TokenId>> encode(std::span<const TextRun> runs) const;
  void set_nfc(bool on);  // on by default, as the reference tokenizer

  size_t n_vocab() const;
  TokenKind kind(TokenId id) const;
  // The bytes a token stands for (may be part of a code point). *Requires*: 0 <= id < n_vocab().
  std::string_view bytes(TokenId id) const;
  // Bytes of a sequence, joined; control tokens are included as text only if `with_control`.
  // *Requires*: each id is in [0, n_vocab()).
  std::string decode(std::span<const TokenId> ids, bool with_control) const;
  // The id of an added (control or user-defined) token by its text, or -1.
  TokenId added_token(std::string_view text) const;

  TokenId bos() const;  // -1 if the file names none
  TokenId eos() const;
  bool ends_generation(TokenId id) const;  // eos, <|im_end|>, <|endoftext|>
  // SHA-256 over all token texts, kinds and merges: equal digests mean equal vocabularies.
  std::string digest() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ruvltra
