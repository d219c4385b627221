#include "text/tokenizer.h"

#include <algorithm>

#include "base/check.h"
#include "base/fail.h"
#include "base/utf8.h"
#include "text/nfc.h"
#include "text/pretokenize.h"
#include "text/tokenizer_impl.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 31;

// A stretch of the joined text, and how far a token that begins in it may reach.
struct Stretch {
  size_t end;
  size_t control_end;
  size_t user_end;
};

// A token is recognised where every one of its bytes may carry it: neighbours of equal trust count as one
// text, and nothing an untrusted run holds can complete a control token begun outside it.
std::vector<Stretch> stretches_of(std::span<const TextRun> runs) {
  std::vector<Stretch> stretches;
  stretches.reserve(runs.size());
  size_t position = 0;
  for (const TextRun& run : runs) {
    position += run.text.size();
    if (!run.text.empty()) stretches.push_back({position, position, position});
  }
  size_t i = stretches.size();
  for (size_t r = runs.size(); r-- > 0;) {
    const TextRun& run = runs[r];
    if (run.text.empty()) continue;
    Stretch& stretch = stretches[--i];
    const size_t begin = stretch.end - run.text.size();
    const bool last = i + 1 == stretches.size();
    // What follows has already been settled; where it admits nothing its own limits equal its begin.
    if (!last) {
      stretch.control_end = stretches[i + 1].control_end;
      stretch.user_end = stretches[i + 1].user_end;
    }
    if (run.recognise != Recognise::kAll) stretch.control_end = begin;
    if (run.recognise == Recognise::kNone) stretch.user_end = begin;
  }
  return stretches;
}

Result<void> check_text(std::string_view text, size_t run) {
  const size_t valid = utf8_valid_prefix(text);
  if (valid == text.size()) return {};
  return fail("tokenizer.invalid_utf8", "text run {}: expected valid UTF-8, found byte 0x{:02X} at offset {}",
              run, static_cast<unsigned char>(text[valid]), valid);
}

}  // namespace

AddedTokens::AddedTokens(std::vector<Entry> entries) : entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.text < b.text; });
  for (const Entry& entry : entries_) starts_[static_cast<unsigned char>(entry.text[0])] = true;
}

AddedTokens::Match AddedTokens::longest(std::string_view text, size_t begin, size_t control_end,
                                        size_t user_end) const {
  Match match;
  auto low = entries_.begin();
  auto high = entries_.end();
  for (size_t n = 0; low != high && begin + n < user_end; ++n) {
    // Of the entries that share text[begin, begin + n), keep those that agree on one byte more.
    const auto byte = static_cast<unsigned char>(text[begin + n]);
    const auto byte_of = [n](const Entry& entry) { return static_cast<unsigned char>(entry.text[n]); };
    low = std::partition_point(low, high, [&](const Entry& entry) { return byte_of(entry) < byte; });
    high = std::partition_point(low, high, [&](const Entry& entry) { return byte_of(entry) == byte; });
    if (low == high || low->text.size() != n + 1) continue;
    if (begin + n + 1 <= (low->control ? control_end : user_end)) match = {low->id, n + 1};
    ++low;
  }
  return match;
}

TokenId AddedTokens::find(std::string_view text) const {
  const auto entry = std::lower_bound(entries_.begin(), entries_.end(), text,
                                      [](const Entry& a, std::string_view b) { return a.text < b; });
  return entry != entries_.end() && entry->text == text ? entry->id : -1;
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

void Tokenizer::Impl::encode_plain(std::string_view text, std::vector<TokenId>& ids) const {
  std::string normal;
  if (nfc && !is_surely_nfc(text)) {
    normal = to_nfc(text);
    text = normal;
  }
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = word_end(text, begin);
    bpe.encode(text.substr(begin, end - begin), ids);
    begin = end;
  }
}

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text, Recognise recognise) const {
  const TextRun run{std::string(text), recognise};
  return encode(std::span(&run, 1));
}

Result<std::vector<TokenId>> Tokenizer::encode(std::span<const TextRun> runs) const {
  size_t n_bytes = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    RETURN_IF_ERROR(check_text(runs[i].text, i));
    n_bytes += runs[i].text.size();
  }
  if (n_bytes > kMaxTextBytes) {
    return fail("tokenizer.text_too_long", "text: expected at most {} bytes, found {}", kMaxTextBytes,
                n_bytes);
  }
  std::string joined;
  if (runs.size() > 1) {
    joined.reserve(n_bytes);
    for (const TextRun& run : runs) joined += run.text;
  }
  const std::string_view text = runs.size() == 1 ? std::string_view(runs[0].text) : joined;

  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4);
  size_t plain = 0;  // where the text not yet encoded begins
  size_t position = 0;
  for (const Stretch& stretch : stretches_of(runs)) {
    while (position < stretch.end) {
      if (!impl_->added.may_start_with(text[position])) {
        ++position;
        continue;
      }
      const size_t control_end = std::max(position, stretch.control_end);
      const size_t user_end = std::max(position, stretch.user_end);
      const auto match = impl_->added.longest(text, position, control_end, user_end);
      if (match.id < 0) {
        ++position;
        continue;
      }
      impl_->encode_plain(text.substr(plain, position - plain), ids);
      ids.push_back(match.id);
      position += match.n_bytes;
      plain = position;
    }
  }
  impl_->encode_plain(text.substr(plain), ids);
  return ids;
}

void Tokenizer::set_nfc(bool on) { impl_->nfc = on; }

size_t Tokenizer::n_vocab() const { return impl_->kinds.size(); }

TokenKind Tokenizer::kind(TokenId id) const {
  CHECK(id >= 0 && static_cast<size_t>(id) < n_vocab());
  return impl_->kinds[static_cast<size_t>(id)];
}

std::string_view Tokenizer::bytes(TokenId id) const {
  CHECK(id >= 0 && static_cast<size_t>(id) < n_vocab());
  return impl_->token(id);
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool with_control) const {
  std::string text;
  for (const TokenId id : ids) {
    if (with_control || kind(id) != TokenKind::kControl) text += bytes(id);
  }
  return text;
}

TokenId Tokenizer::added_token(std::string_view text) const { return impl_->added.find(text); }
TokenId Tokenizer::bos() const { return impl_->bos; }
TokenId Tokenizer::eos() const { return impl_->eos; }

bool Tokenizer::ends_generation(TokenId id) const {
  return id >= 0 && std::find(impl_->ends.begin(), impl_->ends.end(), id) != impl_->ends.end();
}

std::string Tokenizer::digest() const { return impl_->digest; }

}  // namespace ruvltra
