#include "sona/generation_book.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <system_error>

#include "base/fail.h"

namespace ruvltra {
namespace {

constexpr const char* kExtension = ".adapter";
constexpr auto kOrphanAge = std::chrono::hours(24);

bool is_zero(const Sha256Digest& hash) { return hash == Sha256Digest{}; }

std::string scope_name(const Scope& scope) {
  if (scope.tenant.empty()) return "global";
  return scope.session.empty() ? scope.tenant : scope.tenant + "/" + scope.session;
}

}  // namespace

GenerationBook::GenerationBook(Store& store, std::filesystem::path folder,
                               std::shared_ptr<const AdapterBasis> basis, size_t keep)
    : store_(store),
      folder_(std::move(folder)),
      basis_(std::move(basis)),
      zero_(std::make_shared<const Adapter>(Adapter::zero(basis_))),
      keep_(keep) {}

Result<std::unique_ptr<GenerationBook>> GenerationBook::open(Store& store,
                                                             const std::filesystem::path& folder,
                                                             std::shared_ptr<const AdapterBasis> basis,
                                                             size_t keep) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return fail(ErrorKind::kIo, "file.create", "{}: cannot make the folder: {}", folder.string(),
                error.message());
  }
  std::unique_ptr<GenerationBook> book(new GenerationBook(store, folder, std::move(basis), keep));
  ASSIGN_OR_RETURN(const auto scopes, store.scopes());
  for (const auto& [tenant, session] : scopes)
    RETURN_IF_ERROR(book->load({.tenant = tenant, .session = session}));
  book->collect_orphans();
  return book;
}

std::filesystem::path GenerationBook::file_of(const Sha256Digest& hash) const {
  return folder_ / (to_hex(hash) + kExtension);
}

Result<std::shared_ptr<const Adapter>> GenerationBook::read(const GenerationRecord& record) const {
  if (is_zero(record.content)) return zero_;
  ASSIGN_OR_RETURN(Adapter adapter, Adapter::load(file_of(record.content), basis_));
  if (adapter.hash() != record.content) {
    return fail("adapter.hash", "{}: expected the adapter its name says, found {}",
                file_of(record.content).string(), to_hex(adapter.hash()).substr(0, 12));
  }
  return std::make_shared<const Adapter>(std::move(adapter));
}

Result<void> GenerationBook::load(const Scope& scope) {
  ASSIGN_OR_RETURN(auto history, store_.history(scope.tenant, scope.session, keep_));
  if (history.empty()) return {};
  Entry entry;
  entry.kept.assign(history.begin(), history.end());
  entry.adapter = zero_;
  for (const GenerationRecord& record : history) {
    auto adapter = read(record);
    if (adapter) {
      entry.adapter = std::move(*adapter);
      entry.serving = record.number;
      break;
    }
    damaged_.push_back(
        fmt::format("{} generation {}: {}", scope_name(scope), record.number, adapter.error().message));
  }
  entries_[{scope.tenant, scope.session}] = std::move(entry);
  return {};
}

void GenerationBook::collect_orphans() const {
  std::set<std::string> named;
  for (const auto& [key, entry] : entries_)
    for (const GenerationRecord& record : entry.kept) named.insert(file_of(record.content).filename());
  std::error_code error;
  const auto now = std::filesystem::file_time_type::clock::now();
  for (const auto& item : std::filesystem::directory_iterator(folder_, error)) {
    const auto name = item.path().filename().string();
    // Temporary files of writes that were cut off begin with the name of what they were to become.
    const bool ours = name.find(kExtension) != std::string::npos;
    const auto time = item.last_write_time(error);
    if (ours && !named.contains(name) && !error && now - time > kOrphanAge)
      std::filesystem::remove(item.path(), error);
  }
}

LiveAdapter GenerationBook::live(const Scope& scope) const {
  const Scope levels[] = {scope, {.tenant = scope.tenant, .session = ""}, global_scope()};
  const std::lock_guard lock(mutex_);
  for (const Scope& level : levels) {
    const auto found = entries_.find({level.tenant, level.session});
    if (found != entries_.end()) return {found->second.adapter, level, found->second.serving};
  }
  return {zero_, global_scope(), 0};
}

LiveAdapter GenerationBook::fallback(const Scope& scope) const {
  if (!scope.session.empty()) return live({.tenant = scope.tenant, .session = ""});
  if (!scope.tenant.empty()) return live(global_scope());
  return {zero_, global_scope(), 0};
}

uint64_t GenerationBook::number(const Scope& scope) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find({scope.tenant, scope.session});
  return found == entries_.end() ? 0 : found->second.kept.front().number;
}

std::vector<GenerationRecord> GenerationBook::history(const Scope& scope) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find({scope.tenant, scope.session});
  if (found == entries_.end()) return {};
  return {found->second.kept.begin(), found->second.kept.end()};
}

std::vector<Scope> GenerationBook::scopes() const {
  const std::lock_guard lock(mutex_);
  std::vector<Scope> scopes;
  for (const auto& [key, entry] : entries_) scopes.push_back({.tenant = key.first, .session = key.second});
  return scopes;
}

std::vector<std::string> GenerationBook::damaged() const {
  const std::lock_guard lock(mutex_);
  return damaged_;
}

std::optional<GenerationRecord> GenerationBook::kept(const Scope& scope, uint64_t number) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find({scope.tenant, scope.session});
  if (found == entries_.end()) return std::nullopt;
  for (const GenerationRecord& record : found->second.kept)
    if (record.number == number) return record;
  return std::nullopt;
}

