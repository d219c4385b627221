#include "store/faults/workload.h"

#include "base/check.h"
#include "base/fail.h"
#include "base/sha256.h"
#include "store/faults/samples.h"
#include "store/jsonl.h"

namespace ruvltra {
namespace {

constexpr uint64_t kPeriod = 12;       // of the kinds
constexpr uint64_t kPatternSlots = 8;  // pairs of patterns that are replaced again and again

std::string key_of(const char* kind, const RecordId& id) { return kind + id.text(); }

std::string describe(const GenerationRecord& record) {
  return fmt::format("{} {} {} {} {}", record.number, to_hex(record.content), record.parent, record.file,
                     record.reason);
}

}  // namespace

CrashWorkload::CrashWorkload(uint64_t seed, int writer)
    : seed_(seed), writer_(static_cast<uint64_t>(writer)), tenant_("writer" + std::to_string(writer)) {}

CrashWorkload::Kind CrashWorkload::kind_of(uint64_t k) {
  switch (k % kPeriod) {
    case 2:
      return Kind::kLongTrajectory;
    case 3:
    case 7:
      return Kind::kPatternPair;
    case 4:
      return Kind::kPatternMove;
    case 5:
      return Kind::kFeedback;
    case 6:
      return Kind::kDecision;
    case 8:
      return Kind::kOutcome;  // of the decision two changes before
    case 9:
      return Kind::kPublish;
    case 10:
      return Kind::kValue;
    default:
      return Kind::kTrajectory;
  }
}

uint64_t CrashWorkload::id_number(uint64_t k) const { return k << 8 | writer_; }

TrajectoryRecord CrashWorkload::make_trajectory(uint64_t k) const {
  const bool is_long = kind_of(k) == Kind::kLongTrajectory;
  TrajectoryRecord record = sample_trajectory(id_number(k), tenant_, (k * 7 + seed_) % 5);
  record.body.lesson += std::to_string(seed_);
  if (is_long) record.body.lesson += std::string(9'000 + (k * 131 + seed_) % 20'000, 'l');
  return record;
}

PatternRecord CrashWorkload::make_pattern(uint64_t slot, uint64_t version) const {
  PatternRecord record = sample_pattern(slot << 8 | writer_, tenant_);
  record.uses = static_cast<uint32_t>(version);
  record.text = "version " + std::to_string(version) + " of " + std::to_string(seed_);
  record.embedding = sample_vector(version * 31 + slot + seed_);
  return record;
}

DecisionRecord CrashWorkload::make_decision(uint64_t k, bool with_outcome) const {
  DecisionRecord record = sample_decision(id_number(k), tenant_);
  if (with_outcome) {
    record.outcome_agent = "tester";
    record.outcome_quality = 0.5;
    record.outcome_us = static_cast<int64_t>(k);
  }
  return record;
}

FeedbackRecord CrashWorkload::make_feedback(uint64_t k) const {
  return sample_feedback(id_number(k), tenant_);
}

GenerationRecord CrashWorkload::make_generation(uint64_t k) const {
  GenerationRecord record;
  record.tenant = tenant_;
  record.content[k % 32] = static_cast<uint8_t>(k + seed_);
  record.parent = k / kPeriod;
  record.file = "adapter-" + std::to_string(k);
  record.reason = "instant";
  record.created_us = static_cast<int64_t>(k) + 1;
  return record;
}

std::vector<uint8_t> CrashWorkload::make_value(uint64_t k) const {
  std::vector<uint8_t> bytes(100 + (k * 997 + seed_) % 12'000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(k + i * 31);
  return bytes;
}

Result<void> CrashWorkload::apply(Store& store, uint64_t k) const {
  const auto dropped = [](const auto& result) -> Result<void> {
    if (!result) return tl::unexpected(result.error());
    return {};
  };
  const uint64_t slot = 2 * (k / kPeriod % kPatternSlots);
  switch (kind_of(k)) {
    case Kind::kTrajectory:
    case Kind::kLongTrajectory:
      return store.put_trajectory(make_trajectory(k));
    case Kind::kPatternPair: {
      // Both of a pair always have the same version.
      const std::vector<PatternRecord> pair = {make_pattern(slot, k), make_pattern(slot + 1, k)};
      return store.put_patterns(pair);
    }
    case Kind::kPatternMove: {
      // One goes and another comes.
      const std::vector<PatternId> gone = {make_pattern(1'000 + k - kPeriod, 0).id};
      const std::vector<PatternRecord> come = {make_pattern(1'000 + k, k)};
      return store.change_patterns(gone, come);
    }
    case Kind::kFeedback:
      return dropped(store.put_feedback(make_feedback(k)));
    case Kind::kDecision:
      return store.put_decision(make_decision(k, false));
    case Kind::kOutcome:
      return dropped(store.put_outcome(make_decision(k - 2, true), make_feedback(k)));
    case Kind::kPublish:
      return dropped(store.publish(make_generation(k), k / kPeriod));
    case Kind::kValue:
      return store.put_value("tenant/" + tenant_ + "/state", make_value(k));
  }
  return {};
}

void CrashWorkload::apply(Content& content, uint64_t k) const {
  const uint64_t slot = 2 * (k / kPeriod % kPatternSlots);
  const auto put = [&content](const char* kind, const auto& record) {
    content[key_of(kind, record.id)] = to_jsonl(record);
  };
  switch (kind_of(k)) {
    case Kind::kTrajectory:
    case Kind::kLongTrajectory:
      return put("trajectory ", make_trajectory(k));
    case Kind::kPatternPair:
      put("pattern ", make_pattern(slot, k));
      return put("pattern ", make_pattern(slot + 1, k));
    case Kind::kPatternMove:
      content.erase(key_of("pattern ", make_pattern(1'000 + k - kPeriod, 0).id));
      return put("pattern ", make_pattern(1'000 + k, k));
    case Kind::kFeedback:
      return put("feedback ", make_feedback(k));
    case Kind::kDecision:
      return put("decision ", make_decision(k, false));
    case Kind::kOutcome:
      put("decision ", make_decision(k - 2, true));
      return put("feedback ", make_feedback(k));
    case Kind::kPublish: {
      GenerationRecord record = make_generation(k);
      record.number = k / kPeriod + 1;
      content[fmt::format("generation {}", record.number)] = describe(record);
      return;
    }
    case Kind::kValue:
      content["value"] = to_hex(sha256(make_value(k)));
      return;
  }
}

Result<Content> CrashWorkload::read(Store& store) const {
  Content content;
  bool twice = false;
  const auto add = [&](const std::string& key, std::string line) {
    twice = twice || !content.emplace(key, std::move(line)).second;
    return true;
  };
  RETURN_IF_ERROR(store.each_trajectory(tenant_, [&](const TrajectoryRecord& record) {
    return add(key_of("trajectory ", record.id), to_jsonl(record));
  }));
  RETURN_IF_ERROR(store.each_pattern([&](const PatternRecord& record) {
    return record.tenant != tenant_ || add(key_of("pattern ", record.id), to_jsonl(record));
  }));
  RETURN_IF_ERROR(store.each_feedback(tenant_, [&](const FeedbackRecord& record) {
    return add(key_of("feedback ", record.id), to_jsonl(record));
  }));
  RETURN_IF_ERROR(store.each_decision(tenant_, [&](const DecisionRecord& record) {
    return add(key_of("decision ", record.id), to_jsonl(record));
  }));
  ASSIGN_OR_RETURN(const auto generations, store.history(tenant_, "", 1'024));
  for (const GenerationRecord& record : generations) {
    add(fmt::format("generation {}", record.number), describe(record));
  }
  ASSIGN_OR_RETURN(const auto value, store.value("tenant/" + tenant_ + "/state"));
  if (value) add("value", to_hex(sha256(*value)));
  if (twice) return fail("store.duplicate", "{}: a record is there twice", tenant_);
  return content;
}

}  // namespace ruvltra
