// What the bank takes: ranges and lengths, said in one place. All errors but the last are usage errors.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/learning.h"
#include "sona/pattern_extract.h"

namespace ruvltra {

Result<void> check_scope(const Scope& scope);  // bank.tenant
Result<void> check_quality(double quality);    // bank.quality: 0..1, no NaN
// bank.quality, bank.empty_text, bank.text_too_long, bank.title_too_long, bank.utf8
Result<void> check_item(const PatternItem& item, const TokenCounter& count_tokens);
Result<void> check_embedding(std::span<const float> values);  // bank.embedding (input): a unit vector

// Whether the store says that a row is not there any more, or damaged.
bool is_lost(const Error& error);
// What an item's embedding is made of.
std::string embedded_text(std::string_view when, std::string_view title, std::string_view text);
// As the store keeps a vector (f16): what is indexed now and what is read back later are the same bytes.
std::vector<float> rounded(std::vector<float> values);

}  // namespace ruvltra
