// Names of full KV pages: a SHA-256 chain over everything their bits depend on. Two pages with one name hold
// the same bits, so a sequence may take over a page that another one computed.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/sha256.h"
#include "kernels/attention.h"
#include "ops/kv_layer.h"
#include "ruvltra/config.h"
#include "ruvltra/types.h"

namespace ruvltra {

// What all pages of a chain have in common. Sequences share pages only inside one space.
struct PrefixSpace {
  Sha256Digest model = {};  // of the model file
  KvType kv_type = KvType::kF16;
  std::string_view tenant_salt = {};     // made by the server: tenants never share
  std::string_view cache_salt = {};      // given by a request: divides the tenant's own space
  std::string_view adapter_kv_tag = {};  // content hash of an adapter that changes K or V, else empty
};

// SHA-256("ruvltra.kv.root.1" || for each field: u32 length, bytes). Integers are little-endian; the KV type
// is its name.
Sha256Digest prefix_root(const PrefixSpace& space);

// SHA-256("ruvltra.kv.page.1" || parent || u32 64 || 64 token ids u32), little-endian. The parent of the
// first page is the root. *Requires*: tokens.size() == 64.
Sha256Digest page_key(Sha256& hash, const Sha256Digest& parent, std::span<const TokenId> tokens);

// The keys of a sequence's full pages, computed once each. Tokens that have been named do not change.
class PrefixChain {
 public:
  void reset(const Sha256Digest& root);
  void reserve(size_t n_pages) { keys_.reserve(n_pages + 1); }
  // Names the pages that `tokens`, the whole sequence so far, fills. Cost: the new pages.
  void extend(Sha256& hash, std::span<const TokenId> tokens);

  size_t n_pages() const { return keys_.size() - 1; }
  const Sha256Digest& key(size_t page) const { return keys_[page + 1]; }
  const Sha256Digest& parent(size_t page) const { return keys_[page]; }  // the root for page 0

 private:
  std::vector<Sha256Digest> keys_{1};  // root, page 0, page 1, ...
};

// key -> page, in memory taken once: open addressing with linear probing.
class PageIndex {
 public:
  explicit PageIndex(size_t n_pages);
  PageId find(const Sha256Digest& key) const;  // kNoPage if absent
  // *Requires*: the key is absent; at most n_pages entries.
  void insert(const Sha256Digest& key, PageId page);
  // *Requires*: the key is present.
  void erase(const Sha256Digest& key);

 private:
  struct Cell {
    Sha256Digest key = {};
    PageId page = kNoPage;  // kNoPage: a gap
  };
  size_t home(const Sha256Digest& key) const;
  size_t next(size_t at) const { return (at + 1) & (cells_.size() - 1); }
  size_t distance(size_t from, size_t to) const { return (to - from) & (cells_.size() - 1); }

  std::vector<Cell> cells_;  // a power of two, at most half full
};

}  // namespace ruvltra
