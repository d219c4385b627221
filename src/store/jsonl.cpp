#include "store/jsonl.h"

#include <openssl/evp.h>

#include <cmath>
#include <limits>
#include <set>

#include "base/fail.h"
#include "base/json.h"
#include "store/codec.h"

namespace ruvltra {
namespace {

constexpr JsonLimits kLineLimits = {.max_bytes = 32 << 20, .max_depth = 8, .max_values = 1'000'000};

std::string to_base64(std::string_view bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // and the NUL that it writes
  const int n =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<size_t>(n));
  return out;
}

// Strict: whole groups of four, padding at the end only.
std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0 || text.size() > kLineLimits.max_bytes) return std::nullopt;
  std::string out(text.size() / 4 * 3, '\0');
  const int n =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (n < 0) return std::nullopt;
  size_t padding = 0;
  while (padding < 2 && text.size() > padding && text[text.size() - 1 - padding] == '=') ++padding;
  out.resize(static_cast<size_t>(n) - padding);
  if (to_base64(out) != text) return std::nullopt;  // blanks, or bits beyond the end
  return out;
}

std::string vector_text(std::span<const float> values) {
  const auto bytes = encode_f16(values, "embedding");
  return bytes ? to_base64(*bytes) : std::string();  // what was stored can be stored
}

std::string hash_text(const Sha256Digest& hash) { return hash == Sha256Digest{} ? "" : to_hex(hash); }

template <class T>
void put_optional(Json& out, const char* key, const std::optional<T>& value) {
  if (value) out[key] = *value;
}

// The fields of one object, each asked for by name. Remembers the first that is missing or wrong.
class Fields {
 public:
  Fields(const Json& object, size_t line) : object_(object), line_(line) {
    if (object.is_object()) return;
    error_ = fail("store.import", "line {}: expected an object, found {}", line, object.type_name());
  }

  std::string text(const char* key) {
    const Json* value = find(key);
    if (value == nullptr) return {};
    if (!value->is_string()) return wrong<std::string>(key, "a string", *value);
    return value->get<std::string>();
  }
  int64_t integer(const char* key, int64_t low = std::numeric_limits<int64_t>::min(),
                  int64_t high = std::numeric_limits<int64_t>::max()) {
    const Json* value = find(key);
    if (value == nullptr) return low > 0 ? low : 0;
    const bool fits = value->is_number_integer() &&
                      !(value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(high));
    if (!fits || value->get<int64_t>() < low || value->get<int64_t>() > high) {
      return wrong<int64_t>(key, fmt::format("an integer of {} to {}", low, high).c_str(), *value);
    }
    return value->get<int64_t>();
  }
  uint64_t count(const char* key) {
    const Json* value = find(key);
    if (value == nullptr) return 0;
    if (!value->is_number_unsigned()) return wrong<uint64_t>(key, "an integer of 0 or more", *value);
    return value->get<uint64_t>();
  }
  std::optional<double> number(const char* key) {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number()) return wrong<std::optional<double>>(key, "a number", *value);
    return value->get<double>();
  }
  std::optional<bool> boolean(const char* key) {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) return wrong<std::optional<bool>>(key, "true or false", *value);
    return value->get<bool>();
  }
  RecordId id(const char* key) {
    const auto id = RecordId::parse(text(key));
    if (id) return *id;
    note(fail("store.import", "line {}: {}: expected 32 hexadecimal digits", line_, key));
    return {};
  }
  std::vector<RecordId> ids(const char* key) {
    std::vector<RecordId> out;
    for (const Json& item : array(key)) {
      const auto id = item.is_string() ? RecordId::parse(item.get_ref<const std::string&>())
                                       : Result<RecordId>(fail("store.import", "not a string"));
      if (id) {
        out.push_back(*id);
      } else {
        note(fail("store.import", "line {}: {}: expected ids of 32 hexadecimal digits", line_, key));
      }
    }
    return out;
  }
  Sha256Digest hash(const char* key) {
    Sha256Digest out = {};
    const std::string digits = text(key);
    if (digits.empty()) return out;
    const auto high = RecordId::parse(std::string_view(digits).substr(0, 32));
    const auto low = digits.size() == 64 ? RecordId::parse(std::string_view(digits).substr(32)) : high;
    if (!high || !low || digits.size() != 64) {
      note(fail("store.import", "line {}: {}: expected 64 hexadecimal digits", line_, key));
      return out;
    }
    std::copy(high->bytes.begin(), high->bytes.end(), out.begin());
    std::copy(low->bytes.begin(), low->bytes.end(), out.begin() + 16);
    return out;
  }
  std::vector<float> vector(const char* key) {
    const auto bytes = from_base64(text(key));
    if (!bytes || bytes->size() % 2 != 0) {
      note(fail("store.import", "line {}: {}: expected base64 of 16-bit floats", line_, key));
      return {};
    }
    return decode_f16(*bytes);
  }
  template <class Enum>
  Enum name(const char* key, std::string_view (*name_of)(Enum), Enum last) {
    const std::string found = text(key);
    for (int i = 0; i <= static_cast<int>(last); ++i) {
      if (name_of(static_cast<Enum>(i)) == found) return static_cast<Enum>(i);
    }
    if (!found.empty() || find(key) != nullptr) {
      note(fail("store.import", "line {}: {}: unknown name {}", line_, key, ruvltra::quoted(found)));
    }
    return static_cast<Enum>(0);
  }
  const Json& array(const char* key) {
    static const Json kNone = Json::array();
    const Json* value = find(key);
    if (value == nullptr) return kNone;
    if (value->is_array()) return *value;
    wrong<int>(key, "an array", *value);
    return kNone;
  }
  const Json* find(const char* key) {
    known_.insert(key);
    if (!object_.is_object()) return nullptr;
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  void note(tl::unexpected<Error> error) {
    if (!error_) error_ = std::move(error);
  }
  Result<void> finish() {
    if (!error_) {
      for (const auto& [key, value] : object_.items()) {
        if (known_.contains(key)) continue;
        error_ = fail("store.import", "line {}: unknown field {}", line_, ruvltra::quoted(key));
        break;
      }
    }
    if (error_) return *error_;
    return {};
  }
  size_t line() const { return line_; }

 private:
  template <class T>
  T wrong(const char* key, const char* expected, const Json& found) {
    note(fail("store.import", "line {}: {}: expected {}, found {}", line_, key, expected,
              ruvltra::quoted(to_json(found))));
    return T();
  }

  const Json& object_;
  size_t line_;
  std::set<std::string> known_;
  std::optional<tl::unexpected<Error>> error_;
};

