// A small vocabulary for tests and fuzzing: id b is byte b, then a few merges and added tokens.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "gguf/metadata.h"
#include "ruvltra/types.h"

namespace ruvltra {

enum SampleId : TokenId {
  kSampleHe = 256,
  kSampleLl,
  kSampleHell,
  kSampleHello,
  kSampleEnd,         // control <|im_end|>
  kSampleEndLonger,   // control <|im_end|>!
  kSampleTool,        // user-defined <tool>
  kSampleToolLonger,  // user-defined <tool>>
  kSamplePart,        // user-defined <|im_e
  kSampleUnused,      // [PAD]
  kSampleSize,
};

struct SampleVocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<std::string> merges{"h e", "l l", "he ll", "hell o"};

  SampleVocabulary() {
    char32_t next = 0x100;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool same = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      tokens.emplace_back();
      utf8_append(tokens.back(), same ? byte : next++);
    }
    for (const char* text : {"he", "ll", "hell", "hello"}) tokens.emplace_back(text);
    types.assign(tokens.size(), 1);
    const std::pair<const char*, int32_t> added[] = {{"<|im_end|>", 3}, {"<|im_end|>!", 3}, {"<tool>", 4},
                                                     {"<tool>>", 4},    {"<|im_e", 4},      {"[PAD]", 5}};
    for (const auto& [text, type] : added) {
      tokens.emplace_back(text);
      types.push_back(type);
    }
  }

  Metadata metadata() const {
    Metadata out("sample");
    out.set("tokenizer.ggml.model", std::string("gpt2"));
    out.set("tokenizer.ggml.pre", std::string("qwen2"));
    out.set("tokenizer.ggml.tokens", tokens);
    out.set("tokenizer.ggml.token_type", types);
    out.set("tokenizer.ggml.merges", merges);
    out.set("tokenizer.ggml.bos_token_id", uint32_t{0});
    out.set("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(kSampleEnd));
    return out;
  }
};

inline Metadata sample_metadata() { return SampleVocabulary().metadata(); }

}  // namespace ruvltra
