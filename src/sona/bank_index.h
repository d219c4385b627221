// The bank's vector index: a disposable derivative of the store (docs/memory.md). While it is being filled it
// answers by exact scan; its file is checked against the store's rows and dropped on any doubt.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "index/hnsw.h"
#include "kernels/table.h"
#include "ruvltra/error.h"

namespace ruvltra {

// A vector of the bank as the index knows it.
struct BankVector {
  uint64_t key = 0;
  uint32_t group = 0;  // the tenant's
  std::vector<float> values;
  // Over key, group and values: the XOR of all of them names a set of vectors.
  uint64_t checksum() const;
};

// Thread safety: all functions from any thread. Changes exclude each other; searches take no lock beyond the
// copying of a pointer.
// Invariants: (1) a search sees vectors of its group only; (2) an erased key is not found by a search that
// starts afterwards, not even while the index is being replaced.
class BankIndex {
 public:
  struct Options {
    HnswParams params;
    const KernelTable* kernels = nullptr;
    std::filesystem::path file;  // empty: none is kept
  };
  // Errors: index.params, memory.exhausted.
  static Result<std::unique_ptr<BankIndex>> create(const Options& options);

  // Fills the empty index with `vectors`, from the file if it is theirs (same space, same set, or a part of
  // it that can be completed), else by appending; whatever is not linked yet is for work(). What was wrong
  // with the file stands in last_rejected(). Errors: index.*, memory.exhausted.
  Result<void> fill(std::vector<BankVector> vectors, uint64_t space, uint64_t sequence);

  // Where the slots have run out, pending vectors are linked and erased slots swept first: it does not fail
  // for want of slots while size() is at most the bank's capacity. Errors: index.*.
  Result<void> insert(const BankVector& vector);
  void erase(uint64_t key, uint64_t checksum);  // of its vector; one that is not there is none
  Result<std::vector<HnswHit>> search(std::span<const float> query, int k, uint32_t group) const;
  Result<std::vector<HnswHit>> search_exact(std::span<const float> query, int k, uint32_t group) const;
  bool contains(uint64_t key) const;
  size_t size() const;

  // Up to n units of pending work: vectors to link, erased slots to sweep. How many vectors are still
  // pending.
  size_t work(size_t n);
  // Whether so much was erased that the graph should be made anew: replace() it.
  bool needs_replacing() const;
  // A new index of what `read` gives takes the place of this one once it is linked (here, all of it). Changes
  // made meanwhile reach both. `read` may give vectors that were erased in the meantime: `alive` says. Waits
  // while another call replaces it.
  Result<void> replace(const std::function<Result<void>(const std::function<void(BankVector)>&)>& read,
                       const std::function<bool(uint64_t key)>& alive);
  // Removes the file. Error: file.remove.
  Result<void> remove_file();

  // Links what is pending and writes the file, unless none is kept. Errors: index.*, file.*.
  Result<void> save(uint64_t space, uint64_t sequence);

  std::string state() const;  // "exact", "ready", "rebuilding"
  uint64_t n_rebuilds() const;
  std::string last_rejected() const;

 private:
  explicit BankIndex(Options options) : options_(std::move(options)) {}
  std::shared_ptr<HnswIndex> current() const;
  static Result<void> put(HnswIndex& index, const BankVector& vector, bool append);
  Result<bool> load(std::span<const BankVector> vectors, uint64_t space, uint64_t sequence);

  const Options options_;
  std::mutex change_;                 // held by changes; before mutex_
  std::condition_variable replaced_;  // next_ is null again
  mutable std::mutex mutex_;          // held for moments
  std::shared_ptr<HnswIndex> index_;
  std::shared_ptr<HnswIndex> next_;  // being built, or null
  uint64_t checksum_ = 0;            // XOR over the vectors of index_
  uint64_t n_rebuilds_ = 0;
  std::string last_rejected_;
};

}  // namespace ruvltra
