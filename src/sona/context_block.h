// Bank items as a piece of a prompt: quoted data that cannot pass for anything else (docs/memory.md).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "ruvltra/learning.h"
#include "sona/pattern_extract.h"

namespace ruvltra {

// Text of unknown origin with everything taken out that could act outside it: control characters and
// bidirectional overrides go, every kind of line break becomes '\n', and the marks around control tokens
// ("<|", "|>") are taken apart, so that not even a tokenizer asked to would find one. Invalid UTF-8 becomes
// U+FFFD. Idempotent.
std::string neutralised(std::string_view text);

// The block of these items: fixed wording, every line of an item behind "> ". A line that does not begin so
// is ours, whatever an item holds. Items stand in the order of their ids, so that a set has one text.
std::string format_block(std::span<const PatternHit> items);

// The best of `hits` (best first), at most max_items of them, that fit into max_tokens, as a block; in place
// of an item that does not fit the next is tried. Errors: those of `count_tokens`.
Result<ContextBlock> make_block(std::span<const PatternHit> hits, size_t max_items, size_t max_tokens,
                                const TokenCounter& count_tokens);

}  // namespace ruvltra
