// Building a Tokenizer from metadata nobody vouches for: everything is checked here, once.
#include <bit>
#include <cstring>
#include <optional>

#include "base/fail.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "text/tokenizer_impl.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxTokens = size_t{1} << 20;
constexpr size_t kMaxMerges = size_t{1} << 20;
constexpr size_t kMaxTokenBytes = 4096;
constexpr size_t kMaxAddedTokenBytes = 256;  // bounds the work per byte of text

constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";
constexpr std::string_view kScores = "tokenizer.ggml.scores";

// The errors of typed metadata access, under this file's names.
template <class T>
Result<T> named(Result<T> result) {
  if (!result) {
    result.error().id =
        result.error().id == "metadata.missing" ? "tokenizer.missing_key" : "tokenizer.key_type";
  }
  return result;
}

// The stored alphabet: bytes 21-7E, A1-AC and AE-FF stand for the code point of the same number; the other
// 68, in order, for U+0100 and up.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool same = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      byte_of_[same ? static_cast<char32_t>(byte) : next++] = static_cast<int16_t>(byte);
    }
  }
  // -1 if the code point stands for no byte.
  int byte_of(char32_t code_point) const { return code_point < kEnd ? byte_of_[code_point] : -1; }

 private:
  static constexpr char32_t kEnd = 0x100 + 68;
  std::array<int16_t, kEnd> byte_of_ = filled();
  static std::array<int16_t, kEnd> filled() {
    std::array<int16_t, kEnd> table;
    table.fill(-1);
    return table;
  }
};

// Finds a stored token text. The hash is keyed with the vocabulary's own digest, so no file can aim at one
// slot.
class TextIndex {
 public:
  TextIndex(std::span<const std::string> texts, uint64_t seed)
      : texts_(texts), seed_(seed), slots_(std::bit_ceil(texts.size() + texts.size() / 4 + 2), -1) {}

  // The id now filed under the text of `id`: `id` itself, or the one that was there before.
  TokenId insert(TokenId id) {
    TokenId& slot = slots_[slot_of(texts_[static_cast<size_t>(id)])];
    if (slot < 0) slot = id;
    return slot;
  }
  TokenId find(std::string_view text) const { return slots_[slot_of(text)]; }  // -1 if there is none

 private:
  size_t slot_of(std::string_view text) const {
    size_t i = hash(text) & (slots_.size() - 1);
    while (slots_[i] >= 0 && texts_[static_cast<size_t>(slots_[i])] != text)
      i = (i + 1) & (slots_.size() - 1);
    return i;
  }
  uint64_t hash(std::string_view text) const {
    uint64_t h = seed_ ^ text.size();
    while (!text.empty()) {
      const size_t n = std::min(text.size(), sizeof(uint64_t));
      uint64_t chunk = 0;
      std::memcpy(&chunk, text.data(), n);
      text.remove_prefix(n);
      h = (h ^ chunk) * 0x9E3779B97F4A7C15;
      h ^= h >> 32;
    }
    h *= 0xD6E8FEB86659FD93;
    return h ^ h >> 32;
  }

  std::span<const std::string> texts_;
  uint64_t seed_;
  std::vector<TokenId> slots_;
};

struct Stored {
  const Metadata& metadata;
  std::span<const std::string> tokens;
  std::span<const int32_t> types;
  std::span<const std::string> merges;
};

// SHA-256 over everything that decides ids, each field preceded by its length.
Sha256Digest digest_of(const Stored& stored) {
  Sha256 hash;
  std::string buffer;
  const auto flush = [&] {
    hash.update(std::span(reinterpret_cast<const uint8_t*>(buffer.data()), buffer.size()));
    buffer.clear();
  };
  const auto append_size = [&](size_t n) {
    for (int shift = 0; shift < 64; shift += 8) buffer += static_cast<char>(n >> shift & 0xFF);
  };
  const auto append_text = [&](std::string_view text) {
    append_size(text.size());
    buffer += text;
    if (buffer.size() > (size_t{64} << 10)) flush();
  };
  append_size(stored.tokens.size());
  for (size_t i = 0; i < stored.tokens.size(); ++i) {
    buffer += static_cast<char>(stored.types[i]);
    append_text(stored.tokens[i]);
  }
  append_size(stored.merges.size());
  for (const std::string& merge : stored.merges) append_text(merge);
  flush();
  return hash.finish();
}

Result<void> expect_text(const Metadata& metadata, std::string_view key, std::string_view expected,
                         std::string_view error) {
  ASSIGN_OR_RETURN(const std::string_view found, named(metadata.get_string(key)));
  if (found == expected) return {};
  return fail(ErrorKind::kUnsupported, error, "{}: {}: expected \"{}\", found {}", metadata.source(), key,
              expected, quoted(found));
}

