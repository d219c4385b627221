#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "gguf/reader.h"
#include "text/nfc.h"
#include "text/tokenizer_sample.h"

namespace ruvltra {
namespace {

using Ids = std::vector<TokenId>;

const std::string kNano = RUVLTRA_SOURCE_DIR "/models/nano-f16.gguf";

Tokenizer load(const Metadata& metadata) {
  auto tokenizer = Tokenizer::load(metadata);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(*tokenizer);
}

Tokenizer sample() { return load(sample_metadata()); }

Ids encode(const Tokenizer& tokenizer, std::string_view text, Recognise recognise = Recognise::kAll) {
  const auto ids = tokenizer.encode(text, recognise);
  EXPECT_TRUE(ids.has_value());
  return ids.value_or(Ids{-1});
}

Ids encode(const Tokenizer& tokenizer, const std::vector<TextRun>& runs) {
  const auto ids = tokenizer.encode(runs);
  EXPECT_TRUE(ids.has_value());
  return ids.value_or(Ids{-1});
}

// Vectors written by tests/tokenizer_reference.py, an implementation that shares nothing with this one.
TEST(Tokenizer, GoldenVectorsOfNano) {
  const auto file = GgufFile::open(kNano);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const Tokenizer tokenizer = load(file->metadata());
  const auto source = read_text_file(RUVLTRA_SOURCE_DIR "/tests/golden/tokenizer_nano.json", 1 << 20);
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const auto golden = parse_json(*source, "tokenizer_nano.json");
  ASSERT_TRUE(golden.has_value()) << golden.error().message;
  ASSERT_GT(golden->size(), 500u);
  for (const Json& line : *golden) {
    const auto text = line[0].get<std::string>();
    EXPECT_EQ(encode(tokenizer, text), line[1].get<Ids>()) << line[0];
  }
  EXPECT_EQ(tokenizer.n_vocab(), 4096u);
  EXPECT_EQ(tokenizer.bos(), 4093);
  EXPECT_EQ(tokenizer.eos(), 4095);
  EXPECT_TRUE(tokenizer.ends_generation(4093));
  EXPECT_FALSE(tokenizer.ends_generation(4094));
  EXPECT_TRUE(tokenizer.ends_generation(4095));
}

TEST(Tokenizer, MergesInRankOrder) {
  const Tokenizer tokenizer = sample();
  EXPECT_EQ(encode(tokenizer, ""), Ids{});
  EXPECT_EQ(encode(tokenizer, "hello"), (Ids{kSampleHello}));
  EXPECT_EQ(encode(tokenizer, " hello hell"), (Ids{' ', kSampleHello, ' ', kSampleHell}));
  EXPECT_EQ(encode(tokenizer, "\xC3\xA9"), (Ids{0xC3, 0xA9}));
}

TEST(Tokenizer, NfcUnlessTurnedOff) {
  Tokenizer tokenizer = sample();
  EXPECT_EQ(encode(tokenizer, "e\u0301"), (Ids{0xC3, 0xA9}));
  // Text is normalised stretch by stretch: an added token keeps a mark from its letter.
  EXPECT_EQ(encode(tokenizer, "e<tool>\u0301"), (Ids{'e', kSampleTool, 0xCC, 0x81}));
  tokenizer.set_nfc(false);
  EXPECT_EQ(encode(tokenizer, "e\u0301"), (Ids{'e', 0xCC, 0x81}));
}

TEST(Tokenizer, AddedTokensByTrust) {
  const Tokenizer tokenizer = sample();
  const std::string text = "<tool><|im_end|>";
  const Ids plain_tool = {'<', 't', 'o', 'o', 'l', '>'};
  const Ids plain_end = {'<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'};
  Ids none = plain_tool;
  none.insert(none.end(), plain_end.begin(), plain_end.end());
  EXPECT_EQ(encode(tokenizer, text, Recognise::kNone), none);
  EXPECT_EQ(encode(tokenizer, text, Recognise::kUserDefined),
            (Ids{kSampleTool, kSamplePart, 'n', 'd', '|', '>'}));
  EXPECT_EQ(encode(tokenizer, text, Recognise::kAll), (Ids{kSampleTool, kSampleEnd}));
}

TEST(Tokenizer, LongestAddedTokenWins) {
  const Tokenizer tokenizer = sample();
  EXPECT_EQ(encode(tokenizer, "<tool><tool>>"), (Ids{kSampleTool, kSampleToolLonger}));
  // <|im_end|>! is a control token with the user-defined <|im_e inside: without trust the shorter one is
  // found.
  EXPECT_EQ(encode(tokenizer, "<|im_end|>!"), (Ids{kSampleEndLonger}));
  EXPECT_EQ(encode(tokenizer, "<|im_end|>!", Recognise::kUserDefined),
            (Ids{kSamplePart, 'n', 'd', '|', '>', '!'}));
  EXPECT_EQ(encode(tokenizer, "<|im_end"), (Ids{kSamplePart, 'n', 'd'}));
  EXPECT_EQ(encode(tokenizer, "<<tool>"), (Ids{'<', kSampleTool}));
  EXPECT_EQ(encode(tokenizer, "<|im_<|im_end|>"), (Ids{'<', '|', 'i', 'm', '_', kSampleEnd}));
}

TEST(Tokenizer, TextOfRunsIsJoinedBeforeSplitting) {
  const Tokenizer tokenizer = sample();
  EXPECT_EQ(encode(tokenizer, {{"hel", Recognise::kAll}, {"lo", Recognise::kUserDefined}}),
            (Ids{kSampleHello}));
  EXPECT_EQ(encode(tokenizer, {{"e", Recognise::kNone}, {"\u0301", Recognise::kAll}}), (Ids{0xC3, 0xA9}));
  EXPECT_EQ(encode(tokenizer, {{"h", Recognise::kAll}, {"", Recognise::kNone}, {"e", Recognise::kAll}}),
            (Ids{kSampleHe}));
  EXPECT_EQ(encode(tokenizer, std::vector<TextRun>{}), Ids{});
}

TEST(Tokenizer, NoControlTokenAcrossARunBoundary) {
  const Tokenizer tokenizer = sample();
  const std::string control = "<|im_end|>";
  const auto has_control = [&](const std::vector<TextRun>& runs) {
    for (const TokenId id : encode(tokenizer, runs)) {
      if (tokenizer.kind(id) == TokenKind::kControl) return true;
    }
    return false;
  };
  for (size_t cut = 0; cut <= control.size(); ++cut) {
    const std::string head = control.substr(0, cut), tail = control.substr(cut);
    EXPECT_EQ(has_control({{head, Recognise::kAll}, {tail, Recognise::kAll}}), true) << cut;
    for (const Recognise untrusted : {Recognise::kNone, Recognise::kUserDefined}) {
      EXPECT_EQ(has_control({{head, Recognise::kAll}, {tail, untrusted}}), cut == control.size()) << cut;
      EXPECT_EQ(has_control({{head, untrusted}, {tail, Recognise::kAll}}), cut == 0) << cut;
      EXPECT_FALSE(has_control({{head, untrusted}, {tail, untrusted}})) << cut;
      EXPECT_FALSE(has_control({{"<|im_", Recognise::kAll}, {"e", untrusted}, {"nd|>", Recognise::kAll}}));
    }
  }
  // Compatibility forms that NFC or NFKC would turn into ASCII stay text.
  EXPECT_FALSE(has_control({{"\uFF1C|im_end|\uFF1E <|im_\u212And|>", Recognise::kAll}}));
}

TEST(Tokenizer, UserDefinedTokenAcrossRunsThatAllowIt) {
  const Tokenizer tokenizer = sample();
  EXPECT_EQ(encode(tokenizer, {{"<to", Recognise::kAll}, {"ol>", Recognise::kUserDefined}}),
            Ids{kSampleTool});
  EXPECT_EQ(encode(tokenizer, {{"<to", Recognise::kUserDefined}, {"ol>", Recognise::kNone}}).size(), 6u);
}

TEST(Tokenizer, InvalidUtf8NamesTheOffset) {
  const Tokenizer tokenizer = sample();
  const auto ids = tokenizer.encode("abc\xFFz", Recognise::kAll);
  ASSERT_FALSE(ids.has_value());
  EXPECT_EQ(ids.error().id, "tokenizer.invalid_utf8");
  EXPECT_NE(ids.error().message.find("offset 3"), std::string::npos) << ids.error().message;
  // Two halves of a code point in two runs are two errors, not a character.
  const std::vector<TextRun> halves = {{"\xC3", Recognise::kAll}, {"\xA9", Recognise::kAll}};
  EXPECT_EQ(tokenizer.encode(halves).error().id, "tokenizer.invalid_utf8");
}

TEST(Tokenizer, BytesAndDecode) {
  const Tokenizer tokenizer = sample();
  EXPECT_EQ(tokenizer.bytes(0), std::string_view("\0", 1));
  EXPECT_EQ(tokenizer.bytes(0xFF), "\xFF");
  EXPECT_EQ(tokenizer.bytes(kSampleHello), "hello");
  EXPECT_EQ(tokenizer.kind(kSampleEnd), TokenKind::kControl);
  EXPECT_EQ(tokenizer.kind(kSampleUnused), TokenKind::kUnused);
  const Ids ids = {'a', kSampleEnd, kSampleTool, 0xC3};
  EXPECT_EQ(tokenizer.decode(ids, true), "a<|im_end|><tool>\xC3");
  EXPECT_EQ(tokenizer.decode(ids, false), "a<tool>\xC3");
  EXPECT_EQ(tokenizer.added_token("<tool>"), kSampleTool);
  EXPECT_EQ(tokenizer.added_token("<too"), -1);
  EXPECT_EQ(tokenizer.added_token("hello"), -1);
  EXPECT_EQ(tokenizer.added_token("[PAD]"), -1);
  EXPECT_EQ(encode(tokenizer, "[PAD]").size(), 5u);
}

TEST(Tokenizer, SpecialIdsMayBeAbsent) {
  Metadata metadata = sample_metadata();
  metadata.erase("tokenizer.ggml.bos_token_id");
  metadata.erase("tokenizer.ggml.eos_token_id");
  const Tokenizer tokenizer = load(metadata);
  EXPECT_EQ(tokenizer.bos(), -1);
  EXPECT_EQ(tokenizer.eos(), -1);
  EXPECT_FALSE(tokenizer.ends_generation(-1));
  EXPECT_TRUE(tokenizer.ends_generation(kSampleEnd));
}

TEST(Tokenizer, DigestSeesEveryPart) {
  const std::string digest = sample().digest();
  EXPECT_EQ(digest.size(), 64u);
  EXPECT_EQ(digest, sample().digest());
  const auto changed = [&](const std::function<void(SampleVocabulary&)>& change) {
    SampleVocabulary vocabulary;
    change(vocabulary);
    return load(vocabulary.metadata()).digest() != digest;
  };
  EXPECT_TRUE(changed([](auto& v) { v.tokens.back() = std::string("[PAD2]"); }));
  EXPECT_TRUE(changed([](auto& v) { v.types.back() = 4; }));
  EXPECT_TRUE(changed([](auto& v) { std::swap(v.merges[0], v.merges[1]); }));
  EXPECT_TRUE(changed([](auto& v) { v.merges.pop_back(); }));
  EXPECT_FALSE(changed([](auto&) {}));
}

// A byte token gives the bytes that no normal token stands for.
TEST(Tokenizer, ByteTokens) {
  SampleVocabulary vocabulary;
  vocabulary.tokens[0xFF] = "<0xFF>";
  vocabulary.types[0xFF] = 6;
  const Tokenizer tokenizer = load(vocabulary.metadata());
  EXPECT_EQ(tokenizer.bytes(0xFF), "\xFF");
  EXPECT_EQ(tokenizer.kind(0xFF), TokenKind::kByte);
}

struct BadVocabulary {
  const char* name;
  const char* error;
  std::function<void(SampleVocabulary&)> change;
};

TEST(Tokenizer, RefusesBadVocabularies) {
  const std::string mebibyte(size_t{1} << 20, 'x');
  const std::vector<BadVocabulary> cases = {
      {"no tokens", "tokenizer.token_count",
       [](auto& v) { v.tokens.clear(), v.types.clear(), v.merges.clear(); }},
      {"too many tokens", "tokenizer.token_count", [](auto& v) { v.tokens.resize((1 << 20) + 1, "x"); }},
      {"fewer types", "tokenizer.type_count", [](auto& v) { v.types.pop_back(); }},
      {"more types", "tokenizer.type_count", [](auto& v) { v.types.push_back(1); }},
      {"type 99", "tokenizer.type_value", [](auto& v) { v.types[3] = 99; }},
      {"type 0", "tokenizer.type_value", [](auto& v) { v.types[3] = 0; }},
      {"type -1", "tokenizer.type_value", [](auto& v) { v.types[3] = -1; }},
      {"merge without space", "tokenizer.merge_syntax", [](auto& v) { v.merges[1] = std::string("hell"); }},
      {"merge of three", "tokenizer.merge_syntax", [](auto& v) { v.merges[1] = std::string("h e l"); }},
      {"merge with empty part", "tokenizer.merge_syntax", [](auto& v) { v.merges[1] = std::string(" he"); }},
      {"empty merge", "tokenizer.merge_syntax", [](auto& v) { v.merges[1] = std::string(""); }},
      {"merge of unknown piece", "tokenizer.merge_unknown",
       [](auto& v) { v.merges[1] = std::string("he zz"); }},
      {"merge into unknown token", "tokenizer.merge_unknown",
       [](auto& v) { v.merges[1] = std::string("q q"); }},
      {"merge into control token", "tokenizer.merge_unknown",
       [](auto& v) { v.tokens[kSampleEnd] = std::string("qq"), v.merges[1] = std::string("q q"); }},
      {"merge twice", "tokenizer.duplicate_merge", [](auto& v) { v.merges.push_back(v.merges[0]); }},
      {"10 M merges", "tokenizer.merge_count", [](auto& v) { v.merges.resize(10'000'000); }},
      {"duplicate token", "tokenizer.duplicate_token",
       [](auto& v) { v.tokens[kSampleHe] = std::string("ll"); }},
      {"empty token", "tokenizer.empty_token", [](auto& v) { v.tokens[kSampleUnused] = std::string(""); }},
      {"1 MiB token", "tokenizer.long_token", [&](auto& v) { v.tokens[kSampleHello] = mebibyte; }},
      {"long control token", "tokenizer.long_token",
       [](auto& v) { v.tokens[kSampleEnd] = std::string(257, '<'); }},
      {"token of bad UTF-8", "tokenizer.token_utf8",
       [](auto& v) { v.tokens[kSampleTool] = std::string("\xFF"); }},
      {"outside the alphabet: space", "tokenizer.byte_alphabet",
       [](auto& v) { v.tokens[kSampleHe] = std::string("h e"); }},
      {"outside the alphabet: CJK", "tokenizer.byte_alphabet",
       [](auto& v) { v.tokens[kSampleHe] = std::string("\u4E2D"); }},
      {"outside the alphabet: U+0144", "tokenizer.byte_alphabet",
       [](auto& v) { v.tokens[kSampleHe] = std::string("\u0144"); }},
      {"no token for a byte", "tokenizer.missing_byte", [](auto& v) { v.tokens[0x80] = std::string("xyz"); }},
      {"byte token <0x-1>", "tokenizer.byte_token",
       [](auto& v) { v.tokens[7] = std::string("<0x-1>"), v.types[7] = 6; }},
      {"byte token <0xGG>", "tokenizer.byte_token",
       [](auto& v) { v.tokens[7] = std::string("<0xGG>"), v.types[7] = 6; }},
      {"byte token <0x100>", "tokenizer.byte_token",
       [](auto& v) { v.tokens[7] = std::string("<0x100>"), v.types[7] = 6; }},
      {"byte token for another byte", "tokenizer.missing_byte",
       [](auto& v) { v.tokens[7] = std::string("<0x08>"), v.types[7] = 6; }},
  };
  for (const BadVocabulary& bad : cases) {
    SampleVocabulary vocabulary;
    bad.change(vocabulary);
    const auto tokenizer = Tokenizer::load(vocabulary.metadata());
    ASSERT_FALSE(tokenizer.has_value()) << bad.name;
    EXPECT_EQ(tokenizer.error().id, bad.error) << bad.name << ": " << tokenizer.error().message;
    EXPECT_TRUE(tokenizer.error().message.starts_with("sample: tokenizer.ggml."))
        << tokenizer.error().message;
    EXPECT_LT(tokenizer.error().message.size(), 300u) << bad.name;
  }
}

struct BadKey {
  const char* key;
  MetaValue value;
  const char* error;
};

TEST(Tokenizer, RefusesBadKeys) {
  const std::vector<BadKey> cases = {
      {"tokenizer.ggml.model", std::string("llama"), "tokenizer.unknown_model"},
      {"tokenizer.ggml.model", uint32_t{1}, "tokenizer.key_type"},
      {"tokenizer.ggml.pre", std::string("llama-bpe"), "tokenizer.unknown_pre"},
      {"tokenizer.ggml.tokens", std::vector<uint8_t>{1, 2}, "tokenizer.key_type"},
      {"tokenizer.ggml.token_type", std::vector<float>{1}, "tokenizer.key_type"},
      {"tokenizer.ggml.merges", std::string("a b"), "tokenizer.key_type"},
      {"tokenizer.ggml.scores", std::vector<uint8_t>{1}, "tokenizer.key_type"},
      {"tokenizer.ggml.scores", std::vector<float>{1}, "tokenizer.score_count"},
      {"tokenizer.ggml.eos_token_id", uint32_t{kSampleSize}, "tokenizer.special_id"},
      {"tokenizer.ggml.eos_token_id", uint32_t{UINT32_MAX}, "tokenizer.special_id"},
      {"tokenizer.ggml.bos_token_id", uint64_t{UINT64_MAX}, "tokenizer.special_id"},
      {"tokenizer.ggml.bos_token_id", int32_t{-1}, "tokenizer.special_id"},
      {"tokenizer.ggml.padding_token_id", uint32_t{1u << 31}, "tokenizer.special_id"},
      {"tokenizer.ggml.padding_token_id", std::string("0"), "tokenizer.key_type"},
  };
  for (const BadKey& bad : cases) {
    Metadata metadata = sample_metadata();
    metadata.set(bad.key, bad.value);
    const auto tokenizer = Tokenizer::load(metadata);
    ASSERT_FALSE(tokenizer.has_value()) << bad.key;
    EXPECT_EQ(tokenizer.error().id, bad.error) << tokenizer.error().message;
    EXPECT_NE(tokenizer.error().message.find(bad.key), std::string::npos) << tokenizer.error().message;
  }
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
                          "tokenizer.ggml.token_type", "tokenizer.ggml.merges"}) {
    Metadata metadata = sample_metadata();
    metadata.erase(key);
    const auto tokenizer = Tokenizer::load(metadata);
    ASSERT_FALSE(tokenizer.has_value()) << key;
    EXPECT_EQ(tokenizer.error().id, "tokenizer.missing_key") << tokenizer.error().message;
  }
}

// One letter 8 MB long, and worst cases for each stage: a hang here is quadratic work.
TEST(Tokenizer, HugeTextsOfEveryKind) {
  const auto file = GgufFile::open(kNano);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const Tokenizer tokenizer = load(file->metadata());
  const auto check = [&](std::string_view piece, size_t n_bytes) {
    std::string text;
    text.reserve(n_bytes);
    while (text.size() + piece.size() <= n_bytes) text += piece;
    const Ids ids = encode(tokenizer, text);
    EXPECT_TRUE(tokenizer.decode(ids, true) == to_nfc(text)) << quoted(piece) << " x " << n_bytes;
  };
  check("a", size_t{8} << 20);
  for (const std::string_view piece :
       {"the", " ", "\n", " \n", "1", "'", "'s", ".", "<|im_start", "<|", "\u0301", "\u4E2D", "\U0001F642",
        "\u00E9", "<|im_end|>", "abcdefgh", "\t\r\n", "\u0334\u0301"}) {
    check(piece, size_t{1} << 19);
  }
}

}  // namespace
}  // namespace ruvltra
