#include "sona/reasoning_bank.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/fail.h"
#include "base/sha256.h"
#include "sona/bank_checks.h"
#include "sona/kmeans.h"

namespace ruvltra {
namespace {

constexpr uint64_t kNoSpace = 0;  // of no embedder
constexpr size_t kMaxOrigins = 64;
constexpr size_t kMaxCapacity = 10'000'000;

Result<void> check_options(const BankOptions& options) {
  const auto wrong = [](std::string_view name, std::string_view expected, auto found) {
    return fail(ErrorKind::kUsage, "bank.options", "{}: expected {}, found {}", name, expected, found);
  };
  if (options.capacity < 1 || options.capacity > kMaxCapacity) {
    return wrong("pattern_capacity", "1..10000000", options.capacity);
  }
  if (!(options.quality_threshold >= 0 && options.quality_threshold <= 1)) {
    return wrong("quality_threshold", "0..1", options.quality_threshold);
  }
  return {};
}

}  // namespace

Bank::Bank(Store& store, TextEmbedder& embedder, const KernelTable& kernels, TokenCounter count_tokens,
           BankOptions options)
    : store_(store),
      embedder_(embedder),
      count_tokens_(std::move(count_tokens)),
      options_(std::move(options)),
      kernels_(kernels) {}

Result<std::unique_ptr<Bank>> Bank::open(Store& store, TextEmbedder& embedder, const KernelTable& kernels,
                                         TokenCounter count_tokens, BankOptions options) {
  RETURN_IF_ERROR(check_options(options));
  std::unique_ptr<Bank> bank(new Bank(store, embedder, kernels, std::move(count_tokens), std::move(options)));
  RETURN_IF_ERROR(bank->load());
  return bank;
}

// ---- Memory from the store

uint64_t Bank::key_of(const PatternId& id) {
  const Sha256Digest digest = sha256(id.bytes);
  uint64_t key;
  std::memcpy(&key, digest.data(), sizeof key);
  return key;
}

// A hash of the tenant, the next free number if another tenant has it: the same in every run but for that.
uint32_t Bank::group_of(const std::string& tenant) {
  const auto known = groups_.find(tenant);
  if (known != groups_.end()) return known->second;
  const Sha256Digest digest = sha256({reinterpret_cast<const uint8_t*>(tenant.data()), tenant.size()});
  uint32_t group;
  std::memcpy(&group, digest.data(), sizeof group);
  while (!used_groups_.insert(group).second) ++group;
  return groups_[tenant] = group;
}

BankVector Bank::vector_of(const PatternRecord& record, uint32_t group) {
  return {key_of(record.id), group, record.embedding};
}

Bank::Rank Bank::rank_of(const Entry& entry) {
  return {entry.pinned, lasting_value(entry.lcb, entry.last_used_us), entry.id};
}

Bank::Entry* Bank::find(const PatternId& id) {
  const auto at = entries_.find(key_of(id));
  return at == entries_.end() || at->second.id != id ? nullptr : &at->second;
}

void Bank::leave_origin(const Entry& entry) {
  const auto items = made_of_.find(entry.origin);
  if (items == made_of_.end()) return;
  items->second.erase(entry.id);
  if (items->second.empty()) made_of_.erase(items);
}

void Bank::drop_entry(const PatternId& id) {
  const Entry* entry = find(id);
  if (entry == nullptr) return;
  leave_origin(*entry);
  other_space_.erase(id);
  entries_.erase(key_of(id));
}

void Bank::add_entry(const PatternRecord& record, bool taken) {
  if (const Entry* before = find(record.id)) leave_origin(*before);
  Entry entry;
  entry.id = record.id;
  if (record.origins.size() == 1) {
    entry.origin = record.origins.front();
    made_of_[entry.origin].insert(entry.id);
  }
  entry.group = group_of(record.tenant);
  entry.kind = record.kind;
  entry.pinned = record.pinned;
  entry.taken = taken;
  // What an import or a damaged embedding left: embedded anew like an item of another space.
  entry.space = check_embedding(record.embedding) ? record.space : kNoSpace;
  entry.beta = {record.a, record.b};
  if (!(record.a > 0 && record.b > 0 && std::isfinite(record.a + record.b))) entry.beta = {};
  entry.lcb = beta_lcb(entry.beta);
  entry.last_used_us = record.last_used_us;
  entry.uses = record.uses;
  entry.vector_checksum = vector_of(record, entry.group).checksum();
  if (!taken) ranked_.insert(rank_of(entry));
  if (entry.space != space_) other_space_.insert(entry.id);
  entries_[key_of(record.id)] = std::move(entry);
}

Result<void> Bank::load() {
  BankIndex::Options index_options;
  HnswParams& params = index_options.params;
  params.dim = static_cast<int>(kEmbeddingDim);
  params.m = options_.hnsw_m;
  params.ef_construction = options_.hnsw_ef_construction;
  params.ef_search = options_.hnsw_ef_search;
  params.scan_crossover = options_.scan_crossover;
  // Erased slots are reused only after a sweep: room for them.
  params.capacity = options_.capacity + options_.capacity / 2 + 1024;
  index_options.kernels = &kernels_;
  index_options.file = options_.index_file;
  ASSIGN_OR_RETURN(auto made, BankIndex::create(index_options));
  const uint64_t sequence = store_.stats().sequence;
  const uint64_t space = embedder_.space();

  std::vector<PatternRecord> rows;  // without their texts
  RETURN_IF_ERROR(store_.each_pattern([&](const PatternRecord& record) {
    PatternRecord& row = rows.emplace_back(record);
    row.title.clear();
    row.text.clear();
    row.when.clear();
    if (row.origins.size() != 1) row.origins.clear();
    return true;
  }));
  ASSIGN_OR_RETURN(auto clusters, store_.clusters());
  std::vector<BankVector> vectors;
  std::vector<PatternId> surplus;
  {
    const std::lock_guard lock(mutex_);
    space_ = space;
    entries_.clear();
    ranked_.clear();
    other_space_.clear();
    made_of_.clear();
    groups_.clear();
    used_groups_.clear();
    texts_.clear();
    text_at_.clear();
    text_bytes_ = 0;
    for (const PatternRecord& row : rows) {
      // Two ids of one key are one in 2^64; the later one waits in the store, where it can be found by its
      // id.
      if (entries_.contains(key_of(row.id))) continue;
      add_entry(row, false);
    }
    for (auto rank = ranked_.begin();
         rank != ranked_.end() && entries_.size() - surplus.size() > options_.capacity; ++rank) {
      surplus.push_back(rank->id);
    }
    // The index has no room for more than the capacity and what is erased of it.
    const std::set<PatternId> leaving(surplus.begin(), surplus.end());
    for (const PatternRecord& row : rows) {
      const Entry* entry = find(row.id);
      if (entry != nullptr && entry->space == space && !leaving.contains(row.id))
        vectors.push_back(vector_of(row, group_of(row.tenant)));
    }
    auto clustering = std::make_shared<Clustering>();
    clustering->space = space;
    for (const ClusterRecord& cluster : clusters) {
      if (cluster.space != space || cluster.centroid.size() != kEmbeddingDim) continue;
      clustering->centroids.insert(clustering->centroids.end(), cluster.centroid.begin(),
                                   cluster.centroid.end());
    }
    clustering_ = clustering->centroids.empty() ? nullptr : std::move(clustering);
  }
  RETURN_IF_ERROR(made->fill(std::move(vectors), space, sequence));
  {
    const std::lock_guard lock(mutex_);
    index_ = std::move(made);
  }
  if (surplus.empty()) return {};
  {
    Lock lock(mutex_);
    surplus = take(lock, surplus, nullptr);
  }
  const Taken going(*this, std::move(surplus));
  return commit(going.ids(), {});
}

Result<void> Bank::exclusively(const std::function<Result<void>()>& body) {
  {
    Lock lock(mutex_);
    changed_.wait(lock, [&] { return !exclusive_; });
    exclusive_ = true;
    changed_.wait(lock, [&] { return n_changes_ == 0; });
  }
  auto done = body();
  const std::lock_guard lock(mutex_);
  exclusive_ = false;
  changed_.notify_all();
  return done;
}

// ---- Changes

Bank::Change::Change(Bank& bank) : bank_(bank) {
  Lock lock(bank_.mutex_);
  bank_.changed_.wait(lock, [&] { return !bank_.exclusive_; });
  ++bank_.n_changes_;
}

Bank::Change::~Change() {
  const std::lock_guard lock(bank_.mutex_);
  --bank_.n_changes_;
  bank_.changed_.notify_all();
}

bool Bank::take_lowest(size_t n, std::vector<PatternId>& taken) {
  if (ranked_.size() < n) return false;
  for (; n > 0; --n) {
    const PatternId id = ranked_.begin()->id;
    ranked_.erase(ranked_.begin());
    find(id)->taken = true;
    taken.push_back(id);
  }
  return true;
}

Bank::Taken::~Taken() {
  const std::lock_guard lock(bank_.mutex_);
  bank_.put_back(ids_);
}

std::vector<PatternId> Bank::take(Lock& lock, std::span<const PatternId> ids, const uint32_t* group) {
  const std::set<PatternId> wanted(ids.begin(), ids.end());
  std::vector<Entry*> found;
  changed_.wait(lock, [&] {
    found.clear();
    bool free = true;
    for (const PatternId& id : wanted) {
      Entry* entry = find(id);
      if (entry == nullptr || (group != nullptr && entry->group != *group)) continue;
      free = free && !entry->taken;
      found.push_back(entry);
    }
    return free;
  });
  std::vector<PatternId> taken;
  for (Entry* entry : found) {
    entry->taken = true;
    ranked_.erase(rank_of(*entry));
    taken.push_back(entry->id);
  }
  return taken;
}

void Bank::put_back(std::span<const PatternId> ids) {
  for (const PatternId& id : ids) {
    Entry* entry = find(id);
    if (entry == nullptr || !entry->taken) continue;
    entry->taken = false;
    ranked_.insert(rank_of(*entry));
  }
  changed_.notify_all();
}

Result<void> Bank::index_record(const PatternRecord& record) {
  uint32_t group;
  {
    const std::lock_guard lock(mutex_);
    const Entry* entry = find(record.id);
    if (entry == nullptr || entry->space != space_) return {};
    group = group_of(record.tenant);
  }
  return index()->insert(vector_of(record, group));
}

Result<void> Bank::commit(std::span<const PatternId> remove, std::span<const PatternRecord> put,
                          int64_t reserved) {
  auto done = store_.change_patterns(remove, put);
  std::vector<std::pair<uint64_t, uint64_t>> gone;  // key and checksum of the vectors that leave the index
  std::vector<PatternId> added;
  std::vector<const PatternRecord*> fresh;  // vectors that it does not have
  {
    const std::lock_guard lock(mutex_);
    n_reserved_ -= reserved;
    if (done) {
      for (const PatternId& id : remove) {
        const Entry* entry = find(id);
        if (entry == nullptr) continue;
        gone.emplace_back(key_of(id), entry->vector_checksum);
        drop_entry(id);
      }
      for (const PatternRecord& record : put) {
        const Entry* before = find(record.id);
        if (before == nullptr || before->space != record.space) fresh.push_back(&record);
        if (before == nullptr) added.push_back(record.id);
        other_space_.erase(record.id);
        add_entry(record, true);
      }
    }
  }
  for (const auto& [key, checksum] : gone) index()->erase(key, checksum);
  for (const PatternRecord* record : fresh) {
    if (auto indexed = index_record(*record); !indexed) done = std::move(indexed);
  }
  const std::lock_guard lock(mutex_);
  put_back(added);
  return done;
}

// Rows that the store lost, to damage, are forgotten here as well. How many.
size_t Bank::forget_lost(std::span<const PatternId> taken) {
  size_t n_lost = 0;
  for (const PatternId& id : taken) {
    const auto row = store_.pattern(id);
    if (row || !is_lost(row.error())) continue;
    uint64_t checksum = 0;
    {
      const std::lock_guard lock(mutex_);
      if (const Entry* entry = find(id)) checksum = entry->vector_checksum;
      drop_entry(id);
    }
    index()->erase(key_of(id), checksum);
    ++n_lost;
  }
  return n_lost;
}

bool Bank::take_places(size_t n, std::span<const PatternId> replaced, const RecordId& origin,
                       std::vector<PatternId>& taken) {
  std::vector<Entry*> going;
  for (const PatternId& id : replaced) {
    Entry* entry = find(id);
    if (entry == nullptr || entry->origin != origin) continue;  // gone, or merged with another by now
    if (entry->taken) return false;
    going.push_back(entry);
  }
  const int64_t over = static_cast<int64_t>(entries_.size() + n) + n_reserved_ -
                       static_cast<int64_t>(going.size() + options_.capacity);
  // All at once: two insertions that each hold a part of what the other needs would wait for ever.
  if (over > static_cast<int64_t>(ranked_.size() - going.size())) return false;
  for (Entry* entry : going) {
    entry->taken = true;
    ranked_.erase(rank_of(*entry));
    taken.push_back(entry->id);
  }
  return over <= 0 || take_lowest(static_cast<size_t>(over), taken);
}

Result<void> Bank::insert(std::vector<PatternRecord> records, std::span<const PatternId> replaced,
                          const RecordId& origin) {
  if (records.size() > options_.capacity) records.resize(options_.capacity);
  if (records.empty() && replaced.empty()) return {};
  const Change change(*this);
  {
    // Under the change: the clustering is not replaced before these are in the store.
    const std::lock_guard lock(mutex_);
    for (PatternRecord& record : records) {
      if (clustering_ == nullptr || clustering_->space != record.space) continue;
      record.cluster = nearest_centroid(clustering_->centroids, record.embedding);
    }
  }
  for (;;) {
    std::vector<PatternId> victims;
    int64_t net = 0;
    {
      Lock lock(mutex_);
      changed_.wait(lock, [&] { return take_places(records.size(), replaced, origin, victims); });
      // Places that it gives up are free once it is done, not before.
      net = std::max<int64_t>(static_cast<int64_t>(records.size()) - static_cast<int64_t>(victims.size()), 0);
      n_reserved_ += net;
    }
    const Taken going(*this, std::move(victims));
    auto done = commit(going.ids(), records, net);
    if (done || !is_lost(done.error()) || forget_lost(going.ids()) == 0) return done;
  }
}

Result<PatternRecord> Bank::make_record(const PatternItem& item, const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  RETURN_IF_ERROR(check_item(item, count_tokens_));
  ASSIGN_OR_RETURN(auto embedding,
                   embedder_.embed(embedded_text(item.when, item.title, item.text), scope.tenant));
  RETURN_IF_ERROR(check_embedding(embedding.values));
  const BetaCounts start = beta_start(item.kind, item.quality);
  PatternRecord record;
  record.id = new_record_id();
  record.tenant = scope.tenant;
  record.session = scope.session;
  record.kind = item.kind;
  record.title = item.title;
  record.text = item.text;
  record.when = item.when;
  record.space = embedding.space;
  record.embedding = rounded(std::move(embedding.values));
  record.a = start.a;
  record.b = start.b;
  record.created_us = record.last_used_us = now();
  record.origins = item.origins;
  if (record.origins.size() > kMaxOrigins) record.origins.resize(kMaxOrigins);
  record.provenance = item.provenance;
  record.pinned = item.pinned;
  return record;
}

Result<PatternId> Bank::store(const PatternItem& item, const Scope& scope) {
  ASSIGN_OR_RETURN(auto record, make_record(item, scope));
  const PatternId id = record.id;
  std::vector<PatternRecord> records;
  records.push_back(std::move(record));
  RETURN_IF_ERROR(insert(std::move(records)));
  return id;
}

// What learn_from() may replace. Those of other tenants are not theirs to replace.
Result<std::vector<PatternRecord>> Bank::made_of(const TrajectoryRecord& trajectory) {
  std::vector<PatternId> ids;
  {
    const std::lock_guard lock(mutex_);
    if (const auto items = made_of_.find(trajectory.id); items != made_of_.end()) {
      ids.assign(items->second.begin(), items->second.end());
    }
  }
  std::vector<PatternRecord> records;
  for (const PatternId& id : ids) {
    auto record = store_.pattern(id);
    if (!record && is_lost(record.error())) continue;
    if (!record) return tl::unexpected(std::move(record).error());
    if (record->tenant == trajectory.tenant && record->provenance != "caller") {
      records.push_back(std::move(*record));
    }
  }
  return records;
}

Result<std::vector<PatternId>> Bank::learn_from(const TrajectoryRecord& trajectory) {
  ASSIGN_OR_RETURN(const auto items, extract_patterns(trajectory, options_.quality_threshold, count_tokens_));
  // One call at a time for each trajectory: two would both miss what the other is about to insert.
  struct Turn {
    Bank& bank;
    const RecordId id;
    Turn(Bank& b, const RecordId& i) : bank(b), id(i) {
      Lock lock(bank.mutex_);
      bank.changed_.wait(lock, [&] { return bank.learning_.insert(id).second; });
    }
    ~Turn() {
      const std::lock_guard lock(bank.mutex_);
      bank.learning_.erase(id);
      bank.changed_.notify_all();
    }
  } const turn(*this, trajectory.id);

  ASSIGN_OR_RETURN(const auto before, made_of(trajectory));
  std::set<PatternId> kept;
  std::vector<PatternRecord> records;
  std::vector<PatternId> ids;
  for (const PatternItem& item : items) {
    const auto same = std::find_if(before.begin(), before.end(), [&](const PatternRecord& record) {
      return record.kind == item.kind && record.text == item.text && !kept.contains(record.id);
    });
    if (same != before.end()) {
      kept.insert(same->id);
      ids.push_back(same->id);
      continue;
    }
    if (records.size() == options_.capacity) break;
    ASSIGN_OR_RETURN(auto record, make_record(item, {trajectory.tenant, trajectory.session}));
    ids.push_back(record.id);
    records.push_back(std::move(record));
  }
  std::vector<PatternId> replaced;
  for (const PatternRecord& record : before) {
    if (!kept.contains(record.id)) replaced.push_back(record.id);
  }
  RETURN_IF_ERROR(insert(std::move(records), replaced, trajectory.id));
  return ids;
}

Result<size_t> Bank::outcome(std::span<const PatternId> ids, double quality, const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  RETURN_IF_ERROR(check_quality(quality));
  const Change change(*this);
  std::vector<PatternId> taken;
  {
    Lock lock(mutex_);
    const auto group = groups_.find(scope.tenant);
    if (group == groups_.end()) return 0;
    taken = take(lock, ids, &group->second);
  }
  const Taken used(*this, std::move(taken));
  std::vector<PatternRecord> records;
  for (const PatternId& id : used.ids()) {
    auto record = store_.pattern(id);
    if (!record && is_lost(record.error())) continue;
    if (!record) return tl::unexpected(std::move(record).error());
    record->a += quality;
    record->b += 1 - quality;
    record->last_used_us = now();
    ++record->uses;
    records.push_back(std::move(*record));
  }
  if (records.empty()) return 0;
  RETURN_IF_ERROR(commit({}, records));
  return records.size();
}

int64_t Bank::now() const { return options_.clock ? options_.clock() : now_us(); }

std::shared_ptr<BankIndex> Bank::index() const {
  const std::lock_guard lock(mutex_);
  return index_;
}

}  // namespace ruvltra
