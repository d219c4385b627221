// Nearest neighbours by a hierarchical navigable small world graph (Malkov and Yashunin, arXiv 1603.09320):
// cosine similarity over vectors of one length, named by 64-bit ids of the caller.
//
// The graph is built and walked on int8 codes; the best of a walk are compared again in f32. Small sets,
// narrow filters and vectors not linked yet are scanned exactly. docs/hnsw.md has layout, concurrency and
// figures.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/fail.h"
#include "base/sha256.h"
#include "kernels/table.h"

namespace ruvltra {

struct HnswParams {
  int dim = 0;                // 8..4096
  int m = 16;                 // links per node and upper layer, twice as many at layer 0; 4..64
  int ef_construction = 200;  // beam of an insertion; m..2000
  int ef_search = 64;         // beam of a search, where the adaptive one starts; 1..1024
  // false pins ef: equal calls give equal answers.  true: probe() moves it, so that recall stays near
  // 0.95..0.99.
  bool adaptive_ef = false;
  uint64_t capacity = 1'000'000;  // most vectors, erased ones not yet swept included; 1..2^30
  // Sets of at most so many vectors (a filtered set, too) are scanned exactly; 0 = always the graph.
  uint64_t scan_crossover = 4096;
  uint64_t seed = 1;  // of the levels

  // Errors: index.params (usage).
  Result<void> validate() const;
};

// A label given at insertion; a filtered search sees only vectors of that label (a tenant's, say).
struct HnswFilter {
  uint32_t group = 0;
};

struct HnswHit {
  uint64_t id = 0;
  float similarity = 0;  // cosine, from f32
};

// What an index was built from. A file whose source is not the database's is a stale file.
struct HnswSource {
  Sha256Digest space{};       // who made the vectors: model, pooling, version
  uint64_t sequence = 0;      // last row of the database that is in the index
  uint64_t set_checksum = 0;  // of all rows up to it, as the owner computes it
  bool operator==(const HnswSource&) const = default;
};

struct HnswStats {
  uint64_t elements = 0;    // live vectors
  uint64_t tombstones = 0;  // erased, not yet reusable
  uint64_t pending = 0;     // not linked yet: searches scan
  uint64_t capacity = 0;
  int ef = 0;
  int max_level = 0;
  uint64_t searches = 0, scans = 0;  // scans: those of the searches that were exact scans
  uint64_t distance_evals = 0;       // int8 inner products of all searches
  uint64_t reranks = 0;              // f32 inner products of all searches
  uint64_t hops = 0;                 // nodes expanded by all searches
  uint64_t second_looks = 0;         // walks that looked again
  double insert_seconds = 0;         // of all insertions
  double recall_probe = 0;           // moving mean over the probes; 0 before the first
  uint64_t probes = 0;
  uint64_t links = 0;  // of all nodes and layers
  // Memory that the slots in use take: codes with their header, links, f32 vectors, ids and labels.
  uint64_t code_bytes = 0, link_bytes = 0, vector_bytes = 0, label_bytes = 0;
};

// Thread safety: search(), search_exact() and probe() may run in any number of threads, without locks, beside
// one thread at a time that changes the index (a mutex excludes the other changing calls, contains() and
// stats()). Moving or destroying an index needs it idle.
//
// Invariants: a search returns live vectors only, of the filter's group only, each at most once; an erased
// vector is never returned by a search that starts after erase() returned.
class HnswIndex {
 public:
  // Address space for the whole capacity is reserved here, memory is taken as vectors come.
  // Errors: index.params, memory.exhausted.
  static Result<HnswIndex> create(const HnswParams& params, const KernelTable& kernels);
  ~HnswIndex();
  HnswIndex(HnswIndex&&) noexcept;
  HnswIndex& operator=(HnswIndex&&) noexcept;

  // Errors of both: index.dim, index.not_finite, index.zero_norm (the vector), index.duplicate_id,
  // index.full.
  Result<void> insert(uint64_t id, std::span<const float> vector, uint32_t group = 0);
  // Stores without linking: found by searches at once, but while any is pending every search scans. For
  // filling an index from a database: append all, serve, link in the background.
  Result<void> append(uint64_t id, std::span<const float> vector, uint32_t group = 0);
  // Links up to n pending vectors; returns how many are still pending.
  uint64_t link_pending(uint64_t n);

  // The vector is gone for every later search; links to it are repaired here as far as its own neighbours
  // have them, the rest by sweep(). Errors: index.not_found.
  Result<void> erase(uint64_t id);
  // Visits up to n slots: removes links to erased nodes, and when a whole round found none left, frees their
  // slots for reuse once every search of that time has ended. Returns true if nothing is left to do.
  bool sweep(uint64_t n);
  // More than a fifth of the nodes are tombstones: rebuild() and swap.
  bool needs_rebuild() const;
  // A new index of the live vectors, in their order. Searches may go on, changes wait. Errors: those of
  // create().
  Result<HnswIndex> rebuild() const;

  // The k most similar vectors, best first, equal ones by the order of insertion; fewer if there are fewer.
  // ef: beam, k..1024; 0 = the index's own (at least k); a query with no near neighbourhood is looked at
  // again with 4 ef, from more places. Errors: index.k (k < 1 or > 1024), index.ef, index.dim,
  // index.not_finite, index.zero_norm, memory.exhausted.
  Result<std::vector<HnswHit>> search(std::span<const float> query, int k, int ef = 0,
                                      const HnswFilter* filter = nullptr) const;
  // The same by comparing with every vector.
  Result<std::vector<HnswHit>> search_exact(std::span<const float> query, int k,
                                            const HnswFilter* filter = nullptr) const;
  // Off the request path: answers one of the queries kept for it (1 of 256 that left ef to the index) exactly
  // and by the graph, and moves the adaptive ef. Returns the recall seen, or nothing if no query was waiting.
  Result<std::optional<double>> probe();

  uint64_t size() const;  // live vectors
  bool contains(uint64_t id) const;
  const HnswParams& params() const;
  HnswStats stats() const;

  // File: RVC1, kind index (docs/hnsw.md). Pending vectors must have been linked. Errors: index.pending,
  // file.*.
  Result<std::vector<uint8_t>> save(const HnswSource& source) const;
  Result<void> save_file(const std::filesystem::path& path, const HnswSource& source) const;
  struct Loaded;
  // `expect` is the database's state: a file of another space, or whose sequence is not behind and whose
  // checksum differs, is refused; of one that is behind, the owner replays the rows since and compares its
  // checksum. Any error means: drop the file, scan, build anew. Errors: container.*, index.file_params,
  // index.file_space, index.file_stale, index.file_count, index.file_state, index.file_level,
  // index.file_degree, index.file_link, index.file_entry, index.file_id, index.file_vector, index.params,
  // memory.exhausted.
  static Result<Loaded> load(std::span<const uint8_t> bytes, std::string_view name, const HnswParams& params,
                             const KernelTable& kernels, const HnswSource& expect);

  struct State;

 private:
  explicit HnswIndex(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

struct HnswIndex::Loaded {
  HnswIndex index;
  HnswSource source;  // sequence < expected: replay the rows after it
};

}  // namespace ruvltra
