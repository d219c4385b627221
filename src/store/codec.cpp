#include "store/codec.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/bytes.h"
#include "base/fail.h"
#include "base/num.h"
#include "base/sha256.h"
#include "base/utf8.h"

namespace ruvltra {
namespace {

std::string_view as_text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::span<const uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
template <class T>
void append_raw(std::string& out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.append(bytes, sizeof bytes);
}

// As near to a unit vector as rounding to f16 leaves one; false for what is not finite.
bool is_unit(std::span<const float> values) {
  constexpr double kSlack = 0.05;
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return std::abs(std::sqrt(sum) - 1) <= kSlack;
}

// Collects the values of a row; remembers the first thing that is wrong with the record.
class Encoder {
 public:
  void text(const char* field, std::string_view value) {
    add_size(value.size());
    if (!utf8_is_valid(value) && !error_) {
      error_ = fail("store.bad_record", "{}: expected UTF-8, found {}", field, ruvltra::quoted(value));
    }
    values_.push_back(Value::text(value));
  }
  void integer(int64_t value) { values_.push_back(Value::of(value)); }
  void count(uint64_t value) { values_.push_back(Value::of(std::bit_cast<int64_t>(value))); }
  void real(const char* field, double value) {
    if (!std::isfinite(value) && !error_) {
      error_ = fail("store.bad_record", "{}: expected a finite number, found {}", field, value);
    }
    values_.push_back(Value::of(value));
  }
  void real(const char* field, const std::optional<double>& value) {
    if (value) {
      real(field, *value);
    } else {
      values_.emplace_back();
    }
  }
  void blob(std::string_view bytes) {
    add_size(bytes.size());
    values_.push_back(Value::blob(bytes));
  }
  void vector(const char* field, std::span<const float> numbers) {
    auto bytes = encode_f16(numbers, field);
    if (!bytes && !error_) error_ = tl::unexpected(bytes.error());
    blob(bytes ? *bytes : std::string());
  }
  void id(const char* field, const RecordId& id) {
    if (id.empty() && !error_) error_ = fail("store.bad_record", "{}: expected an id, found none", field);
    blob(as_text(id.bytes));
  }
  void check(bool good, const char* field, const char* expected) {
    if (!good && !error_) error_ = fail("store.bad_record", "{}: expected {}", field, expected);
  }
  Result<std::vector<Value>> finish() {
    if (n_bytes_ > kMaxRecordBytes && !error_) {
      error_ =
          fail("store.too_large", "record: expected at most {} bytes, found {}", kMaxRecordBytes, n_bytes_);
    }
    if (error_) return *std::move(error_);
    return std::move(values_);
  }

 private:
  void add_size(size_t n) { n_bytes_ += n; }
  std::vector<Value> values_;
  size_t n_bytes_ = 0;
  std::optional<tl::unexpected<Error>> error_;
};

// Hands out the values of a row in order; remembers the first one that is not what it must be.
class Decoder {
 public:
  explicit Decoder(const Row& row) : row_(row) {}

  std::string text() {
    std::string value = next(Value::Type::kText).bytes;
    check(utf8_is_valid(value));
    return value;
  }
  int64_t integer() { return next(Value::Type::kInteger).integer; }
  uint64_t count() { return std::bit_cast<uint64_t>(integer()); }
  int64_t integer_in(int64_t low, int64_t high) {
    const int64_t value = integer();
    if (value >= low && value <= high) return value;
    good_ = false;
    return low;
  }
  template <class Enum>
  Enum enumerator(Enum last) {
    return static_cast<Enum>(integer_in(0, static_cast<int64_t>(last)));
  }
  double real() {
    const double value = next(Value::Type::kReal).real;
    check(std::isfinite(value));
    return value;
  }
  std::optional<double> optional_real() {
    if (position_ < row_.values.size() && row_.values[position_].type == Value::Type::kNull) {
      ++position_;
      return std::nullopt;
    }
    return real();
  }
  std::string blob() { return next(Value::Type::kBlob).bytes; }
  template <size_t N>
  std::array<uint8_t, N> bytes() {
    std::array<uint8_t, N> out = {};
    const std::string bytes = blob();
    if (bytes.size() == N) {
      std::memcpy(out.data(), bytes.data(), N);
    } else {
      good_ = false;
    }
    return out;
  }
  RecordId id() {
    RecordId id{bytes<16>()};
    if (id.empty()) good_ = false;
    return id;
  }
  std::vector<float> vector() {
    const std::string bytes = blob();
    check(bytes.size() % sizeof(f16_t) == 0);
    std::vector<float> values = decode_f16(bytes);
    for (const float value : values) check(std::isfinite(value));
    return values;
  }
  std::vector<float> embedding() {
    std::vector<float> values = vector();
    if (!values.empty() && values.size() != kEmbeddingDim) good_ = false;
    return values;
  }
  std::vector<float> unit_embedding() {
    std::vector<float> values = embedding();
    check(values.empty() || is_unit(values));
    return values;
  }
  void check(bool good) { good_ = good_ && good; }

