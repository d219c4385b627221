#include "sona/scope_state.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "base/container.h"
#include "base/fail.h"
#include "base/file.h"
#include "sona/lora_fit.h"
#include "sona/token_record_file.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 31;
constexpr size_t kMaxSeen = 8192, kMaxBanned = 1024, kMaxGains = 4096;
constexpr double kOutcomeMemory = 0.95;
// What numbers of a file may be: far above what can be reached, far below what overflows.
constexpr double kMostTokens = 1e15;
constexpr uint64_t kMostTimeUs = uint64_t{1} << 62;
constexpr uint32_t kScopeTag = section_tag("SCOP"), kBasisTag = section_tag("BASI");
constexpr uint32_t kCandidateTag = section_tag("CAND"), kAnchorTag = section_tag("ANCH");
constexpr uint32_t kTotalTag = section_tag("TOTL"), kRunTag = section_tag("FRUN");
constexpr uint32_t kSlopeTag = section_tag("SLOP");
constexpr uint32_t kCountTag = section_tag("CNTS"), kNumberTag = section_tag("NUMS");
constexpr uint32_t kSeenTag = section_tag("SEEN"), kBannedTag = section_tag("BANN");
constexpr uint32_t kTimeTag = section_tag("TIME"), kGainTag = section_tag("GAIN"),
                   kLiveTag = section_tag("LIVE");
// Of tasks that are over: texts, their NLL and owners, names, and the records under 'k'. Absent: there are
// none.
constexpr char kKeptPool = 'k';
constexpr uint32_t kKeptTag = section_tag("KEPT"), kKeptNllTag = section_tag("KNLL");
constexpr uint32_t kKeptOwnerTag = section_tag("KOWN"), kKeptNameTag = section_tag("KNAM");
constexpr uint32_t kKeptLengthTag = section_tag("KLEN"), kOldTag = section_tag("OLDT");
constexpr uint32_t kTaskTag = section_tag("TASK"), kFromTag = section_tag("FROM");
constexpr char kPools[] = {'t', 'v', 'h'};
constexpr size_t kCounts = 11, kNumbers = 11;

uint32_t ends_tag(char pool) { return section_tag({pool, 'E', 'N', 'D', '\0'}); }
uint32_t weights_tag(char pool) { return section_tag({pool, 'W', 'G', 'T', '\0'}); }
uint32_t owners_tag(char pool) { return section_tag({pool, 'O', 'W', 'N', '\0'}); }

std::vector<uint8_t> scope_bytes(const Scope& scope) {
  std::vector<uint8_t> bytes(scope.tenant.begin(), scope.tenant.end());
  bytes.push_back(0);
  bytes.insert(bytes.end(), scope.session.begin(), scope.session.end());
  return bytes;
}