Result<Stored> read_keys(const Metadata& metadata) {
  RETURN_IF_ERROR(expect_text(metadata, "tokenizer.ggml.model", "gpt2", "tokenizer.unknown_model"));
  RETURN_IF_ERROR(expect_text(metadata, "tokenizer.ggml.pre", "qwen2", "tokenizer.unknown_pre"));
  ASSIGN_OR_RETURN(const auto tokens, named(metadata.get_strings(kTokens)));
  ASSIGN_OR_RETURN(const auto types, named(metadata.get_i32s(kTypes)));
  ASSIGN_OR_RETURN(const auto merges, named(metadata.get_strings(kMerges)));
  const std::string& source = metadata.source();
  if (tokens.empty() || tokens.size() > kMaxTokens) {
    return fail("tokenizer.token_count", "{}: {}: expected 1 to {} tokens, found {}", source, kTokens,
                kMaxTokens, tokens.size());
  }
  if (types.size() != tokens.size()) {
    return fail("tokenizer.type_count", "{}: {}: expected {} entries, one per token, found {}", source,
                kTypes, tokens.size(), types.size());
  }
  if (metadata.contains(kScores)) {
    ASSIGN_OR_RETURN(const auto scores, named(metadata.get_floats(kScores)));
    if (scores.size() != tokens.size()) {
      return fail("tokenizer.score_count", "{}: {}: expected {} entries, one per token, found {}", source,
                  kScores, tokens.size(), scores.size());
    }
  }
  if (merges.size() > kMaxMerges) {
    return fail("tokenizer.merge_count", "{}: {}: expected at most {} merges, found {}", source, kMerges,
                kMaxMerges, merges.size());
  }
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] < 1 || types[i] > 6) {
      return fail("tokenizer.type_value", "{}: {}[{}]: expected 1 to 6, found {}", source, kTypes, i,
                  types[i]);
    }
  }
  return Stored{metadata, tokens, types, merges};
}

// "<0x0A>" -> 10.
std::optional<uint8_t> parse_byte_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const size_t digit = std::string_view("0123456789ABCDEF").find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    value = value * 16 + static_cast<int>(digit);
  }
  return static_cast<uint8_t>(value);
}

bool is_added(TokenKind kind) { return kind == TokenKind::kControl || kind == TokenKind::kUserDefined; }

// Appends the bytes that token i stands for.
Result<void> append_bytes(const Stored& stored, size_t i, const ByteAlphabet& alphabet, std::string& out) {
  const std::string& text = stored.tokens[i];
  const auto kind = static_cast<TokenKind>(stored.types[i]);
  const std::string& source = stored.metadata.source();
  const size_t limit = is_added(kind) ? kMaxAddedTokenBytes : kMaxTokenBytes;
  if (text.empty())
    return fail("tokenizer.empty_token", "{}: {}[{}]: expected text, found none", source, kTokens, i);
  if (text.size() > limit) {
    return fail("tokenizer.long_token", "{}: {}[{}]: expected at most {} bytes, found {}", source, kTokens, i,
                limit, text.size());
  }
  if (!utf8_is_valid(text)) {
    return fail("tokenizer.token_utf8", "{}: {}[{}]: expected valid UTF-8, found {}", source, kTokens, i,
                quoted(text));
  }
  if (kind == TokenKind::kByte) {
    const auto byte = parse_byte_token(text);
    if (!byte) {
      return fail("tokenizer.byte_token", "{}: {}[{}]: expected <0x00> to <0xFF>, found {}", source, kTokens,
                  i, quoted(text));
    }
    out += static_cast<char>(*byte);
  } else if (kind == TokenKind::kNormal) {
    for (size_t position = 0; position < text.size();) {
      const char32_t code_point = utf8_decode(text, position);
      const int byte = alphabet.byte_of(code_point);
      if (byte < 0) {
        return fail("tokenizer.byte_alphabet",
                    "{}: {}[{}]: expected characters that stand for bytes, found U+{:04X}", source, kTokens,
                    i, static_cast<uint32_t>(code_point));
      }
      out += static_cast<char>(byte);
    }
  } else {
    out += text;
  }
  return {};
}

Result<TokenId> special_id(const Metadata& metadata, std::string_view key, size_t n_vocab) {
  if (!metadata.contains(key)) return -1;
  auto id = metadata.get_uint(key, 0, n_vocab - 1);
  if (id) return static_cast<TokenId>(*id);
  if (id.error().id == "metadata.range") {
    id.error().id = "tokenizer.special_id";
    return tl::unexpected<Error>(std::move(id.error()));
  }
  return tl::unexpected<Error>(named(std::move(id)).error());
}

