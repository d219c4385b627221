#include "quant/format.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "quant/formats.h"

namespace ruvltra {
namespace {

using namespace quant;

constexpr std::array<Format, 10> kFormats = {{
    {TensorType::kF32, "F32", 1, 4, decode_f32, encode_f32, is_finite_f32},
    {TensorType::kF16, "F16", 1, 2, decode_f16, encode_f16, is_finite_f16},
    {TensorType::kQ4_0, "Q4_0", 32, 18, decode_q4_0, encode_q4_0, is_finite_q4_0},
    {TensorType::kQ5_0, "Q5_0", 32, 22, decode_q5_0, encode_q5_0, is_finite_q5_0},
    {TensorType::kQ5_1, "Q5_1", 32, 24, decode_q5_1, encode_q5_1, is_finite_q5_1},
    {TensorType::kQ8_0, "Q8_0", 32, 34, decode_q8_0, encode_q8_0, is_finite_q8_0},
    {TensorType::kQ4_K, "Q4_K", 256, 144, decode_q4_k, encode_q4_k, is_finite_q4_k},
    {TensorType::kQ5_K, "Q5_K", 256, 176, decode_q5_k, encode_q5_k, is_finite_q5_k},
    {TensorType::kQ6_K, "Q6_K", 256, 210, decode_q6_k, encode_q6_k, is_finite_q6_k},
    {TensorType::kBF16, "BF16", 1, 2, decode_bf16, encode_bf16, is_finite_bf16},
}};

// By id, including the ones withdrawn from the format.
constexpr std::array<std::string_view, 40> kTypeNames = {
    "F32",      "F16",      "Q4_0",    "Q4_1",  "Q4_2",       "Q4_3",       "Q5_0",       "Q5_1",
    "Q8_0",     "Q8_1",     "Q2_K",    "Q3_K",  "Q4_K",       "Q5_K",       "Q6_K",       "Q8_K",
    "IQ2_XXS",  "IQ2_XS",   "IQ3_XXS", "IQ1_S", "IQ4_NL",     "IQ3_S",      "IQ2_S",      "IQ4_XS",
    "I8",       "I16",      "I32",     "I64",   "F64",        "IQ1_M",      "BF16",       "Q4_0_4_4",
    "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",   "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4"};

char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

}  // namespace

std::span<const Format> all_formats() { return kFormats; }

const Format* find_format(uint32_t gguf_type_id) {
  const auto found = std::ranges::find_if(
      kFormats, [&](const Format& format) { return static_cast<uint32_t>(format.type) == gguf_type_id; });
  return found == kFormats.end() ? nullptr : &*found;
}

const Format* find_format(std::string_view name) {
  const auto found = std::ranges::find_if(kFormats, [&](const Format& format) {
    return std::ranges::equal(name, format.name, {}, upper, upper);
  });
  return found == kFormats.end() ? nullptr : &*found;
}

const Format& format_of(TensorType type) {
  const Format* format = find_format(static_cast<uint32_t>(type));
  CHECK(format != nullptr);
  return *format;
}

std::string_view gguf_type_name(uint32_t gguf_type_id) {
  return gguf_type_id < kTypeNames.size() ? kTypeNames[gguf_type_id] : std::string_view();
}

}  // namespace ruvltra
