// Keeping the bank in order: other embedding spaces, the index and its file, deletion.
#include <utility>

#include "base/fail.h"
#include "sona/bank_checks.h"
#include "sona/reasoning_bank.h"

namespace ruvltra {

Result<size_t> Bank::reembed(size_t n) {
  const Change change(*this);
  std::vector<PatternId> wanted;
  {
    const std::lock_guard lock(mutex_);
    for (const PatternId& id : other_space_) {
      if (wanted.size() == n) break;
      wanted.push_back(id);
    }
  }
  for (const PatternId& id : wanted) {
    std::vector<PatternId> taken;
    {
      Lock lock(mutex_);
      taken = take(lock, {&id, 1}, nullptr);
    }
    if (taken.empty()) continue;  // evicted meanwhile
    const Taken renewed(*this, std::move(taken));
    auto found = store_.pattern(id);
    if (!found && is_lost(found.error()) && forget_lost(renewed.ids()) > 0) continue;
    ASSIGN_OR_RETURN(PatternRecord record, std::move(found));
    ASSIGN_OR_RETURN(auto embedding,
                     embedder_.embed(embedded_text(record.when, record.title, record.text), record.tenant));
    RETURN_IF_ERROR(check_embedding(embedding.values));
    record.space = embedding.space;
    record.embedding = rounded(std::move(embedding.values));
    record.cluster = -1;
    RETURN_IF_ERROR(commit({}, {&record, 1}));
  }
  const std::lock_guard lock(mutex_);
  return other_space_.size();
}

Result<size_t> Bank::work(size_t n) {
  bool moved;
  {
    const std::lock_guard lock(mutex_);
    moved = space_ != embedder_.space();
  }
  if (moved) RETURN_IF_ERROR(reload());
  const size_t n_pending = index()->work(n);
  ASSIGN_OR_RETURN(const size_t n_other, reembed(n));
  if (n_pending == 0 && index()->needs_replacing()) RETURN_IF_ERROR(replace_index());
  return n_pending + n_other;
}

Result<void> Bank::replace_index() {
  const auto read = [&](const std::function<void(BankVector)>& give) {
    return store_.each_pattern([&](const PatternRecord& record) {
      uint32_t group = 0;
      {
        const std::lock_guard lock(mutex_);
        const Entry* entry = find(record.id);
        if (entry == nullptr || entry->space != space_) return true;
        group = group_of(record.tenant);
      }
      give(vector_of(record, group));
      return true;
    });
  };
  const auto alive = [&](uint64_t key) {
    const std::lock_guard lock(mutex_);
    return entries_.contains(key);
  };
  return index()->replace(read, alive);
}

Result<void> Bank::checkpoint() {
  uint64_t space;
  {
    const std::lock_guard lock(mutex_);
    space = space_;
  }
  // The sequence may be behind the rows that are in the index by then; the checksum is of those rows.
  return index()->save(space, store_.stats().sequence);
}

Result<DeleteReport> Bank::delete_data(std::string_view tenant, const std::optional<std::string>& session) {
  DeleteReport report;
  const auto remove = [&]() -> Result<void> {
    ASSIGN_OR_RETURN(report, store_.delete_data(tenant, session));
    RETURN_IF_ERROR(store_.replace_clusters({}, {}));
    RETURN_IF_ERROR(index()->remove_file());
    return load();
  };
  RETURN_IF_ERROR(exclusively(remove));
  return report;
}

Result<void> Bank::reload() {
  return exclusively([&] { return load(); });
}

}  // namespace ruvltra
