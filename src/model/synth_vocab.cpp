#include "model/synth_vocab.h"

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "text/tokenizer.h"

namespace ruvltra {
namespace {

struct AddedToken {
  std::string_view text;
  TokenKind kind;
};
constexpr auto kControl = TokenKind::kControl, kUser = TokenKind::kUserDefined;
// In id order, from <|endoftext|> = 151643 in the true vocabulary.
constexpr std::array<AddedToken, 22> kAdded = {{
    {"<|endoftext|>", kControl},      {"<|im_start|>", kControl},
    {"<|im_end|>", kControl},         {"<|object_ref_start|>", kControl},
    {"<|object_ref_end|>", kControl}, {"<|box_start|>", kControl},
    {"<|box_end|>", kControl},        {"<|quad_start|>", kControl},
    {"<|quad_end|>", kControl},       {"<|vision_start|>", kControl},
    {"<|vision_end|>", kControl},     {"<|vision_pad|>", kControl},
    {"<|image_pad|>", kControl},      {"<|video_pad|>", kControl},
    {"<tool_call>", kUser},           {"</tool_call>", kUser},
    {"<|fim_prefix|>", kUser},        {"<|fim_middle|>", kUser},
    {"<|fim_suffix|>", kUser},        {"<|fim_pad|>", kUser},
    {"<|repo_name|>", kUser},         {"<|file_sep|>", kUser},
}};

// The 256 bytes as code points, in the order of their ids: the printable ones first.
std::vector<std::string> byte_tokens() {
  const auto printable = [](int byte) {
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  };
  std::vector<std::string> tokens;
  for (const bool wanted : {true, false}) {
    char32_t stand_in = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      if (printable(byte) != wanted) continue;
      std::string token;
      utf8_append(token, wanted ? static_cast<char32_t>(byte) : stand_in++);
      tokens.push_back(std::move(token));
    }
  }
  return tokens;
}

// Merges of letters, each with a new and unique result: all pairs, then pair + letter, then pair + pair. A
// space may only come first, as the pre-tokenizer leaves it.
class LetterMerges {
 public:
  LetterMerges(size_t n, std::vector<std::string>& tokens) : wanted_(n), tokens_(tokens) {
    for (const char letter : std::string_view("etaoinshrdlcumwfgypbvkjxqz")) letters_.emplace_back(1, letter);
    std::vector<std::string> first = letters_;
    first.insert(first.begin(), "\u0120");  // the space of the byte alphabet
    add_all(first, letters_, &pairs_);
    const std::vector<std::string> pairs = pairs_;
    add_all(pairs, letters_, nullptr);
    std::vector<std::string> inner(
        pairs.begin() + static_cast<ptrdiff_t>(std::min(pairs.size(), letters_.size())), pairs.end());
    add_all(pairs, inner, nullptr);
  }
  std::vector<std::string> take() && { return std::move(merges_); }

 private:
  void add_all(const std::vector<std::string>& left, const std::vector<std::string>& right,
               std::vector<std::string>* results) {
    for (const std::string& a : left) {
      for (const std::string& b : right) {
        if (merges_.size() == wanted_) return;
        merges_.push_back(a + " " + b);
        tokens_.push_back(a + b);
        if (results != nullptr) results->push_back(a + b);
      }
    }
  }

  const size_t wanted_;
  std::vector<std::string>& tokens_;
  std::vector<std::string> letters_, pairs_, merges_;
};

}  // namespace

const std::string_view kChatmlTemplate =
    R"({%- set system_text = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_text = messages[0]['content'] %}
{%- endif %}
{{- '<|im_start|>system\n' + system_text }}
{%- if tools %}
    {{- '\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n' }}
    {{- 'You are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments ' }}
    {{- 'within <tool_call></tool_call> XML tags:\n<tool_call>\n' }}
    {{- '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- elif message.role == 'assistant' and message.tool_calls %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' + tool_call.name + '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role != 'system' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
)";

void set_synthetic_vocabulary(size_t n_vocab, size_t first_added, Metadata& metadata) {
  std::vector<std::string> tokens = byte_tokens();
  CHECK(first_added >= tokens.size() && first_added + kAdded.size() <= n_vocab);
  std::vector<std::string> merges = LetterMerges(first_added - tokens.size(), tokens).take();
  CHECK(tokens.size() == first_added);
  std::vector<int32_t> kinds(tokens.size(), static_cast<int32_t>(TokenKind::kNormal));
  for (const AddedToken& added : kAdded) {
    tokens.emplace_back(added.text);
    kinds.push_back(static_cast<int32_t>(added.kind));
  }
  while (tokens.size() < n_vocab) {
    tokens.push_back("[PAD" + std::to_string(tokens.size()) + "]");
    kinds.push_back(static_cast<int32_t>(TokenKind::kUnused));
  }
  const auto end_of_text = static_cast<uint32_t>(first_added), end_of_turn = end_of_text + 2;
  metadata.set("tokenizer.ggml.model", std::string("gpt2"));
  metadata.set("tokenizer.ggml.pre", std::string("qwen2"));
  metadata.set("tokenizer.ggml.tokens", std::move(tokens));
  metadata.set("tokenizer.ggml.token_type", std::move(kinds));
  metadata.set("tokenizer.ggml.merges", std::move(merges));
  metadata.set("tokenizer.ggml.bos_token_id", end_of_text);
  metadata.set("tokenizer.ggml.eos_token_id", end_of_turn);
  metadata.set("tokenizer.ggml.padding_token_id", end_of_text);
  metadata.set("tokenizer.ggml.add_bos_token", false);
  metadata.set("tokenizer.chat_template", std::string(kChatmlTemplate));
}

}  // namespace ruvltra
