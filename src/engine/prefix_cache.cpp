#include "engine/prefix_cache.h"

#include <bit>
#include <cstring>

#include "base/check.h"

namespace ruvltra {
namespace {

constexpr std::string_view kRootTag = "ruvltra.kv.root.1";
constexpr std::string_view kPageTag = "ruvltra.kv.page.1";

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

void store_u32(uint32_t value, uint8_t* out) {
  for (int byte = 0; byte < 4; ++byte) out[byte] = static_cast<uint8_t>(value >> (8 * byte));
}

void add_field(Sha256& hash, std::span<const uint8_t> field) {
  uint8_t length[4];
  store_u32(static_cast<uint32_t>(field.size()), length);
  hash.update(length);
  hash.update(field);
}

}  // namespace

Sha256Digest prefix_root(const PrefixSpace& space) {
  Sha256 hash;
  hash.update(bytes_of(kRootTag));
  add_field(hash, space.model);
  add_field(hash, bytes_of(kv_type_name(space.kv_type)));
  add_field(hash, bytes_of(space.tenant_salt));
  add_field(hash, bytes_of(space.cache_salt));
  add_field(hash, bytes_of(space.adapter_kv_tag));
  return hash.finish();
}

Sha256Digest page_key(Sha256& hash, const Sha256Digest& parent, std::span<const TokenId> tokens) {
  CHECK(tokens.size() == kPageTokens);
  uint8_t words[4 * (1 + kPageTokens)];
  store_u32(kPageTokens, words);
  for (size_t t = 0; t < kPageTokens; ++t) store_u32(static_cast<uint32_t>(tokens[t]), words + 4 * (1 + t));
  hash.restart();
  hash.update(bytes_of(kPageTag));
  hash.update(parent);
  hash.update(words);
  return hash.finish();
}

void PrefixChain::reset(const Sha256Digest& root) { keys_.assign(1, root); }

void PrefixChain::extend(Sha256& hash, std::span<const TokenId> tokens) {
  for (size_t begin = n_pages() * kPageTokens; begin + kPageTokens <= tokens.size(); begin += kPageTokens) {
    keys_.push_back(page_key(hash, keys_.back(), tokens.subspan(begin, kPageTokens)));
  }
}

PageIndex::PageIndex(size_t n_pages) : cells_(std::bit_ceil(2 * n_pages + 2)) {}

size_t PageIndex::home(const Sha256Digest& key) const {
  uint64_t bits;
  std::memcpy(&bits, key.data(), sizeof(bits));
  return bits & (cells_.size() - 1);
}

PageId PageIndex::find(const Sha256Digest& key) const {
  size_t at = home(key);
  while (cells_[at].page != kNoPage && cells_[at].key != key) at = next(at);
  return cells_[at].page;
}

void PageIndex::insert(const Sha256Digest& key, PageId page) {
  size_t at = home(key);
  while (cells_[at].page != kNoPage) at = next(at);
  cells_[at] = {key, page};
}

void PageIndex::erase(const Sha256Digest& key) {
  size_t gap = home(key);
  while (cells_[gap].key != key) gap = next(gap);
  // An entry whose probe passes the gap moves into it: no probe meets a gap before its key.
  for (size_t at = next(gap); cells_[at].page != kNoPage; at = next(at)) {
    if (distance(home(cells_[at].key), at) < distance(gap, at)) continue;
    cells_[gap] = cells_[at];
    gap = at;
  }
  cells_[gap] = {};
}

}  // namespace ruvltra