// "left right" -> ids of the two parts and of the token they make.
Result<Merge> parse_merge(const Stored& stored, const TextIndex& index, size_t i, std::string& scratch) {
  const std::string& text = stored.merges[i];
  const std::string& source = stored.metadata.source();
  const size_t space = text.find(' ');
  if (space == std::string::npos || space == 0 || space + 1 == text.size() ||
      text.find(' ', space + 1) != std::string::npos) {
    return fail("tokenizer.merge_syntax", "{}: {}[{}]: expected two parts and one space, found {}", source,
                kMerges, i, quoted(text));
  }
  const std::string_view left = std::string_view(text).substr(0, space);
  const std::string_view right = std::string_view(text).substr(space + 1);
  scratch.assign(left);
  scratch += right;
  const auto id_of = [&](std::string_view part) -> Result<TokenId> {
    const TokenId id = index.find(part);
    if (id >= 0 && stored.types[static_cast<size_t>(id)] == static_cast<int32_t>(TokenKind::kNormal))
      return id;
    return fail("tokenizer.merge_unknown", "{}: {}[{}]: expected normal tokens, found {} which is none",
                source, kMerges, i, quoted(part));
  };
  Merge merge;
  ASSIGN_OR_RETURN(merge.left, id_of(left));
  ASSIGN_OR_RETURN(merge.right, id_of(right));
  ASSIGN_OR_RETURN(merge.merged, id_of(scratch));
  return merge;
}

Result<void> add_merges(const Stored& stored, const TextIndex& index, Bpe& bpe) {
  bpe.reserve(stored.merges.size());
  std::string scratch;
  for (size_t i = 0; i < stored.merges.size(); ++i) {
    ASSIGN_OR_RETURN(const Merge merge, parse_merge(stored, index, i, scratch));
    if (!bpe.add(merge)) {
      return fail("tokenizer.duplicate_merge", "{}: {}[{}]: expected each merge once, found {} again",
                  stored.metadata.source(), kMerges, i, quoted(stored.merges[i]));
    }
  }
  return {};
}

}  // namespace

Result<Tokenizer> Tokenizer::load(const Metadata& metadata) {
  ASSIGN_OR_RETURN(const Stored stored, read_keys(metadata));
  const size_t n_vocab = stored.tokens.size();
  const Sha256Digest digest = digest_of(stored);
  uint64_t seed;
  std::memcpy(&seed, digest.data(), sizeof seed);

  const ByteAlphabet alphabet;
  TextIndex index(stored.tokens, seed);
  std::string bytes;
  std::vector<uint32_t> offsets{0};
  std::vector<TokenKind> kinds;
  offsets.reserve(n_vocab + 1);
  kinds.reserve(n_vocab);
  std::array<TokenId, 256> byte_ids;
  byte_ids.fill(-1);
  for (size_t i = 0; i < n_vocab; ++i) {
    const auto id = static_cast<TokenId>(i);
    const auto kind = static_cast<TokenKind>(stored.types[i]);
    RETURN_IF_ERROR(append_bytes(stored, i, alphabet, bytes));
    const TokenId first = index.insert(id);
    if (first != id) {
      return fail("tokenizer.duplicate_token",
                  "{}: {}[{}]: expected each token once, found {} which is also token {}", metadata.source(),
                  kTokens, i, quoted(stored.tokens[i]), first);
    }
    if (bytes.size() - offsets.back() == 1 && (kind == TokenKind::kNormal || kind == TokenKind::kByte)) {
      TokenId& byte_id = byte_ids[static_cast<unsigned char>(bytes.back())];
      if (byte_id < 0 || kind == TokenKind::kNormal) byte_id = id;
    }
    offsets.push_back(static_cast<uint32_t>(bytes.size()));
    kinds.push_back(kind);
  }
  for (size_t byte = 0; byte < byte_ids.size(); ++byte) {
    if (byte_ids[byte] < 0) {
      return fail("tokenizer.missing_byte", "{}: {}: expected a token for each byte, found none for 0x{:02X}",
                  metadata.source(), kTokens, byte);
    }
  }

  auto impl = std::make_unique<Impl>(byte_ids, seed);
  impl->bytes = std::move(bytes);
  impl->offsets = std::move(offsets);
  impl->kinds = std::move(kinds);
  impl->digest = to_hex(digest);
  RETURN_IF_ERROR(add_merges(stored, index, impl->bpe));

  std::vector<AddedTokens::Entry> added;
  for (size_t i = 0; i < n_vocab; ++i) {
    const auto id = static_cast<TokenId>(i);
    if (is_added(impl->kinds[i]))
      added.push_back({impl->token(id), id, impl->kinds[i] == TokenKind::kControl});
  }
  impl->added = AddedTokens(std::move(added));
  ASSIGN_OR_RETURN(impl->bos, special_id(metadata, "tokenizer.ggml.bos_token_id", n_vocab));
  ASSIGN_OR_RETURN(impl->eos, special_id(metadata, "tokenizer.ggml.eos_token_id", n_vocab));
  RETURN_IF_ERROR(special_id(metadata, "tokenizer.ggml.padding_token_id", n_vocab));
  impl->ends = {impl->eos, impl->added.find("<|im_end|>"), impl->added.find("<|endoftext|>")};
  return Tokenizer(std::move(impl));
}

}  // namespace ruvltra
