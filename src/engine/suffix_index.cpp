#include "engine/suffix_index.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace ruvltra {
namespace {

// Tokens that end at `a` and at `b` alike, at most `most`. a < b are positions after the last one.
size_t common_suffix(std::span<const TokenId> text, size_t a, size_t b, size_t most) {
  size_t n = 0;
  while (n < std::min(a, most) && text[a - 1 - n] == text[b - 1 - n]) ++n;
  return n;
}

}  // namespace

void SuffixIndex::reserve(size_t n_tokens) {
  latest_.assign(std::bit_ceil(2 * std::max<size_t>(n_tokens, 16)), kNone);
  earlier_.reserve(n_tokens + 1);
  earlier_.assign(1, kNone);
  n_tokens_ = 0;
}

size_t SuffixIndex::bucket(const TokenId* run) const {
  uint64_t hash = 0;
  for (size_t i = 0; i < kLeast; ++i) hash = (hash ^ static_cast<uint32_t>(run[i])) * 0x9e3779b97f4a7c15u;
  return static_cast<size_t>(hash >> 32) & (latest_.size() - 1);
}

void SuffixIndex::extend(std::span<const TokenId> text) {
  CHECK(!latest_.empty() && text.size() >= n_tokens_);
  for (size_t end = n_tokens_ + 1; end <= text.size(); ++end) {
    int32_t before = kNone;
    if (end >= kLeast) {
      int32_t& latest = latest_[bucket(&text[end - kLeast])];
      before = latest;
      latest = static_cast<int32_t>(end);
    }
    earlier_.push_back(before);
  }
  n_tokens_ = text.size();
}

SuffixIndex::Match SuffixIndex::find(std::span<const TokenId> text) const {
  CHECK(text.size() == n_tokens_);
  Match best;
  if (n_tokens_ < kLeast) return best;
  int32_t place = earlier_[n_tokens_];
  for (size_t tried = 0; place != kNone && tried < kMostTried && best.length < kLongest; ++tried) {
    const auto end = static_cast<size_t>(place);
    const size_t length = common_suffix(text, end, n_tokens_, kLongest);
    if (length >= kLeast && length > best.length) best = {length, end};
    place = earlier_[end];
  }
  return best;
}

}  // namespace ruvltra
