#include "ruvltra/learning.h"

#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>

#include "base/check.h"
#include "base/fail.h"
#include "base/record_id.h"

namespace ruvltra {
namespace {

constexpr size_t kTimeBytes = 8;

// Bytes of the kernel's generator: a process that was forked or restarted never repeats them.
void fill_random(uint8_t* out, size_t n) {
  size_t done = 0;
  while (done < n) {
    const ssize_t got = getrandom(out + done, n - done, 0);
    if (got < 0 && errno == EINTR) continue;
    CHECK(got > 0);
    done += static_cast<size_t>(got);
  }
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

int64_t now_us() {
  using std::chrono::duration_cast, std::chrono::microseconds, std::chrono::system_clock;
  return duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
}

RecordId new_record_id() {
  // The clock may stand still or be set back; the time in the id never does.
  static std::atomic<uint64_t> last{0};
  uint64_t previous = last.load();
  uint64_t time = 0;
  do {
    time = std::max(static_cast<uint64_t>(now_us()), previous + 1);
  } while (!last.compare_exchange_weak(previous, time));
  RecordId id;
  for (size_t i = 0; i < kTimeBytes; ++i)
    id.bytes[i] = static_cast<uint8_t>(time >> 8 * (kTimeBytes - 1 - i));
  fill_random(id.bytes.data() + kTimeBytes, id.bytes.size() - kTimeBytes);
  return id;
}

std::string RecordId::text() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(2 * bytes.size());
  for (const uint8_t byte : bytes) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

Result<RecordId> RecordId::parse(std::string_view text) {
  RecordId id;
  const auto bad = [&] {
    return fail(ErrorKind::kUsage, "learning.bad_id", "id: expected 32 hexadecimal digits, found {}",
                quoted(text));
  };
  if (text.size() != 2 * id.bytes.size()) return bad();
  for (size_t i = 0; i < id.bytes.size(); ++i) {
    const int high = hex_value(text[2 * i]);
    const int low = hex_value(text[2 * i + 1]);
    if (high < 0 || low < 0) return bad();
    id.bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return id;
}

std::string_view verdict_name(VerdictKind kind) {
  switch (kind) {
    case VerdictKind::kSuccess:
      return "success";
    case VerdictKind::kFailure:
      return "failure";
    case VerdictKind::kPartial:
      return "partial";
    case VerdictKind::kRecovered:
      return "recovered";
    case VerdictKind::kNone:
      break;
  }
  return "none";
}

std::optional<double> Verdict::quality() const {
  switch (kind) {
    case VerdictKind::kSuccess:
      return 1.0;
    case VerdictKind::kFailure:
      return 0.0;
    case VerdictKind::kPartial:
      return completion;
    case VerdictKind::kRecovered:
      return std::max(0.7, 0.95 - 0.05 * (attempts - 1));
    case VerdictKind::kNone:
      break;
  }
  return std::nullopt;
}

std::string_view quality_source_name(QualitySource source) {
  switch (source) {
    case QualitySource::kPerson:
      return "person";
    case QualitySource::kTest:
      return "test";
    case QualitySource::kChecker:
      return "checker";
    case QualitySource::kCaller:
      return "caller";
    case QualitySource::kVerdict:
      return "verdict";
    case QualitySource::kActions:
      return "actions";
    case QualitySource::kNone:
      break;
  }
  return "none";
}

std::string_view pattern_kind_name(PatternKind kind) {
  switch (kind) {
    case PatternKind::kCorrection:
      return "correction";
    case PatternKind::kAvoid:
      return "avoid";
    case PatternKind::kStrategy:
      break;
  }
  return "strategy";
}

Result<PatternKind> parse_pattern_kind(std::string_view name) {
  for (const PatternKind kind : {PatternKind::kStrategy, PatternKind::kCorrection, PatternKind::kAvoid}) {
    if (name == pattern_kind_name(kind)) return kind;
  }
  return fail(ErrorKind::kUsage, "learning.pattern_kind",
              "kind: expected strategy, correction or avoid, found {}", quoted(name));
}

Trajectory::Trajectory(std::string type) : task_type(std::move(type)), created_us(now_us()) {}

Trajectory& Trajectory::add_state(State state) {
  TrajectoryStep& step = steps.emplace_back();
  step.kind = TrajectoryStep::Kind::kState;
  step.text = std::move(state.text);
  step.hooks = std::move(state.hooks);
  step.time_us = state.time_us != 0 ? state.time_us : now_us();
  return *this;
}

Trajectory& Trajectory::add_action(std::string name, std::optional<double> action_quality, std::string text) {
  TrajectoryStep& step = steps.emplace_back();
  step.kind = TrajectoryStep::Kind::kAction;
  step.name = std::move(name);
  step.text = std::move(text);
  step.quality = action_quality;
  step.time_us = now_us();
  return *this;
}

Trajectory& Trajectory::set_verdict(Verdict value) {
  verdict = value;
  return *this;
}

Trajectory& Trajectory::set_quality(double value, QualitySource who) {
  quality = value;
  source = who;
  return *this;
}

Trajectory& Trajectory::set_lesson(std::string text) {
  lesson = std::move(text);
  return *this;
}

Trajectory& Trajectory::set_agent(std::string name) {
  agent = std::move(name);
  return *this;
}

namespace {

std::optional<double> mean_action_quality(const std::vector<TrajectoryStep>& steps) {
  double sum = 0;
  size_t n = 0;
  for (const TrajectoryStep& step : steps) {
    if (step.kind != TrajectoryStep::Kind::kAction || !step.quality) continue;
    sum += *step.quality;
    ++n;
  }
  if (n == 0) return std::nullopt;
  return sum / static_cast<double>(n);
}

}  // namespace

std::optional<double> Trajectory::final_quality() const {
  if (quality) return quality;
  if (const auto said = verdict.quality()) return said;
  return mean_action_quality(steps);
}

QualitySource Trajectory::final_source() const {
  if (quality) return source;
  if (verdict.quality()) return QualitySource::kVerdict;
  if (mean_action_quality(steps)) return QualitySource::kActions;
  return QualitySource::kNone;
}

}  // namespace ruvltra
