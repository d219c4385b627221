#include "sona/bank_index.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <system_error>
#include <thread>

#include "base/check.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/sha256.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxIndexBytes = uint64_t{1} << 40;
constexpr uint64_t kLinkAtOnce = 1024;
constexpr int kMostWaits = 10'000;  // of a millisecond, for searches that hold erased slots

HnswSource source_of(uint64_t space, uint64_t sequence, uint64_t checksum) {
  HnswSource source;
  std::memcpy(source.space.data(), &space, sizeof space);
  source.sequence = sequence;
  source.set_checksum = checksum;
  return source;
}

uint64_t checksum_of(std::span<const BankVector> vectors) {
  uint64_t sum = 0;
  for (const BankVector& v : vectors) sum ^= v.checksum();
  return sum;
}

}  // namespace

uint64_t BankVector::checksum() const {
  Sha256 hash;
  const auto add = [&](const void* data, size_t n) { hash.update({static_cast<const uint8_t*>(data), n}); };
  add(&key, sizeof key);
  add(&group, sizeof group);
  add(values.data(), values.size() * sizeof(float));
  const Sha256Digest digest = hash.finish();
  uint64_t sum;
  std::memcpy(&sum, digest.data(), sizeof sum);
  return sum;
}

Result<std::unique_ptr<BankIndex>> BankIndex::create(const Options& options) {
  CHECK(options.kernels != nullptr);
  std::unique_ptr<BankIndex> made(new BankIndex(options));
  ASSIGN_OR_RETURN(auto index, HnswIndex::create(options.params, *options.kernels));
  made->index_ = std::make_shared<HnswIndex>(std::move(index));
  return made;
}

std::shared_ptr<HnswIndex> BankIndex::current() const {
  const std::lock_guard lock(mutex_);
  return index_;
}

// Takes the file's graph if it holds these vectors, or a part of them: then the rest is appended.
Result<bool> BankIndex::load(std::span<const BankVector> vectors, uint64_t space, uint64_t sequence) {
  std::error_code ignored;
  if (options_.file.empty() || !std::filesystem::exists(options_.file, ignored)) return false;
  const uint64_t checksum = checksum_of(vectors);
  const std::string name = options_.file.string();
  ASSIGN_OR_RETURN(const auto bytes, read_file(options_.file, kMaxIndexBytes));
  ASSIGN_OR_RETURN(auto loaded, HnswIndex::load(bytes, name, options_.params, *options_.kernels,
                                                source_of(space, sequence, checksum)));
  std::vector<const BankVector*> missing;
  uint64_t sum = loaded.source.set_checksum;
  for (const BankVector& v : vectors) {
    if (loaded.index.contains(v.key)) continue;
    missing.push_back(&v);
    sum ^= v.checksum();
  }
  if (sum != checksum || loaded.index.size() + missing.size() != vectors.size()) {
    return fail("index.file_stale", "{}: expected the vectors of the store, found others", name);
  }
  for (const BankVector* v : missing) RETURN_IF_ERROR(loaded.index.append(v->key, v->values, v->group));
  const std::lock_guard lock(mutex_);
  index_ = std::make_shared<HnswIndex>(std::move(loaded.index));
  checksum_ = checksum;
  return true;
}

Result<void> BankIndex::fill(std::vector<BankVector> vectors, uint64_t space, uint64_t sequence) {
  const std::lock_guard changing(change_);
  const auto loaded = load(vectors, space, sequence);
  if (loaded && *loaded) return {};
  {
    const std::lock_guard lock(mutex_);
    if (!loaded) {
      last_rejected_ = loaded.error().message;
      std::error_code ignored;
      std::filesystem::remove(options_.file, ignored);
    }
    if (!vectors.empty()) ++n_rebuilds_;
  }
  for (const BankVector& v : vectors) RETURN_IF_ERROR(index_->append(v.key, v.values, v.group));
  checksum_ = checksum_of(vectors);
  return {};
}

