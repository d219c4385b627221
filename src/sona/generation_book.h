// Published adapters: which one is live for whom, and all that may be gone back to. Rows of the store are the
// truth; files are content-addressed and written before the row that names them.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ruvltra/learning.h"
#include "sona/micro_lora.h"
#include "store/store.h"

namespace ruvltra {

// The scope everybody falls back to; changed by operators alone.
inline Scope global_scope() { return {.tenant = "", .session = ""}; }

// The reason of generations that name an older adapter.
inline constexpr const char* kRollbackReason = "rollback";

// What a request pins when it is admitted: it holds the adapter until its last token, whatever is published.
struct LiveAdapter {
  std::shared_ptr<const Adapter> adapter;  // never null; may be the zero adapter
  Scope scope = {};                        // whose generation it is
  uint64_t generation = 0;                 // 0: nothing was ever published, the zero adapter
};

// *Thread safety*: all functions from any thread.
// *Invariants*: 1. live() does no I/O and waits for nobody's I/O. 2. A generation that is live has its file
// on disk. 3. At most `keep` generations of a scope can be gone back to; files that no kept generation of any
// scope names are deleted.
class GenerationBook {
 public:
  // Reads all scopes of the store. Where the file of a live generation is missing or damaged, the newest
  // intact one before it serves, then the zero adapter; damaged() says so. Adapter files that no row names
  // are deleted once they are 24 h old. Errors: store.*, file.create.
  static Result<std::unique_ptr<GenerationBook>> open(Store& store, const std::filesystem::path& folder,
                                                      std::shared_ptr<const AdapterBasis> basis, size_t keep);

  // Session, else tenant, else global: exactly one, never a sum.
  LiveAdapter live(const Scope& scope) const;
  // What a scope without a generation of its own uses, and where it was before its first: generation 0.
  LiveAdapter fallback(const Scope& scope) const;
  // Of this scope itself: what publish() has to expect. 0: none yet.
  uint64_t number(const Scope& scope) const;
  // Newest first.
  std::vector<GenerationRecord> history(const Scope& scope) const;
  std::vector<Scope> scopes() const;

  // The adapter's file is on disk before its row is; who comes second gets store.conflict, and the scope
  // stays as it was. `record` gives reason, report and parent. Errors: store.*, file.*;
  // learning.model_mismatch.
  Result<GenerationRecord> publish(const Scope& scope, uint64_t expected,
                                   std::shared_ptr<const Adapter> adapter, GenerationRecord record);
  // A new number for an older adapter, the same bytes. `to` absent: the parent of the live one. Errors:
  // learning.not_found, and those of publish(); store.conflict, too, where another one than `expected` is
  // live.
  Result<GenerationRecord> rollback(const Scope& scope, std::optional<uint64_t> to,
                                    std::optional<uint64_t> expected = {});
  Result<GenerationRecord> reset(const Scope& scope);  // the zero adapter
  // What was live before generation `number`, if that one is kept and took it back: kRollbackReason.
  std::optional<Sha256Digest> taken_back_by(const Scope& scope, uint64_t number) const;
  // Was the adapter taken back by a kept generation? The rows say so, whatever happens to training states.
  bool was_taken_back(const Scope& scope, const Sha256Digest& hash) const;

  // The adapter of a kept generation. Errors: learning.not_found, and those of Adapter::load().
  Result<std::shared_ptr<const Adapter>> adapter(const Scope& scope, uint64_t number) const;

  // Forgets the scopes of a tenant, or one session, and deletes files that are nobody else's. Rows are the
  // store's: Store::delete_data() comes after. How many generations.
  size_t forget(const std::string& tenant, const std::optional<std::string>& session);

  std::vector<std::string> damaged() const;
  std::filesystem::path file_of(const Sha256Digest& hash) const;

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, session
  struct Entry {
    std::deque<GenerationRecord> kept;  // newest first
    std::shared_ptr<const Adapter> adapter;
    uint64_t serving = 0;  // its number; not kept.front() where that one's file is damaged
  };
  GenerationBook(Store& store, std::filesystem::path folder, std::shared_ptr<const AdapterBasis> basis,
                 size_t keep);
  Result<void> load(const Scope& scope);
  Result<std::shared_ptr<const Adapter>> read(const GenerationRecord& record) const;
  void collect_orphans() const;
  std::optional<GenerationRecord> kept(const Scope& scope, uint64_t number) const;
  void delete_unnamed(const std::vector<Sha256Digest>& candidates);

  Store& store_;
  const std::filesystem::path folder_;
  const std::shared_ptr<const AdapterBasis> basis_;
  const std::shared_ptr<const Adapter> zero_;
  const size_t keep_;
  std::mutex change_;         // one publish at a time, I/O included
  mutable std::mutex mutex_;  // of what follows; no I/O under it
  std::map<Key, Entry> entries_;
  std::vector<std::string> damaged_;
};

}  // namespace ruvltra
