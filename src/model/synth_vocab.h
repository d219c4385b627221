// A made-up vocabulary that satisfies every rule of a byte-level BPE tokenizer of the Qwen2 family.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gguf/metadata.h"

namespace ruvltra {

// Sets tokenizer.ggml.* and tokenizer.chat_template. Ids: the 256 bytes, one token per merge of letters, then
// the added tokens of Qwen2.5 from `first_added` on, then padding rows. *Requires*: 256 <= first_added and
// first_added + 22 <= n_vocab <= 2^20.
void set_synthetic_vocabulary(size_t n_vocab, size_t first_added, Metadata& metadata);

// The ChatML conversation format of Qwen2.5 with tools, as a Jinja template.
extern const std::string_view kChatmlTemplate;

}  // namespace ruvltra