std::string_view split_name(Split split) { return split == Split::kTrain ? "train" : "holdout"; }
std::string_view step_kind_name(TrajectoryStep::Kind kind) {
  return kind == TrajectoryStep::Kind::kState ? "state" : "action";
}
std::string_view about_name(FeedbackRecord::About about) {
  switch (about) {
    case FeedbackRecord::About::kDecision:
      return "decision";
    case FeedbackRecord::About::kTrajectory:
      return "trajectory";
    case FeedbackRecord::About::kRequest:
      break;
  }
  return "request";
}

Json step_json(const TrajectoryStep& step) {
  Json out;
  out["kind"] = step_kind_name(step.kind);
  out["name"] = step.name;
  out["text"] = step.text;
  put_optional(out, "quality", step.quality);
  out["time_us"] = step.time_us;
  out["duration_us"] = step.duration_us;
  if (step.hooks) {
    out["space"] = step.hooks->space;
    out["layers"] = step.hooks->layers;
    out["hooks"] = vector_text(step.hooks->values);
  }
  return out;
}

Result<TrajectoryStep> parse_step(const Json& object, size_t line) {
  Fields in(object, line);
  TrajectoryStep step;
  step.kind = in.name("kind", step_kind_name, TrajectoryStep::Kind::kAction);
  step.name = in.text("name");
  step.text = in.text("text");
  step.quality = in.number("quality");
  step.time_us = in.integer("time_us");
  step.duration_us = in.integer("duration_us");
  HookState hooks;
  hooks.space = in.count("space");
  for (const Json& layer : in.array("layers")) {
    if (!layer.is_number_integer() || layer.get<int64_t>() < 0 || layer.get<int64_t>() > 1'000'000) {
      in.note(fail("store.import", "line {}: layers: expected layer numbers", line));
      break;
    }
    hooks.layers.push_back(layer.get<int>());
  }
  hooks.values = in.vector("hooks");
  if (!hooks.layers.empty() || !hooks.values.empty()) step.hooks = std::move(hooks);
  RETURN_IF_ERROR(in.finish());
  return step;
}

}  // namespace

std::string to_jsonl(const TrajectoryRecord& record) {
  const Trajectory& body = record.body;
  Json out;
  out["kind"] = "trajectory";
  out["id"] = record.id.text();
  out["tenant"] = record.tenant;
  out["session"] = record.session;
  out["task_type"] = body.task_type;
  out["agent"] = body.agent;
  out["verdict"] = verdict_name(body.verdict.kind);
  out["completion"] = body.verdict.completion;
  out["attempts"] = body.verdict.attempts;
  put_optional(out, "said_quality", body.quality);
  out["said_by"] = quality_source_name(body.source);
  out["lesson"] = body.lesson;
  out["created_us"] = body.created_us;
  put_optional(out, "quality", record.quality);
  out["source"] = quality_source_name(record.source);
  out["generation"] = record.generation;
  out["generation_hash"] = hash_text(record.generation_hash);
  out["model_hash"] = hash_text(record.model_hash);
  out["provenance"] = record.provenance;
  out["ended_us"] = record.ended_us;
  out["expires_us"] = record.expires_us;
  out["split"] = split_name(record.split);
  out["steps"] = Json::array();
  for (const TrajectoryStep& step : body.steps) out["steps"].push_back(step_json(step));
  return to_json(out);
}

