#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <queue>
#include <unordered_map>

#include "base/check.h"

namespace ruvltra {
namespace {

// Up to here scanning all pairs for the best one beats keeping them in a queue.
constexpr size_t kShortWord = 256;

// Positions waiting at one rank. They arrive in ascending order: equal stretches of a word go through the
// same merges, and of two the left one is never behind. So first in, first out is leftmost first.
struct PositionQueue {
  std::vector<uint32_t> positions;
  size_t n_taken = 0;
};

}  // namespace

// A word of any length: a linked list of symbols, and the positions that can be merged, by rank.
class LongWord {
 public:
  LongWord(const Bpe& bpe, std::string_view word) : bpe_(bpe), symbols_(word.size()) {
    const auto n = static_cast<uint32_t>(word.size());
    for (uint32_t i = 0; i < n; ++i) {
      const TokenId id = bpe.byte_ids_[static_cast<unsigned char>(word[i])];
      symbols_[i] = {id, i == 0 ? kNone : i - 1, i + 1 == n ? kNone : i + 1};
    }
    for (uint32_t i = 0; i < n; ++i) enqueue(i);
  }

  void merge_all() {
    while (!ranks_.empty()) {
      const uint32_t rank = ranks_.top();
      PositionQueue& queue = waiting_[rank];
      if (queue.n_taken == queue.positions.size()) {
        waiting_.erase(rank);
        ranks_.pop();
        continue;
      }
      merge_at(queue.positions[queue.n_taken++], bpe_.merges_[rank]);
    }
  }

  void append_to(std::vector<TokenId>& ids) const {
    for (uint32_t i = 0; i != kNone; i = symbols_[i].next) ids.push_back(symbols_[i].id);
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Symbol {
    TokenId id;  // -1 once merged into the symbol before
    uint32_t previous;
    uint32_t next;
  };

  // Notes the pair that starts at `position`, if it has a merge.
  void enqueue(uint32_t position) {
    const Symbol& symbol = symbols_[position];
    if (symbol.next == kNone) return;
    const uint32_t rank = bpe_.rank(symbol.id, symbols_[symbol.next].id);
    if (rank == Bpe::kNoMerge) return;
    const auto [queue, is_new] = waiting_.try_emplace(rank);
    if (is_new) ranks_.push(rank);
    std::vector<uint32_t>& positions = queue->second.positions;
    DCHECK(positions.empty() || positions.back() < position);
    positions.push_back(position);
  }

  void merge_at(uint32_t position, const Merge& merge) {
    Symbol& left = symbols_[position];
    if (left.id != merge.left || left.next == kNone) return;
    Symbol& right = symbols_[left.next];
    if (right.id != merge.right) return;
    left.id = merge.merged;
    right.id = -1;
    left.next = right.next;
    if (left.next != kNone) symbols_[left.next].previous = position;
    if (left.previous != kNone) enqueue(left.previous);
    enqueue(position);
  }

  const Bpe& bpe_;
  std::vector<Symbol> symbols_;
  std::unordered_map<uint32_t, PositionQueue> waiting_;                         // by rank
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ranks_;  // the keys of waiting_
};

void Bpe::reserve(size_t n_merges) {
  merges_.reserve(n_merges);
  slots_.assign(std::bit_ceil(n_merges + n_merges / 4 + 2), Slot{});
}

uint64_t Bpe::hash(TokenId left, TokenId right) const {
  // Finalizer of MurmurHash3 (public domain), keyed.
  uint64_t h =
      (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right)) ^ seed_;
  h = (h ^ h >> 33) * 0xff51afd7ed558ccd;
  h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53;
  return h ^ h >> 33;
}

uint32_t Bpe::rank(TokenId left, TokenId right) const {
  if (slots_.empty()) return kNoMerge;
  const uint64_t h = hash(left, right);
  const auto tag = static_cast<uint32_t>(h >> 32);
  for (size_t i = h & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.rank == kNoMerge) return kNoMerge;
    if (slot.tag != tag) continue;
    const Merge& merge = merges_[slot.rank];
    if (merge.left == left && merge.right == right) return slot.rank;
  }
}

bool Bpe::add(const Merge& merge) {
  CHECK(merges_.size() + 1 < slots_.size());
  const uint64_t h = hash(merge.left, merge.right);
  if (rank(merge.left, merge.right) != kNoMerge) return false;
  size_t i = h & (slots_.size() - 1);
  while (slots_[i].rank != kNoMerge) i = (i + 1) & (slots_.size() - 1);
  slots_[i] = {static_cast<uint32_t>(h >> 32), static_cast<uint32_t>(merges_.size())};
  merges_.push_back(merge);
  return true;
}

void Bpe::encode(std::string_view word, std::vector<TokenId>& ids) const {
  if (word.size() <= kShortWord) {
    encode_short(word, ids);
  } else {
    encode_long(word, ids);
  }
}

void Bpe::encode_short(std::string_view word, std::vector<TokenId>& ids) const {
  if (word.empty()) return;
  std::array<TokenId, kShortWord> symbols;
  std::array<uint32_t, kShortWord> ranks;  // of the pair (i, i + 1)
  size_t n = word.size();
  for (size_t i = 0; i < n; ++i) symbols[i] = byte_ids_[static_cast<unsigned char>(word[i])];
  for (size_t i = 0; i + 1 < n; ++i) ranks[i] = rank(symbols[i], symbols[i + 1]);
  while (n > 1) {
    uint32_t best = kNoMerge;
    for (size_t i = 0; i + 1 < n; ++i) best = std::min(best, ranks[i]);
    if (best == kNoMerge) break;
    const size_t at = static_cast<size_t>(std::find(ranks.begin(), ranks.end(), best) - ranks.begin());
    symbols[at] = merges_[best].merged;
    std::copy(symbols.begin() + at + 2, symbols.begin() + n, symbols.begin() + at + 1);
    std::copy(ranks.begin() + at + 1, ranks.begin() + n - 1, ranks.begin() + at);
    --n;
    if (at > 0) ranks[at - 1] = rank(symbols[at - 1], symbols[at]);
    if (at + 1 < n) ranks[at] = rank(symbols[at], symbols[at + 1]);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.begin() + n);
}

void Bpe::encode_long(std::string_view word, std::vector<TokenId>& ids) const {
  LongWord symbols(*this, word);
  symbols.merge_all();
  symbols.append_to(ids);
}

}  // namespace ruvltra