Result<std::shared_ptr<const Adapter>> GenerationBook::adapter(const Scope& scope, uint64_t number) const {
  const auto record = kept(scope, number);
  if (!record) {
    return fail(ErrorKind::kUsage, "learning.not_found",
                "{}: expected one of the last {} generations, found {}", scope_name(scope), keep_, number);
  }
  return read(*record);
}

Result<GenerationRecord> GenerationBook::publish(const Scope& scope, uint64_t expected,
                                                 std::shared_ptr<const Adapter> adapter,
                                                 GenerationRecord record) {
  if (adapter->basis().hash() != basis_->hash()) {
    return fail("learning.model_mismatch", "{}: expected an adapter of basis {}, found one of another",
                scope_name(scope), to_hex(basis_->hash()).substr(0, 12));
  }
  const std::lock_guard change(change_);
  record.tenant = scope.tenant;
  record.session = scope.session;
  record.number = 0;
  record.content = adapter->is_zero() ? Sha256Digest{} : adapter->hash();
  record.file = adapter->is_zero() ? "" : file_of(record.content).filename().string();
  if (!adapter->is_zero()) {
    // The same content may be there already; a damaged file of that name is replaced.
    const auto file = file_of(record.content);
    if (!std::filesystem::exists(file) || !Adapter::load(file, basis_)) RETURN_IF_ERROR(adapter->save(file));
  }
  auto published = store_.publish(record, expected);
  std::vector<Sha256Digest> unnamed = {record.content};
  if (published) {
    unnamed.clear();
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[{scope.tenant, scope.session}];
    entry.kept.push_front(*published);
    entry.adapter = std::move(adapter);
    entry.serving = published->number;
    while (entry.kept.size() > keep_) {
      unnamed.push_back(entry.kept.back().content);
      entry.kept.pop_back();
    }
  } else if (published.error().id != "store.conflict") {
    // The row may have been written all the same: its file stays, an orphan at worst.
    unnamed.clear();
  }
  delete_unnamed(unnamed);
  return published;
}

// Those of `candidates` that no kept generation names any more. Under change_.
void GenerationBook::delete_unnamed(const std::vector<Sha256Digest>& candidates) {
  std::vector<std::filesystem::path> files;
  {
    const std::lock_guard lock(mutex_);
    for (const Sha256Digest& hash : candidates) {
      const bool named = std::any_of(entries_.begin(), entries_.end(), [&](const auto& entry) {
        return std::any_of(entry.second.kept.begin(), entry.second.kept.end(),
                           [&](const GenerationRecord& record) { return record.content == hash; });
      });
      if (!named && !is_zero(hash)) files.push_back(file_of(hash));
    }
  }
  std::error_code error;  // what cannot be deleted now is an orphan
  for (const auto& file : files) std::filesystem::remove(file, error);
}

Result<GenerationRecord> GenerationBook::rollback(const Scope& scope, std::optional<uint64_t> to,
                                                  std::optional<uint64_t> wanted) {
  const uint64_t expected = number(scope);
  if (wanted && *wanted != expected) {
    return fail(ErrorKind::kUsage, "store.conflict", "{}: expected generation {} live, found {}",
                scope_name(scope), *wanted, expected);
  }
  const auto current = kept(scope, expected);
  if (!current) {
    return fail(ErrorKind::kUsage, "learning.not_found", "{}: nothing was ever published", scope_name(scope));
  }
  const uint64_t target = to.value_or(current->parent);
  GenerationRecord record;
  record.reason = kRollbackReason;
  std::shared_ptr<const Adapter> adapter_of_target = fallback(scope).adapter;
  if (target != 0) {
    ASSIGN_OR_RETURN(adapter_of_target, adapter(scope, target));
    record.parent = kept(scope, target).value_or(GenerationRecord{}).parent;
  }
  return publish(scope, expected, std::move(adapter_of_target), std::move(record));
}

Result<GenerationRecord> GenerationBook::reset(const Scope& scope) {
  GenerationRecord record;
  record.reason = "reset";
  const uint64_t expected = number(scope);
  record.parent = expected;
  return publish(scope, expected, zero_, std::move(record));
}

std::optional<Sha256Digest> GenerationBook::taken_back_by(const Scope& scope, uint64_t number) const {
  const auto history = this->history(scope);
  for (size_t i = 0; i + 1 < history.size(); ++i)
    if (history[i].number == number && history[i].reason == kRollbackReason) return history[i + 1].content;
  return std::nullopt;
}

bool GenerationBook::was_taken_back(const Scope& scope, const Sha256Digest& hash) const {
  const auto history = this->history(scope);
  for (size_t i = 0; i + 1 < history.size(); ++i)
    if (history[i].reason == kRollbackReason && history[i + 1].content == hash) return true;
  return false;
}

size_t GenerationBook::forget(const std::string& tenant, const std::optional<std::string>& session) {
  const std::lock_guard change(change_);
  std::vector<Sha256Digest> candidates;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(entries_, [&](const auto& item) {
      const auto& [key, entry] = item;
      if (key.first != tenant || (session && key.second != *session)) return false;
      for (const GenerationRecord& record : entry.kept) candidates.push_back(record.content);
      return true;
    });
  }
  delete_unnamed(candidates);
  return candidates.size();
}

}  // namespace ruvltra