std::string to_jsonl(const PatternRecord& record) {
  Json out;
  out["kind"] = "pattern";
  out["id"] = record.id.text();
  out["tenant"] = record.tenant;
  out["session"] = record.session;
  out["pattern_kind"] = pattern_kind_name(record.kind);
  out["title"] = record.title;
  out["text"] = record.text;
  out["when"] = record.when;
  out["space"] = record.space;
  out["embedding"] = vector_text(record.embedding);
  out["a"] = record.a;
  out["b"] = record.b;
  out["created_us"] = record.created_us;
  out["last_used_us"] = record.last_used_us;
  out["uses"] = record.uses;
  out["origins"] = Json::array();
  for (const RecordId& origin : record.origins) out["origins"].push_back(origin.text());
  out["provenance"] = record.provenance;
  out["pinned"] = record.pinned;
  return to_json(out);
}

std::string to_jsonl(const FeedbackRecord& record) {
  Json out;
  out["kind"] = "feedback";
  out["id"] = record.id.text();
  out["tenant"] = record.tenant;
  out["feedback_id"] = record.feedback_id;
  out["about"] = about_name(record.about);
  out["target"] = record.target;
  put_optional(out, "quality", record.quality);
  put_optional(out, "success", record.success);
  out["agent"] = record.agent;
  out["correction"] = record.correction;
  out["time_us"] = record.time_us;
  return to_json(out);
}

std::string to_jsonl(const DecisionRecord& record) {
  Json out;
  out["kind"] = "decision";
  out["id"] = record.id.text();
  out["tenant"] = record.tenant;
  out["session"] = record.session;
  out["task"] = record.task;
  out["context"] = record.context;
  out["space"] = record.space;
  out["embedding"] = vector_text(record.embedding);
  out["agent"] = record.agent;
  out["method"] = record.method;
  out["probabilities"] = Json::array();
  for (const AgentProbability& entry : record.probabilities) {
    out["probabilities"].push_back({{"agent", entry.agent}, {"p", entry.p}});
  }
  out["propensity"] = record.propensity;
  out["created_us"] = record.created_us;
  out["outcome_agent"] = record.outcome_agent;
  put_optional(out, "outcome_quality", record.outcome_quality);
  out["output_tokens"] = record.output_tokens;
  out["outcome_us"] = record.outcome_us;
  return to_json(out);
}