Result<void> BankIndex::put(HnswIndex& index, const BankVector& vector, bool append) {
  if (index.contains(vector.key)) return {};  // replace() has read it from the store already
  auto done = append ? index.append(vector.key, vector.values, vector.group)
                     : index.insert(vector.key, vector.values, vector.group);
  // Full of erased slots, as the bank itself never holds more than its capacity. They are used again only
  // once nothing is pending and the searches that may still see them have ended.
  for (int wait = 0; !done && done.error().id == "index.full" && wait < kMostWaits; ++wait) {
    if (index.size() >= index.params().capacity) break;
    if (wait > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    while (index.link_pending(kLinkAtOnce) > 0) {
    }
    while (!index.sweep(kLinkAtOnce)) {
    }
    done = index.insert(vector.key, vector.values, vector.group);
  }
  return done;
}

Result<void> BankIndex::insert(const BankVector& vector) {
  const std::lock_guard changing(change_);
  // While others wait to be linked, an insertion would link all of them first or stand before them: it waits
  // too.
  RETURN_IF_ERROR(put(*index_, vector, index_->stats().pending > 0));
  if (next_ != nullptr) RETURN_IF_ERROR(put(*next_, vector, true));
  checksum_ ^= vector.checksum();
  return {};
}

void BankIndex::erase(uint64_t key, uint64_t checksum) {
  const std::lock_guard changing(change_);
  if (index_->erase(key)) checksum_ ^= checksum;
  if (next_ != nullptr) (void)next_->erase(key);
}

Result<std::vector<HnswHit>> BankIndex::search(std::span<const float> query, int k, uint32_t group) const {
  const HnswFilter filter{group};
  return current()->search(query, k, 0, &filter);
}

Result<std::vector<HnswHit>> BankIndex::search_exact(std::span<const float> query, int k,
                                                     uint32_t group) const {
  const HnswFilter filter{group};
  return current()->search_exact(query, k, &filter);
}

bool BankIndex::contains(uint64_t key) const { return current()->contains(key); }
size_t BankIndex::size() const { return current()->size(); }

size_t BankIndex::work(size_t n) {
  const auto index = current();
  const uint64_t pending = index->link_pending(n);
  index->sweep(n);
  return pending;
}

bool BankIndex::needs_replacing() const { return current()->needs_rebuild(); }

Result<void> BankIndex::replace(
    const std::function<Result<void>(const std::function<void(BankVector)>&)>& read,
    const std::function<bool(uint64_t key)>& alive) {
  {
    ASSIGN_OR_RETURN(auto made, HnswIndex::create(options_.params, *options_.kernels));
    std::unique_lock changing(change_);
    replaced_.wait(changing, [&] { return next_ == nullptr; });
    next_ = std::make_shared<HnswIndex>(std::move(made));
  }
  Result<void> appended;
  auto done = read([&](const BankVector& vector) {
    const std::lock_guard changing(change_);
    // Alive under the lock of changes: whoever erases it later erases it here as well.
    if (!appended || !alive(vector.key)) return;
    appended = put(*next_, vector, true);
  });
  if (done) done = appended;
  while (done && next_->link_pending(kLinkAtOnce) > 0) {
  }
  const std::lock_guard changing(change_);
  if (done) {
    while (next_->link_pending(kLinkAtOnce) > 0) {  // what came between
    }
    const std::lock_guard lock(mutex_);
    index_ = next_;
    ++n_rebuilds_;
  }
  next_ = nullptr;
  replaced_.notify_one();
  return done;
}

Result<void> BankIndex::remove_file() {
  if (options_.file.empty()) return {};
  std::error_code error;
  std::filesystem::remove(options_.file, error);
  if (error) {
    return fail(ErrorKind::kIo, "file.remove", "{}: cannot remove: {}", options_.file.string(),
                error.message());
  }
  return {};
}

Result<void> BankIndex::save(uint64_t space, uint64_t sequence) {
  if (options_.file.empty()) return {};
  while (work(kLinkAtOnce) > 0) {
  }
  std::vector<uint8_t> bytes;
  {
    const std::lock_guard changing(change_);
    while (index_->link_pending(kLinkAtOnce) > 0) {
    }
    ASSIGN_OR_RETURN(bytes, index_->save(source_of(space, sequence, checksum_)));
  }
  ASSIGN_OR_RETURN(auto file, OutputFile::create(options_.file, true));
  RETURN_IF_ERROR(file.write(bytes));
  return file.commit();
}

std::string BankIndex::state() const {
  const HnswStats stats = current()->stats();
  if (stats.elements <= options_.params.scan_crossover) return "exact";
  return stats.pending > 0 ? "rebuilding" : "ready";
}

uint64_t BankIndex::n_rebuilds() const {
  const std::lock_guard lock(mutex_);
  return n_rebuilds_;
}

std::string BankIndex::last_rejected() const {
  const std::lock_guard lock(mutex_);
  return last_rejected_;
}

}  // namespace ruvltra