std::string hash_of(const std::string& text) {
  return to_hex(sha256({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
}

TokenRecords::Options pool_options(const StateShape& shape, size_t n_tokens) {
  return {.n_features = shape.n_features,
          .n_rows = shape.n_rows,
          .capacity = n_tokens,
          .top_k = shape.top_k,
          .max_ids = n_tokens * (std::min(2 * shape.canary_k, shape.n_rows) + 1)};
}

template <class Container_>
std::vector<uint8_t> digest_bytes(const Container_& digests) {
  std::vector<uint8_t> bytes;
  for (const Sha256Digest& digest : digests) bytes.insert(bytes.end(), digest.begin(), digest.end());
  return bytes;
}

Result<std::vector<Sha256Digest>> read_digests(const Container& container, uint32_t tag, size_t most) {
  ASSIGN_OR_RETURN(const auto bytes, container.section(tag, SectionType::kBytes));
  constexpr size_t size = sizeof(Sha256Digest);
  if (bytes.size() % size != 0 || bytes.size() / size > most)
    return fail("state.values", "training state: expected at most {} digests, found {} bytes", most,
                bytes.size());
  std::vector<Sha256Digest> digests(bytes.size() / size);
  for (size_t i = 0; i < digests.size(); ++i) std::copy_n(bytes.data() + i * size, size, digests[i].data());
  return digests;
}

}  // namespace

// ---- Records.

RecordPool::RecordPool(const TokenRecords::Options& options)
    : options_(options), records_(std::make_unique<TokenRecords>(options)) {}

void RecordPool::append(const TokenRecords& from, size_t begin, size_t end, float weight, uint64_t owner) {
  for (size_t i = begin; i < end && records_->copy(from, i); ++i)
    examples_.push_back({static_cast<uint32_t>(records_->size() - 1), weight});
  if (records_->size() == begins_.back()) return;
  begins_.push_back(static_cast<uint32_t>(records_->size()));
  weights_.push_back(weight);
  owners_.push_back(owner);
}

// Copies the texts for which keeps(text) holds into memory of their own; how many went.
template <class F>
size_t RecordPool::keep_if(F&& keeps) {
  const auto old = std::move(records_);
  const auto begins = std::exchange(begins_, {0});
  const auto weights = std::exchange(weights_, {});
  const auto owners = std::exchange(owners_, {});
  const size_t n_used = std::exchange(n_used_, 0), n_old = std::exchange(n_old_, 0);
  records_ = std::make_unique<TokenRecords>(options_);
  examples_.clear();
  for (size_t text = 0; text < weights.size(); ++text) {
    if (!keeps(text)) continue;
    append(*old, begins[text], begins[text + 1], weights[text], owners[text]);
    const auto before = [&](size_t mark) {
      return std::clamp(static_cast<uint32_t>(mark), begins[text], begins[text + 1]) - begins[text];
    };
    n_used_ += before(n_used);
    n_old_ += before(n_old);
  }
  return weights.size() - weights_.size();
}

void RecordPool::drop_oldest() {
  const auto begins = begins_;
  keep_if([&](size_t text) { return begins.back() - begins[text] <= options_.capacity / 2; });
}

size_t RecordPool::forget(uint64_t owner) {
  const auto owners = owners_;
  if (std::find(owners.begin(), owners.end(), owner) == owners.end()) return 0;
  return keep_if([&](size_t text) { return owners[text] != owner; });
}

void RecordPool::add(const TokenRecords& text, float weight, uint64_t owner) {
  const size_t n = std::min(text.size(), options_.capacity / 2);
  size_t n_ids = 0, n_held = 0;
  for (size_t i = 0; i < n; ++i) n_ids += text[i].ids.size();
  for (size_t i = 0; i < records_->size(); ++i) n_held += (*records_)[i].ids.size();
  if (size() + n > options_.capacity || n_held + n_ids > options_.max_ids) drop_oldest();
  append(text, 0, n, weight, owner);
}

RecordPool::Columns RecordPool::columns() const {
  return {{begins_.begin() + 1, begins_.end()}, weights_, owners_};
}

bool RecordPool::restore(const Columns& columns, size_t n_used, size_t n_of_old_tasks) {
  const size_t n_texts = columns.ends.size();
  if (columns.weights.size() != n_texts || columns.owners.size() != n_texts || n_used > records_->size() ||
      n_of_old_tasks > records_->size())
    return false;
  for (size_t text = 0; text < n_texts; ++text) {
    const float weight = columns.weights[text];
    if (columns.ends[text] <= begins_.back() || columns.ends[text] > records_->size() || !(weight > 0) ||
        weight > 20)
      return false;
    for (uint32_t i = begins_.back(); i < columns.ends[text]; ++i) examples_.push_back({i, weight});
    begins_.push_back(columns.ends[text]);
  }
  weights_ = columns.weights;
  owners_ = columns.owners;
  n_used_ = n_used;
  n_old_ = n_of_old_tasks;
  return begins_.back() == records_->size();
}

// ---- Baselines and watches.

PageHinkley new_shift_watch() {
  PageHinkley::Options options;
  options.threshold = 14;
  options.memory = 0.995;
  options.most_correlation = 0.8;
  return PageHinkley(options);
}

void OutcomeBaseline::add(double quality) {
  const double rate = std::max(1 / (n + 1), 1 - kOutcomeMemory), away = quality - mean;
  ++n;
  mean += rate * away;
  variance = (1 - rate) * (variance + rate * away * away);
}

bool RegressionWatch::add(double x) {
  constexpr double kMemory = 0.99, kSlack = 0.5, kThreshold = 8, kClip = 6, kLeastDeviation = 0.01;
  constexpr double kWarmUp = 4;
  const double rate = std::max(1 / (n_ + 1), 1 - kMemory), away = x - mean_;
  ++n_;
  mean_ += rate * away;
  variance_ = (1 - rate) * (variance_ + rate * away * away);
  if (n_ <= kWarmUp) return false;
  const double deviation = std::max(std::sqrt(variance_), kLeastDeviation);
  sum_ = std::max(0.0, sum_ + std::clamp(x / deviation, -kClip, kClip) - kSlack);
  return sum_ > kThreshold;
}

// ---- State.

StateShape StateShape::of(const LearningSpace& space) {
  const AdapterBasis& basis = *space.basis();
  return {.model = basis.spec().model,
          .basis = basis.hash(),
          .n_features = basis.n_features(),
          .d = basis.d(),
          .n_rows = space.head().n_rows(),
          .top_k = space.top_k(),
          .canary_k = static_cast<size_t>(space.canary().k_state().top_k)};
}

ScopeState::ScopeState(const Scope& of_scope, const StateShape& of_shape, double ewc_lambda,
                       size_t max_train_tokens, size_t max_held_out_tokens)
    : scope(of_scope),
      shape(of_shape),
      train(pool_options(shape, max_train_tokens)),
      validation(pool_options(shape, max_held_out_tokens / 2)),
      held_out(pool_options(shape, max_held_out_tokens)),
      kept(pool_options(shape, kMaxKeptTasks * kMaxKeptTokens)),
      ewc(shape.n_features * shape.d, ewc_lambda) {}

bool ScopeState::remember(const Sha256Digest& digest) {
  if (!seen_set.insert(digest).second) return false;
  seen.push_back(digest);
  if (seen.size() > kMaxSeen) {
    seen_set.erase(seen.front());
    seen.pop_front();
  }
  return true;
}

void ScopeState::clear_blocks() {
  block_gains.clear();
  block_live.clear();
  gain_tokens = gain_texts = 0;
}

void ScopeState::end_task(const std::string& name, const KeptTasks::Nll& nll) {
  const auto begins = held_out.begins();
  const auto owners = held_out.columns().owners;
  // Tasks end between texts.
  const auto first = static_cast<size_t>(
      std::lower_bound(begins.begin(), begins.end(), held_out.n_of_old_tasks()) - begins.begin());
  kept.add(name, held_out.records(), begins.subspan(first), std::span(owners).subspan(first), nll);
  held_out.end_task();
}

void ScopeState::ban(const Sha256Digest& hash) {
  if (is_banned(hash)) return;
  banned.push_back(hash);
  if (banned.size() > kMaxBanned) banned.pop_front();
}

bool ScopeState::is_banned(const Sha256Digest& hash) const {
  return std::find(banned.begin(), banned.end(), hash) != banned.end();
}

void ScopeState::add_block(double nll_live, double nll_candidate, size_t n_tokens, bool begins_text) {
  gain_tokens += static_cast<double>(n_tokens);
  gain_texts += begins_text;
  block_live.push_back(nll_live);
  block_gains.push_back(nll_live - nll_candidate);
  if (block_gains.size() <= kMaxGains) return;
  block_live.erase(block_live.begin());
  block_gains.erase(block_gains.begin());
}

uint64_t owner_of(const std::string& session) {
  if (session.empty()) return 0;
  const auto digest = sha256({reinterpret_cast<const uint8_t*>(session.data()), session.size()});
  uint64_t owner = 0;
  std::memcpy(&owner, digest.data(), sizeof owner);
  return std::max<uint64_t>(owner, 1);
}

std::string state_prefix(const std::string& tenant) { return hash_of(tenant) + "-"; }

std::filesystem::path state_file(const std::filesystem::path& folder, const Scope& scope) {
  return folder / (state_prefix(scope.tenant) + hash_of(scope.session) + ".state");
}

// f(writer), while everything the writer borrows is there.
template <class F>
auto ScopeState::with_writer(F&& f) const {
  ContainerWriter writer(
      {.kind = ContainerKind::kTrainingState, .version = 1, .flags = 0, .model = shape.model});
  const auto name = scope_bytes(scope);
  const Ewc::State ewc_state = ewc.state();
  const std::vector<uint64_t> counts = {train.n_used(),
                                        validation.n_used(),
                                        held_out.n_used(),
                                        n_replayed,
                                        static_cast<uint64_t>(frozen_until_us),
                                        static_cast<uint64_t>(last_background_us),
                                        n_new_signals,
                                        tokens_since_boundary,
                                        ewc_state.n_batches,
                                        ewc_state.has_anchor ? 1u : 0u,
                                        candidate.empty() ? 0u : 1u};
  const std::vector<double> numbers = {beta,
                                       n_seen,
                                       outcomes.n,
                                       outcomes.mean,
                                       outcomes.variance,
                                       outcomes_since_publish.n,
                                       outcomes_since_publish.mean,
                                       outcomes_since_publish.variance,
                                       quality_before,
                                       gain_tokens,
                                       gain_texts};
  const auto seen_bytes = digest_bytes(seen), banned_bytes = digest_bytes(banned);
  std::vector<uint64_t> times;
  for (const int64_t time : publishes) times.push_back(static_cast<uint64_t>(time));
  writer.add_bytes(kScopeTag, SectionType::kBytes, name);
  writer.add_bytes(kBasisTag, SectionType::kBytes, shape.basis);
  writer.add(kCandidateTag, candidate);
  writer.add(kAnchorTag, ewc_state.anchor);
  writer.add(kTotalTag, ewc_state.total);
  writer.add(kRunTag, ewc_state.run);
  writer.add(kSlopeTag, ewc_state.slope);
  writer.add(kCountTag, counts);
  writer.add(kNumberTag, numbers);
  writer.add_bytes(kSeenTag, SectionType::kBytes, seen_bytes);
  writer.add_bytes(kBannedTag, SectionType::kBytes, banned_bytes);
  writer.add(kTimeTag, times);
  writer.add(kGainTag, block_gains);
  writer.add(kLiveTag, block_live);
  writer.add_bytes(kTaskTag, SectionType::kBytes,
                   {reinterpret_cast<const uint8_t*>(task.data()), task.size()});
  writer.add_bytes(kFromTag, SectionType::kBytes, candidate_from);
  std::vector<uint32_t> kept_texts, kept_lengths;
  std::vector<double> kept_nll;
  std::vector<uint64_t> kept_owners;
  std::string kept_names;
  std::optional<RecordColumns> kept_records;
  const std::vector<uint64_t> old_tasks = {held_out.n_of_old_tasks()};
  writer.add(kOldTag, old_tasks);
  if (kept.records() != nullptr) {
    for (const KeptText& text : kept.texts()) {
      kept_texts.insert(kept_texts.end(), {text.task, text.end});
      kept_nll.push_back(text.nll);
      kept_owners.push_back(text.owner);
    }
    for (const std::string& task_name : kept.names()) {
      kept_lengths.push_back(static_cast<uint32_t>(task_name.size()));
      kept_names += task_name;
    }
    writer.add(kKeptTag, kept_texts);
    writer.add(kKeptNllTag, kept_nll);
    writer.add(kKeptOwnerTag, kept_owners);
    writer.add(kKeptLengthTag, kept_lengths);
    writer.add_bytes(kKeptNameTag, SectionType::kBytes,
                     {reinterpret_cast<const uint8_t*>(kept_names.data()), kept_names.size()});
    kept_records.emplace(*kept.records()).add_to(writer, kKeptPool);
  }
  const RecordPool* pools[] = {&train, &validation, &held_out};
  std::vector<RecordColumns> records;
  std::vector<RecordPool::Columns> columns;
  for (const RecordPool* pool : pools) {
    records.emplace_back(pool->records());
    columns.push_back(pool->columns());
  }
  for (size_t i = 0; i < std::size(kPools); ++i) {
    records[i].add_to(writer, kPools[i]);
    writer.add(ends_tag(kPools[i]), columns[i].ends);
    writer.add(weights_tag(kPools[i]), columns[i].weights);
    writer.add(owners_tag(kPools[i]), columns[i].owners);
  }
  return f(writer);
}

Result<void> ScopeState::save(const std::filesystem::path& file) const {
  return with_writer([&](const ContainerWriter& writer) { return writer.write_file(file); });
}

std::vector<uint8_t> ScopeState::bytes() const {
  return with_writer([](const ContainerWriter& writer) { return writer.bytes(); });
}

Result<void> ScopeState::load(const std::filesystem::path& file) {
  ASSIGN_OR_RETURN(const auto bytes, read_file(file, kMaxFileBytes));
  return parse(bytes, file.string());
}

Result<void> ScopeState::parse(std::span<const uint8_t> file, std::string_view name) {
  std::vector<uint32_t> tags = {
      kScopeTag, kBasisTag,   kCandidateTag, kAnchorTag,   kTotalTag,      kRunTag,  kCountTag, kNumberTag,
      kSeenTag,  kBannedTag,  kTimeTag,      kGainTag,     kLiveTag,       kTaskTag, kFromTag,  kSlopeTag,
      kKeptTag,  kKeptNllTag, kKeptOwnerTag, kKeptNameTag, kKeptLengthTag, kOldTag};
  for (const uint32_t tag : record_tags(kKeptPool)) tags.push_back(tag);
  for (const char pool : kPools) {
    for (const uint32_t tag : record_tags(pool)) tags.push_back(tag);
    tags.push_back(ends_tag(pool));
    tags.push_back(weights_tag(pool));
    tags.push_back(owners_tag(pool));
  }
  const ContainerExpect expect = {.kind = ContainerKind::kTrainingState,
                                  .max_version = 1,
                                  .known_flags = 0,
                                  .known_tags = tags,
                                  .model = shape.model};
  ASSIGN_OR_RETURN(const auto container, Container::parse(file, name, expect));
  ASSIGN_OR_RETURN(const auto whose, container.section(kScopeTag, SectionType::kBytes));
  ASSIGN_OR_RETURN(const auto basis, container.section(kBasisTag, SectionType::kBytes));
  if (!std::ranges::equal(whose, scope_bytes(scope)) || !std::ranges::equal(basis, shape.basis))
    return fail("learning.model_mismatch", "{}: expected a state of this scope and basis, found another",
                name);
  std::vector<uint64_t> counts;
  RETURN_IF_ERROR(parse_numbers(container, name, counts));
  RETURN_IF_ERROR(parse_history(container, name));
  RecordPool* pools[] = {&train, &validation, &held_out};
  for (size_t i = 0; i < std::size(kPools); ++i) {
    RETURN_IF_ERROR(read_records(container, kPools[i], name, pools[i]->records_to_fill()));
    RecordPool::Columns columns;
    ASSIGN_OR_RETURN(const uint64_t n_texts, container.count<uint32_t>(ends_tag(kPools[i])));
    ASSIGN_OR_RETURN(columns.ends, container.read<uint32_t>(ends_tag(kPools[i]), n_texts));
    ASSIGN_OR_RETURN(columns.weights, container.read<float>(weights_tag(kPools[i]), n_texts));
    ASSIGN_OR_RETURN(columns.owners, container.read<uint64_t>(owners_tag(kPools[i]), n_texts));
    const bool judges = pools[i] == &held_out && container.has(kOldTag);
    uint64_t n_old = 0;
    if (judges) {
      ASSIGN_OR_RETURN(const auto old_tasks, container.read<uint64_t>(kOldTag, 1));
      n_old = old_tasks[0];
    }
    if (!pools[i]->restore(columns, counts[i], n_old))
      return fail("state.values", "{}: expected texts that cover their records, found others", name);
  }
  return parse_kept(container, name);
}

Result<void> ScopeState::parse_kept(const Container& container, std::string_view name) {
  if (!container.has(kKeptTag)) return {};
  const auto bad = [&] { return fail("state.values", "{}: expected texts of tasks, found others", name); };
  ASSIGN_OR_RETURN(const uint64_t n_texts, container.count<double>(kKeptNllTag));
  ASSIGN_OR_RETURN(const auto columns, container.read<uint32_t>(kKeptTag, 2 * n_texts));
  ASSIGN_OR_RETURN(const auto nll, container.read<double>(kKeptNllTag, n_texts));
  ASSIGN_OR_RETURN(const auto owners, container.read<uint64_t>(kKeptOwnerTag, n_texts));
  ASSIGN_OR_RETURN(const uint64_t n_names, container.count<uint32_t>(kKeptLengthTag));
  ASSIGN_OR_RETURN(const auto lengths, container.read<uint32_t>(kKeptLengthTag, n_names));
  ASSIGN_OR_RETURN(const auto letters, container.section(kKeptNameTag, SectionType::kBytes));
  std::vector<std::string> names;
  size_t at = 0;
  for (const uint32_t length : lengths) {
    if (length > kMaxTaskName || length > letters.size() - at) return bad();
    names.emplace_back(letters.begin() + static_cast<std::ptrdiff_t>(at),
                       letters.begin() + static_cast<std::ptrdiff_t>(at + length));
    at += length;
  }
  std::vector<KeptText> texts;
  for (size_t i = 0; i < n_texts; ++i)
    texts.push_back({.task = columns[2 * i], .end = columns[2 * i + 1], .owner = owners[i], .nll = nll[i]});
  TokenRecords::Options options = pool_options(shape, kMaxKeptTasks * kMaxKeptTokens);
  const auto tags = record_tags(kKeptPool);
  ASSIGN_OR_RETURN(const uint64_t n_heads, container.count<uint32_t>(tags[0]));
  ASSIGN_OR_RETURN(const uint64_t n_ids, container.count<uint32_t>(tags[3]));
  if (at != letters.size() || texts.empty() || n_heads / 2 > options.capacity || n_ids > options.max_ids)
    return bad();
  options.capacity = n_heads / 2;
  options.max_ids = std::max<uint64_t>(n_ids, 1);
  auto records = std::make_unique<TokenRecords>(options);
  RETURN_IF_ERROR(read_records(container, kKeptPool, name, *records));
  if (!kept.restore(std::move(names), std::move(texts), std::move(records))) return bad();
  return {};
}

Result<void> ScopeState::parse_numbers(const Container& container, std::string_view name,
                                       std::vector<uint64_t>& counts) {
  ASSIGN_OR_RETURN(counts, container.read<uint64_t>(kCountTag, kCounts));
  ASSIGN_OR_RETURN(const auto numbers, container.read<double>(kNumberTag, kNumbers));
  const size_t n = ewc.size();
  ASSIGN_OR_RETURN(candidate, container.read<float>(kCandidateTag, counts[10] == 1 ? n : 0));
  Ewc::State ewc_state;
  ASSIGN_OR_RETURN(ewc_state.anchor, container.read<float>(kAnchorTag, n));
  ASSIGN_OR_RETURN(ewc_state.total, container.read<double>(kTotalTag, n));
  ASSIGN_OR_RETURN(ewc_state.run, container.read<double>(kRunTag, n));
  // States of before there was one say nothing of it.
  if (container.has(kSlopeTag)) {
    ASSIGN_OR_RETURN(ewc_state.slope, container.read<double>(kSlopeTag, n));
  }
  ewc_state.n_batches = static_cast<uint32_t>(counts[8]);
  ewc_state.has_anchor = counts[9] != 0;
  const auto negative = [](double value) { return value < 0; };
  const auto within = [](double value, double most) { return value >= 0 && value <= most; };
  const bool good = numbers[0] >= kLeastBeta && numbers[0] <= kMostBeta && within(numbers[1], kMostTokens) &&
                    within(numbers[2], kMostTokens) && within(numbers[3], 1) && within(numbers[4], 1) &&
                    within(numbers[5], kMostTokens) && within(numbers[6], 1) && within(numbers[7], 1) &&
                    within(numbers[8], 1) && counts[4] <= kMostTimeUs && counts[5] <= kMostTimeUs &&
                    counts[8] <= UINT32_MAX && counts[9] <= 1 && counts[10] <= 1 &&
                    std::none_of(ewc_state.total.begin(), ewc_state.total.end(), negative) &&
                    std::none_of(ewc_state.run.begin(), ewc_state.run.end(), negative);
  if (!good) return fail("state.values", "{}: expected numbers of a training state, found others", name);
  ewc.restore(std::move(ewc_state));
  beta = numbers[0];
  n_seen = numbers[1];
  outcomes = {numbers[2], numbers[3], numbers[4]};
  outcomes_since_publish = {numbers[5], numbers[6], numbers[7]};
  quality_before = numbers[8];
  gain_tokens = numbers[9];
  gain_texts = numbers[10];
  n_replayed = counts[3];
  frozen_until_us = static_cast<int64_t>(counts[4]);
  last_background_us = static_cast<int64_t>(counts[5]);
  n_new_signals = counts[6];
  tokens_since_boundary = counts[7];
  return {};
}

Result<void> ScopeState::parse_history(const Container& container, std::string_view name) {
  ASSIGN_OR_RETURN(const auto seen_digests, read_digests(container, kSeenTag, kMaxSeen));
  for (const Sha256Digest& digest : seen_digests) remember(digest);
  ASSIGN_OR_RETURN(const auto banned_digests, read_digests(container, kBannedTag, kMaxBanned));
  for (const Sha256Digest& digest : banned_digests) ban(digest);
  ASSIGN_OR_RETURN(const uint64_t n_times, container.count<uint64_t>(kTimeTag));
  ASSIGN_OR_RETURN(const auto times, container.read<uint64_t>(kTimeTag, n_times));
  for (const uint64_t time : times) {
    if (time > kMostTimeUs)
      return fail("state.values", "{}: expected times of publishes, found {}", name, time);
    publishes.push_back(static_cast<int64_t>(time));
  }
  ASSIGN_OR_RETURN(const uint64_t n_gains, container.count<double>(kGainTag));
  if (n_gains > kMaxGains) return fail("state.values", "{}: expected at most {} blocks", name, kMaxGains);
  ASSIGN_OR_RETURN(block_gains, container.read<double>(kGainTag, n_gains));
  ASSIGN_OR_RETURN(block_live, container.read<double>(kLiveTag, n_gains));
  ASSIGN_OR_RETURN(const auto task_bytes, container.section(kTaskTag, SectionType::kBytes));
  if (task_bytes.size() > kMaxTaskName) return fail("state.values", "{}: expected a task's name", name);
  task.assign(task_bytes.begin(), task_bytes.end());

  ASSIGN_OR_RETURN(const auto from, read_digests(container, kFromTag, 1));
  if (from.size() == 1) candidate_from = from[0];
  return {};
}

}  // namespace ruvltra
