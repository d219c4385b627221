#include "sona/pattern_extract.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/fail.h"
#include "base/utf8.h"

namespace ruvltra {
namespace {

constexpr std::string_view kCut = " ...";

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// The longest beginning of at most n bytes that ends between code points.
std::string_view at_code_point(std::string_view text, size_t n) {
  if (n >= text.size()) return text;
  while (n > 0 && (static_cast<unsigned char>(text[n]) & 0xC0) == 0x80) --n;
  return text.substr(0, n);
}

std::string_view at_word_end(std::string_view text) {
  const auto space = text.find_last_of(" \t\r\n");
  return space == std::string_view::npos ? text : trimmed(text.substr(0, space));
}

std::string title_of(std::string_view task) {
  const std::string_view line = task.substr(0, task.find('\n'));
  return std::string(at_code_point(trimmed(line), kMaxPatternTitleBytes));
}

const TrajectoryStep* first_state(const TrajectoryRecord& record) {
  for (const TrajectoryStep& step : record.body.steps) {
    if (step.kind == TrajectoryStep::Kind::kState && !trimmed(step.text).empty()) return &step;
  }
  return nullptr;
}

bool is_correction(const TrajectoryStep& step) {
  return step.kind == TrajectoryStep::Kind::kAction && step.name == kCorrectionAction &&
         !trimmed(step.text).empty();
}

// Somebody said so, and not only the verdict or the actions.
bool is_explicit(QualitySource source) {
  return source == QualitySource::kPerson || source == QualitySource::kTest ||
         source == QualitySource::kChecker || source == QualitySource::kCaller;
}

// One action is its text; several are a numbered list of names and texts. Corrections are told elsewhere.
std::string action_list(const TrajectoryRecord& record) {
  std::vector<const TrajectoryStep*> actions;
  for (const TrajectoryStep& step : record.body.steps) {
    if (step.kind == TrajectoryStep::Kind::kAction && step.name != kCorrectionAction)
      actions.push_back(&step);
  }
  if (actions.size() == 1 && !trimmed(actions[0]->text).empty())
    return std::string(trimmed(actions[0]->text));
  std::string list;
  for (size_t i = 0; i < actions.size(); ++i) {
    const std::string_view text = trimmed(actions[i]->text);
    list += fmt::format("{}. {}{}{}\n", i + 1, actions[i]->name, text.empty() ? "" : ": ", text);
    if (list.size() > kMaxPatternBytes) break;  // the rest would be cut anyway
  }
  return std::string(trimmed(list));
}

}  // namespace

bool is_failure(const TrajectoryRecord& record) {
  const VerdictKind verdict = record.body.verdict.kind;
  if (record.quality && is_explicit(record.source)) {
    return *record.quality == 0.0 || (verdict == VerdictKind::kFailure && *record.quality < 0.5);
  }
  return verdict == VerdictKind::kFailure || (verdict == VerdictKind::kNone && record.quality == 0.0);
}

Result<std::string> cut_to_tokens(std::string_view text, size_t max_tokens, size_t max_bytes,
                                  const TokenCounter& count_tokens) {
  if (text.size() <= max_bytes) {
    ASSIGN_OR_RETURN(const size_t n, count_tokens(text));
    if (n <= max_tokens) return std::string(text);
  }
  // Bisection keeps: `low` bytes fit. Counts need not grow with every byte; what is returned was counted.
  size_t low = 0, high = std::min(text.size(), max_bytes - kCut.size()) + 1;
  std::string best;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    const std::string candidate = std::string(at_word_end(at_code_point(text, middle))) + std::string(kCut);
    ASSIGN_OR_RETURN(const size_t n, count_tokens(candidate));
    if (n <= max_tokens) {
      low = middle;
      best = candidate;
    } else {
      high = middle;
    }
  }
  return best == kCut ? std::string() : best;
}