namespace {

constexpr int64_t kMaxU32 = std::numeric_limits<uint32_t>::max();

Result<TrajectoryRecord> parse_trajectory(Fields& in) {
  TrajectoryRecord record;
  Trajectory& body = record.body;
  record.id = in.id("id");
  record.session = in.text("session");
  body.task_type = in.text("task_type");
  body.agent = in.text("agent");
  body.verdict.kind = in.name("verdict", verdict_name, VerdictKind::kRecovered);
  body.verdict.completion = in.number("completion").value_or(0);
  body.verdict.attempts = static_cast<int>(in.integer("attempts", 0, 1'000'000'000));
  body.quality = in.number("said_quality");
  body.source = in.name("said_by", quality_source_name, QualitySource::kActions);
  body.lesson = in.text("lesson");
  body.created_us = in.integer("created_us");
  record.quality = in.number("quality");
  record.source = in.name("source", quality_source_name, QualitySource::kActions);
  record.generation = in.count("generation");
  record.generation_hash = in.hash("generation_hash");
  record.model_hash = in.hash("model_hash");
  record.provenance = in.text("provenance");
  record.ended_us = in.integer("ended_us");
  record.expires_us = in.integer("expires_us");
  record.split = in.name("split", split_name, Split::kHoldout);
  for (const Json& step : in.array("steps")) {
    ASSIGN_OR_RETURN(TrajectoryStep parsed, parse_step(step, in.line()));
    body.steps.push_back(std::move(parsed));
  }
  RETURN_IF_ERROR(in.finish());
  return record;
}

Result<PatternRecord> parse_pattern(Fields& in) {
  PatternRecord record;
  record.id = in.id("id");
  record.session = in.text("session");
  record.kind = in.name("pattern_kind", pattern_kind_name, PatternKind::kAvoid);
  record.title = in.text("title");
  record.text = in.text("text");
  record.when = in.text("when");
  record.space = in.count("space");
  record.embedding = in.vector("embedding");
  record.a = in.number("a").value_or(1);
  record.b = in.number("b").value_or(1);
  record.created_us = in.integer("created_us");
  record.last_used_us = in.integer("last_used_us");
  record.uses = static_cast<uint32_t>(in.integer("uses", 0, kMaxU32));
  record.origins = in.ids("origins");
  record.provenance = in.text("provenance");
  record.pinned = in.boolean("pinned").value_or(false);
  if (!(record.a > 0) || !(record.b > 0)) {
    in.note(fail("store.import", "line {}: a, b: expected numbers above 0", in.line()));
  }
  RETURN_IF_ERROR(in.finish());
  return record;
}

Result<FeedbackRecord> parse_feedback(Fields& in) {
  FeedbackRecord record;
  record.id = in.id("id");
  record.feedback_id = in.text("feedback_id");
  record.about = in.name("about", about_name, FeedbackRecord::About::kTrajectory);
  record.target = in.text("target");
  record.quality = in.number("quality");
  record.success = in.boolean("success");
  record.agent = in.text("agent");
  record.correction = in.text("correction");
  record.time_us = in.integer("time_us");
  RETURN_IF_ERROR(in.finish());
  return record;
}

Result<DecisionRecord> parse_decision(Fields& in) {
  DecisionRecord record;
  record.id = in.id("id");
  record.session = in.text("session");
  record.task = in.text("task");
  record.context = in.text("context");
  record.space = in.count("space");
  record.embedding = in.vector("embedding");
  record.agent = in.text("agent");
  record.method = in.text("method");
  for (const Json& item : in.array("probabilities")) {
    Fields entry(item, in.line());
    record.probabilities.push_back({entry.text("agent"), entry.number("p").value_or(0)});
    RETURN_IF_ERROR(entry.finish());
  }
  record.propensity = in.number("propensity").value_or(1);
  record.created_us = in.integer("created_us");
  record.outcome_agent = in.text("outcome_agent");
  record.outcome_quality = in.number("outcome_quality");
  record.output_tokens = static_cast<uint32_t>(in.integer("output_tokens", 0, kMaxU32));
  record.outcome_us = in.integer("outcome_us");
  RETURN_IF_ERROR(in.finish());
  return record;
}

// Parses one kind of record, and encodes it once: what cannot be stored is wrong here already.
template <class Record, class Parse, class Check>
Result<void> take(Fields& in, std::string_view tenant, std::vector<Record>& out, Parse parse, Check check) {
  ASSIGN_OR_RETURN(Record record, parse(in));
  record.tenant = tenant;
  if (const auto good = check(record); !good) {
    return fail("store.import", "line {}: {}", in.line(), good.error().message);
  }
  out.push_back(std::move(record));
  return {};
}

Result<void> parse_line(std::string_view text, size_t line, std::string_view tenant, ImportBatch& batch) {
  const auto object = parse_json(text, fmt::format("line {}", line), kLineLimits);
  if (!object) return fail("store.import", "{}", object.error().message);
  if (!object->is_object()) {
    return fail("store.import", "line {}: expected an object, found {}", line, object->type_name());
  }
  Fields in(*object, line);
  const std::string kind = in.text("kind");
  static_cast<void>(in.text("tenant"));  // whose it was; it belongs to `tenant` now
  if (kind == "trajectory") {
    return take(in, tenant, batch.trajectories, parse_trajectory,
                [](const TrajectoryRecord& record) -> Result<void> {
                  RETURN_IF_ERROR(encode(record, {}));
                  for (const TrajectoryStep& step : record.body.steps) RETURN_IF_ERROR(encode(step));
                  return {};
                });
  }
  const auto check = [](const auto& record) { return encode(record); };
  if (kind == "pattern") return take(in, tenant, batch.patterns, parse_pattern, check);
  if (kind == "feedback") return take(in, tenant, batch.feedback, parse_feedback, check);
  if (kind == "decision") return take(in, tenant, batch.decisions, parse_decision, check);
  return fail("store.import", "line {}: kind: expected trajectory, pattern, feedback or decision, found {}",
              line, ruvltra::quoted(kind));
}

}  // namespace

Result<ImportBatch> parse_jsonl(std::string_view text, std::string_view tenant) {
  ImportBatch batch;
  size_t line = 0;
  while (!text.empty()) {
    ++line;
    const size_t end = text.find('\n');
    std::string_view content = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (content.ends_with('\r')) content.remove_suffix(1);
    if (content.empty()) continue;
    RETURN_IF_ERROR(parse_line(content, line, tenant, batch));
  }
  return batch;
}

}  // namespace ruvltra
