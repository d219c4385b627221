// What a finished trajectory leaves behind for the bank (docs/memory.md).
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"
#include "ruvltra/learning.h"
#include "store/records.h"

namespace ruvltra {

// Tokens of a text read as plain text: no control tokens, none added.
using TokenCounter = std::function<Result<size_t>(std::string_view)>;

inline constexpr size_t kMaxPatternBytes = 8 * 1024;
inline constexpr size_t kMaxPatternTokens = 200;
inline constexpr size_t kMaxPatternTitleBytes = 120;
inline constexpr size_t kMaxPatternsPerTrajectory = 3;

// The step whose text replaces the answer before it: what a person made of it.
inline constexpr std::string_view kCorrectionAction = "correction";

// Where a person, test, checker or caller gave the quality, it is a failure at 0, and below 0.5 if the verdict
// says so as well. Otherwise the verdict says it, or there is none and the quality is 0.
bool is_failure(const TrajectoryRecord& record);

// At most kMaxPatternsPerTrajectory items, best first:
//   failure (is_failure)                 avoid: the lesson, or else the list of actions
//   a correction                         correction: what was changed, from what to what
//   success, quality >= the threshold    strategy: the lesson, or else the list of actions
//   below the threshold, or unknown      none
// A correction is worth its own action's quality, or 1 where nobody said: the person who wrote it meant it.
// Text is cut at kMaxPatternTokens tokens and kMaxPatternBytes bytes; without text there is no item. `when`
// is the first state's text, the title its first line. Errors: those of `count_tokens`.
Result<std::vector<PatternItem>> extract_patterns(const TrajectoryRecord& record, double quality_threshold,
                                                  const TokenCounter& count_tokens);

// `text` if it has at most `max_tokens` tokens and `max_bytes` bytes, else its longest beginning (found by
// bisection, at a code point, and at the end of a word where there is one) with " ..." behind it that does.
Result<std::string> cut_to_tokens(std::string_view text, size_t max_tokens, size_t max_bytes,
                                  const TokenCounter& count_tokens);

// What has to be changed in `before` to get `after`: common beginning and end are left away by whole words.
std::string describe_change(std::string_view before, std::string_view after);

}  // namespace ruvltra