  Result<void> finish(const char* table) const {
    if (good_ && position_ == row_.values.size()) return {};
    return fail("store.corrupt", "{} row {}: a value is out of its range", table, row_.row);
  }

 private:
  const Value& next(Value::Type type) {
    static const Value kNothing;
    if (position_ >= row_.values.size() || row_.values[position_].type != type) {
      good_ = false;
      ++position_;
      return kNothing;
    }
    return row_.values[position_++];
  }

  const Row& row_;
  size_t position_ = 0;
  bool good_ = true;
};

constexpr int64_t kMaxU32 = std::numeric_limits<uint32_t>::max();
constexpr int64_t kMaxAttempts = 1'000'000'000, kMaxLayer = 1'000'000;
constexpr size_t kMaxOrigins = 64, kMaxProbabilities = 64, kMaxHookLayers = 64;
constexpr size_t kMaxFeedbackIdBytes = 128;

std::string encode_probabilities(const std::vector<AgentProbability>& list) {
  std::string out;
  for (const AgentProbability& entry : list) {
    append_raw(out, entry.p);
    append_raw(out, static_cast<uint32_t>(entry.agent.size()));
    out += entry.agent;
  }
  return out;
}

std::vector<AgentProbability> decode_probabilities(std::string_view bytes, bool& good) {
  std::vector<AgentProbability> list;
  ByteView view(as_bytes(bytes));
  while (view.remaining() > 0 && list.size() < kMaxProbabilities) {
    const auto p = view.read<double>();
    const auto n = view.read<uint32_t>();
    const auto agent = n ? view.take_text(*n) : std::nullopt;
    if (!p || !agent || !std::isfinite(*p) || !utf8_is_valid(*agent)) break;
    list.push_back({std::string(*agent), *p});
  }
  good = view.remaining() == 0;
  return list;
}

}  // namespace

Result<std::string> encode_f16(std::span<const float> values, std::string_view field) {
  std::string out;
  out.reserve(values.size() * sizeof(f16_t));
  for (const float value : values) {
    const f16_t half = f32_to_f16(value);
    if (!std::isfinite(f16_to_f32(half))) {
      return fail("store.bad_record", "{}: expected numbers of at most 65504, found {}", field, value);
    }
    append_raw(out, half);
  }
  return out;
}

std::vector<float> decode_f16(std::string_view bytes) {
  std::vector<float> out;
  out.reserve(bytes.size() / sizeof(f16_t));
  ByteView view(as_bytes(bytes));
  while (const auto half = view.read<f16_t>()) out.push_back(f16_to_f32(*half));
  return out;
}

Result<std::vector<Value>> encode(const TrajectoryRecord& record, StepRange steps) {
  const Trajectory& body = record.body;
  Encoder out;
  out.id("trajectory.id", record.id);
  out.text("trajectory.tenant", record.tenant);
  out.text("trajectory.session", record.session);
  out.text("trajectory.task_type", body.task_type);
  out.text("trajectory.agent", body.agent);
  out.integer(static_cast<int64_t>(body.verdict.kind));
  out.real("trajectory.verdict.completion", body.verdict.completion);
  out.integer(body.verdict.attempts);
  out.check(body.verdict.attempts >= 0 && body.verdict.attempts <= kMaxAttempts,
            "trajectory.verdict.attempts", "0 to 1,000,000,000");
  out.real("trajectory.quality", body.quality);
  out.integer(static_cast<int64_t>(body.source));
  out.text("trajectory.lesson", body.lesson);
  out.integer(body.created_us);
  out.real("trajectory.final_quality", record.quality);
  out.integer(static_cast<int64_t>(record.source));
  out.count(record.generation);
  out.blob(as_text(record.model_hash));
  out.blob(as_text(record.generation_hash));
  out.text("trajectory.provenance", record.provenance);
  out.integer(record.ended_us);
  out.integer(record.expires_us);
  out.integer(static_cast<int64_t>(record.split));
  out.integer(steps.first);
  out.integer(steps.n);
  out.check(body.steps.size() <= kMaxSteps, "trajectory.steps", "at most 100000 steps");
  return out.finish();
}

Result<TrajectoryRecord> decode_trajectory(const Row& row, StepRange& steps) {
  Decoder in(row);
  TrajectoryRecord record;
  Trajectory& body = record.body;
  record.id = in.id();
  record.tenant = in.text();
  record.session = in.text();
  body.task_type = in.text();
  body.agent = in.text();
  body.verdict.kind = in.enumerator(VerdictKind::kRecovered);
  body.verdict.completion = in.real();
  body.verdict.attempts = static_cast<int>(in.integer_in(0, kMaxAttempts));
  body.quality = in.optional_real();
  body.source = in.enumerator(QualitySource::kActions);
  body.lesson = in.text();
  body.created_us = in.integer();
  record.quality = in.optional_real();
  record.source = in.enumerator(QualitySource::kActions);
  record.generation = in.count();
  record.model_hash = in.bytes<32>();
  record.generation_hash = in.bytes<32>();
  record.provenance = in.text();
  record.ended_us = in.integer();
  record.expires_us = in.integer();
  record.split = in.enumerator(Split::kHoldout);
  steps.first = in.integer_in(0, std::numeric_limits<int64_t>::max() - static_cast<int64_t>(kMaxSteps));
  steps.n = in.integer_in(0, static_cast<int64_t>(kMaxSteps));
  RETURN_IF_ERROR(in.finish("trajectory"));
  return record;
}

Result<std::vector<Value>> encode(const TrajectoryStep& step) {
  Encoder out;
  out.integer(static_cast<int64_t>(step.kind));
  out.text("step.name", step.name);
  out.text("step.text", step.text);
  out.real("step.quality", step.quality);
  out.integer(step.time_us);
  out.integer(step.duration_us);
  out.count(step.hooks ? step.hooks->space : 0);
  std::string layers;
  if (step.hooks) {
    for (const int layer : step.hooks->layers) {
      out.check(layer >= 0 && layer <= kMaxLayer, "step.hooks.layers", "0 to 1,000,000");
      append_raw(layers, static_cast<int32_t>(layer));
    }
    out.check(step.hooks->layers.size() <= kMaxHookLayers, "step.hooks.layers", "at most 64 layers");
    out.check(!step.hooks->layers.empty(), "step.hooks.layers", "at least one layer");
    out.check(step.hooks->values.size() == step.hooks->layers.size() * kEmbeddingDim, "step.hooks.values",
              "256 numbers for each layer");
  }
  out.blob(layers);
  out.vector("step.hooks.values", step.hooks ? step.hooks->values : std::vector<float>());
  return out.finish();
}

Result<TrajectoryStep> decode_step(const Row& row) {
  Decoder in(row);
  TrajectoryStep step;
  step.kind = in.enumerator(TrajectoryStep::Kind::kAction);
  step.name = in.text();
  step.text = in.text();
  step.quality = in.optional_real();
  step.time_us = in.integer();
  step.duration_us = in.integer();
  HookState hooks;
  hooks.space = in.count();
  const std::string layers = in.blob();
  ByteView view(as_bytes(layers));
  while (const auto layer = view.read<int32_t>()) {
    in.check(*layer >= 0 && *layer <= kMaxLayer);
    hooks.layers.push_back(*layer);
  }
  in.check(view.remaining() == 0 && hooks.layers.size() <= kMaxHookLayers);
  hooks.values = in.vector();
  in.check(hooks.values.size() == hooks.layers.size() * kEmbeddingDim);
  if (!hooks.layers.empty()) step.hooks = std::move(hooks);
  RETURN_IF_ERROR(in.finish("step"));
  return step;
}

Result<std::vector<Value>> encode(const PatternRecord& record) {
  Encoder out;
  out.id("pattern.id", record.id);
  out.text("pattern.tenant", record.tenant);
  out.integer(static_cast<int64_t>(record.kind));
  out.text("pattern.title", record.title);
  out.text("pattern.text", record.text);
  out.text("pattern.when", record.when);
  out.count(record.space);
  out.check(record.embedding.empty() || record.embedding.size() == kEmbeddingDim, "pattern.embedding",
            "256 numbers or none");
  out.check(record.embedding.empty() || is_unit(record.embedding), "pattern.embedding",
            "a unit vector: length within 0.05 of 1");
  out.vector("pattern.embedding", record.embedding);
  out.real("pattern.a", record.a);
  out.real("pattern.b", record.b);
  out.integer(record.created_us);
  out.integer(record.last_used_us);
  out.integer(record.uses);
  std::string origins;
  for (const RecordId& origin : record.origins) origins += as_text(origin.bytes);
  out.check(record.origins.size() <= kMaxOrigins, "pattern.origins", "at most 64 ids");
  out.blob(origins);
  out.text("pattern.provenance", record.provenance);
  out.integer(record.cluster);
  out.integer(record.pinned ? 1 : 0);
  out.text("pattern.session", record.session);
  return out.finish();
}

Result<PatternRecord> decode_pattern(const Row& row) {
  Decoder in(row);
  PatternRecord record;
  record.id = in.id();
  record.tenant = in.text();
  record.kind = in.enumerator(PatternKind::kAvoid);
  record.title = in.text();
  record.text = in.text();
  record.when = in.text();
  record.space = in.count();
  record.embedding = in.unit_embedding();
  record.a = in.real();
  record.b = in.real();
  record.created_us = in.integer();
  record.last_used_us = in.integer();
  record.uses = static_cast<uint32_t>(in.integer_in(0, kMaxU32));
  const std::string origins = in.blob();
  ByteView view(as_bytes(origins));
  while (const auto id = view.read<RecordId>()) record.origins.push_back(*id);
  in.check(view.remaining() == 0 && record.origins.size() <= kMaxOrigins);
  record.provenance = in.text();
  record.cluster = static_cast<int32_t>(
      in.integer_in(std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
  record.pinned = in.integer_in(0, 1) == 1;
  record.session = in.text();
  RETURN_IF_ERROR(in.finish("pattern"));
  return record;
}

Result<std::vector<Value>> encode(const ClusterRecord& record) {
  Encoder out;
  out.integer(record.cluster);
  out.count(record.space);
  out.check(record.centroid.size() == kEmbeddingDim, "cluster.centroid", "256 numbers");
  out.vector("cluster.centroid", record.centroid);
  out.count(record.n_members);
  return out.finish();
}

Result<ClusterRecord> decode_cluster(const Row& row) {
  Decoder in(row);
  ClusterRecord record;
  record.cluster = static_cast<int32_t>(
      in.integer_in(std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
  record.space = in.count();
  record.centroid = in.embedding();
  in.check(!record.centroid.empty());
  record.n_members = in.count();
  RETURN_IF_ERROR(in.finish("cluster"));
  return record;
}

Result<std::vector<Value>> encode(const FeedbackRecord& record) {
  Encoder out;
  out.id("feedback.id", record.id);
  out.text("feedback.tenant", record.tenant);
  out.check(record.feedback_id.size() <= kMaxFeedbackIdBytes, "feedback.feedback_id", "at most 128 bytes");
  out.text("feedback.feedback_id", record.feedback_id);
  out.integer(static_cast<int64_t>(record.about));
  out.text("feedback.target", record.target);
  out.real("feedback.quality", record.quality);
  out.integer(record.success ? (*record.success ? 1 : 0) : -1);
  out.text("feedback.agent", record.agent);
  out.text("feedback.correction", record.correction);
  out.integer(record.time_us);
  return out.finish();
}

Result<FeedbackRecord> decode_feedback(const Row& row) {
  Decoder in(row);
  FeedbackRecord record;
  record.id = in.id();
  record.tenant = in.text();
  record.feedback_id = in.text();
  record.about = in.enumerator(FeedbackRecord::About::kTrajectory);
  record.target = in.text();
  record.quality = in.optional_real();
  if (const int64_t success = in.integer_in(-1, 1); success >= 0) record.success = success == 1;
  record.agent = in.text();
  record.correction = in.text();
  record.time_us = in.integer();
  RETURN_IF_ERROR(in.finish("feedback"));
  return record;
}

Result<std::vector<Value>> encode(const DecisionRecord& record) {
  Encoder out;
  out.id("decision.id", record.id);
  out.text("decision.tenant", record.tenant);
  out.text("decision.task", record.task);
  out.text("decision.context", record.context);
  out.count(record.space);
  out.check(record.embedding.empty() || record.embedding.size() == kEmbeddingDim, "decision.embedding",
            "256 numbers or none");
  out.check(record.embedding.empty() || is_unit(record.embedding), "decision.embedding",
            "a unit vector: length within 0.05 of 1");
  out.vector("decision.embedding", record.embedding);
  out.text("decision.agent", record.agent);
  out.text("decision.method", record.method);
  out.check(record.probabilities.size() <= kMaxProbabilities, "decision.probabilities", "at most 64 agents");
  for (const AgentProbability& entry : record.probabilities) {
    out.check(std::isfinite(entry.p), "decision.probabilities", "finite numbers");
    out.check(utf8_is_valid(entry.agent), "decision.probabilities.agent", "UTF-8");
  }
  out.blob(encode_probabilities(record.probabilities));
  out.real("decision.propensity", record.propensity);
  out.integer(record.created_us);
  out.text("decision.outcome_agent", record.outcome_agent);
  out.real("decision.outcome_quality", record.outcome_quality);
  out.integer(record.output_tokens);
  out.integer(record.outcome_us);
  out.text("decision.session", record.session);
  return out.finish();
}

Result<DecisionRecord> decode_decision(const Row& row) {
  Decoder in(row);
  DecisionRecord record;
  record.id = in.id();
  record.tenant = in.text();
  record.task = in.text();
  record.context = in.text();
  record.space = in.count();
  record.embedding = in.unit_embedding();
  record.agent = in.text();
  record.method = in.text();
  bool good = true;
  record.probabilities = decode_probabilities(in.blob(), good);
  in.check(good);
  record.propensity = in.real();
  record.created_us = in.integer();
  record.outcome_agent = in.text();
  record.outcome_quality = in.optional_real();
  record.output_tokens = static_cast<uint32_t>(in.integer_in(0, kMaxU32));
  record.outcome_us = in.integer();
  record.session = in.text();
  RETURN_IF_ERROR(in.finish("decision"));
  return record;
}

Result<std::vector<Value>> encode(const GenerationRecord& record) {
  Encoder out;
  out.text("generation.tenant", record.tenant);
  out.text("generation.session", record.session);
  out.count(record.number);
  out.blob(as_text(record.content));
  out.count(record.parent);
  out.text("generation.file", record.file);
  out.text("generation.reason", record.reason);
  out.text("generation.report", record.report);
  out.integer(record.created_us);
  return out.finish();
}

Result<GenerationRecord> decode_generation(const Row& row) {
  Decoder in(row);
  GenerationRecord record;
  record.tenant = in.text();
  record.session = in.text();
  record.number = in.count();
  record.content = in.bytes<32>();
  record.parent = in.count();
  record.file = in.text();
  record.reason = in.text();
  record.report = in.text();
  record.created_us = in.integer();
  RETURN_IF_ERROR(in.finish("generation"));
  return record;
}

std::vector<Value> encode_scope(const ScopeRow& scope) {
  return {Value::text(scope.tenant), Value::text(scope.session),
          Value::of(std::bit_cast<int64_t>(scope.live)), Value::of(std::bit_cast<int64_t>(scope.last))};
}

Result<ScopeRow> decode_scope(const Row& row) {
  Decoder in(row);
  ScopeRow scope;
  scope.tenant = in.text();
  scope.session = in.text();
  scope.live = in.count();
  scope.last = in.count();
  RETURN_IF_ERROR(in.finish("scope"));
  return scope;
}

std::vector<Value> encode_meta(const MetaRow& meta) {
  return {Value::text(meta.name), Value::of(meta.count), Value::of(meta.last),
          Value::blob(as_text(meta.sums))};
}

Result<MetaRow> decode_meta(const Row& row) {
  Decoder in(row);
  MetaRow meta;
  meta.name = in.text();
  meta.count = in.integer();
  meta.last = in.integer();
  meta.sums = in.bytes<16>();
  RETURN_IF_ERROR(in.finish("meta"));
  return meta;
}

std::vector<Value> encode_value(std::string_view name, std::string_view bytes) {
  return {Value::text(name), Value::blob(bytes)};
}

Result<NamedValue> decode_value(const Row& row) {
  Decoder in(row);
  NamedValue value;
  value.name = in.text();
  value.bytes = in.blob();
  RETURN_IF_ERROR(in.finish("value"));
  return value;
}

uint64_t vector_hash(const PatternRecord& record) {
  std::string bytes(as_text(record.id.bytes));
  append_raw(bytes, record.space);
  for (const float value : record.embedding) append_raw(bytes, f32_to_f16(value));
  const Sha256Digest digest = sha256(as_bytes(bytes));
  uint64_t hash = 0;
  std::memcpy(&hash, digest.data(), sizeof hash);
  return hash;
}

}  // namespace ruvltra