std::string describe_change(std::string_view before, std::string_view after) {
  before = trimmed(before);
  after = trimmed(after);
  if (before.empty() || before == after) return std::string(after);
  const auto is_space = [](char c) { return c == ' ' || c == '\n'; };
  const std::string_view shorter = before.size() < after.size() ? before : after;
  const std::string_view longer = before.size() < after.size() ? after : before;
  const size_t limit = shorter.size();
  // Common bytes count up to the last end of a word in them, or all of the shorter text if a word ends there
  // in the longer one.
  size_t head = 0, i = 0;
  for (; i < limit && before[i] == after[i]; ++i) {
    if (is_space(after[i])) head = i + 1;
  }
  if (i == limit && i < longer.size() && is_space(longer[i])) head = i;
  size_t tail = 0;
  for (i = 0; i < limit - head && before[before.size() - 1 - i] == after[after.size() - 1 - i]; ++i) {
    if (is_space(after[after.size() - 1 - i])) tail = i + 1;
  }
  if (i == limit - head && i < longer.size() - head && is_space(longer[longer.size() - 1 - i])) tail = i;
  const std::string_view old_part = trimmed(before.substr(head, before.size() - head - tail));
  const std::string_view new_part = trimmed(after.substr(head, after.size() - head - tail));
  // Where most of it changed, a difference would only be longer than the text.
  if (head + tail < after.size() / 2) return std::string(after);
  if (old_part.empty()) return fmt::format("add \"{}\"", new_part);
  if (new_part.empty()) return fmt::format("leave out \"{}\"", old_part);
  return fmt::format("instead of \"{}\" write \"{}\"", old_part, new_part);
}

Result<std::vector<PatternItem>> extract_patterns(const TrajectoryRecord& record, double quality_threshold,
                                                  const TokenCounter& count_tokens) {
  std::vector<PatternItem> items;
  const TrajectoryStep* task = first_state(record);
  const auto add = [&](PatternKind kind, std::string_view text, double quality,
                       std::string provenance) -> Result<void> {
    if (items.size() == kMaxPatternsPerTrajectory) return {};
    ASSIGN_OR_RETURN(std::string kept, cut_to_tokens(utf8_replace_invalid(trimmed(text)), kMaxPatternTokens,
                                                     kMaxPatternBytes, count_tokens));
    if (kept.empty()) return {};
    PatternItem item;
    item.kind = kind;
    item.text = std::move(kept);
    item.quality = quality;
    item.provenance = std::move(provenance);
    item.origins = {record.id};
    if (task != nullptr) {
      item.title = title_of(task->text);
      item.when = task->text;
    }
    items.push_back(std::move(item));
    return {};
  };
  const auto add_what_was_done = [&](PatternKind kind, double quality) -> Result<void> {
    if (!trimmed(record.body.lesson).empty()) return add(kind, record.body.lesson, quality, "lesson");
    return add(kind, action_list(record), quality, "actions");
  };

  if (is_failure(record)) RETURN_IF_ERROR(add_what_was_done(PatternKind::kAvoid, record.quality.value_or(0)));
  const TrajectoryStep* answer = nullptr;
  bool corrected = false;
  for (const TrajectoryStep& step : record.body.steps) {
    if (is_correction(step)) {
      corrected = true;
      const double quality = step.quality.value_or(1);
      if (quality < quality_threshold) continue;
      RETURN_IF_ERROR(add(PatternKind::kCorrection,
                          describe_change(answer == nullptr ? "" : answer->text, step.text), quality,
                          "correction"));
    } else if (step.kind == TrajectoryStep::Kind::kAction) {
      answer = &step;
    }
  }
  if (!is_failure(record) && record.quality.has_value() && *record.quality >= quality_threshold) {
    // A corrected answer is not one to give again; a lesson about it is.
    if (!corrected || !trimmed(record.body.lesson).empty()) {
      RETURN_IF_ERROR(add_what_was_done(PatternKind::kStrategy, *record.quality));
    }
  }
  return items;
}

}  // namespace ruvltra
