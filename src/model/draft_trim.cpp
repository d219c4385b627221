#include "model/draft_trim.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/fail.h"

namespace ruvltra {
namespace {

// How often each token occurs, counted piece by piece; pieces end at line ends where there are any.
Result<std::vector<uint64_t>> count_tokens(const Tokenizer& tokenizer, std::string_view corpus) {
  constexpr size_t kPieceBytes = size_t{1} << 20;
  std::vector<uint64_t> counts(tokenizer.n_vocab());
  for (size_t begin = 0; begin < corpus.size();) {
    const size_t line_end = corpus.find('\n', begin + kPieceBytes);
    const size_t end = line_end == std::string_view::npos ? corpus.size() : line_end + 1;
    const auto ids = tokenizer.encode(corpus.substr(begin, end - begin), Recognise::kAll);
    if (!ids) {
      return fail("draft.corpus", "draft corpus: in the text from byte {} on: {}", begin,
                  ids.error().message);
    }
    for (const TokenId id : *ids) ++counts[static_cast<size_t>(id)];
    begin = end;
  }
  return counts;
}

enum Rank { kAlways, kByCount, kLast };

Rank rank(TokenKind kind) {
  if (kind == TokenKind::kControl || kind == TokenKind::kUserDefined) return kAlways;
  return kind == TokenKind::kUnused ? kLast : kByCount;
}

class TrimmedSource : public WeightSource {
 public:
  TrimmedSource(std::unique_ptr<WeightSource> source, std::vector<TokenId> ids)
      : source_(std::move(source)), ids_(std::move(ids)) {
    shape_ = source_->shape();
    metadata_ = source_->metadata();
    warnings_.assign(source_->warnings().begin(), source_->warnings().end());
    tensors_.assign(source_->tensors().begin(), source_->tensors().end());

    const std::string_view head_name = shape_.tied ? "token_embd.weight" : "output.weight";
    const auto head = std::ranges::find(tensors_, head_name, &SourceTensor::name);
    CHECK(head != tensors_.end());
    source_head_ = head_ = static_cast<size_t>(head - tensors_.begin());
    if (shape_.tied) {
      head_ = tensors_.size();
      SourceTensor own = *head;
      own.name = "output.weight";
      tensors_.push_back(std::move(own));
    }
    tensors_[head_].dims[1] = ids_.size();
    shape_.tied = false;
    shape_.n_head_rows = ids_.size();
    metadata_.set(std::string(kDraftVocabularyKey), ids_);
  }

  Result<void> read(size_t tensor, uint64_t begin, std::span<uint8_t> out) const override {
    if (tensor != head_) return source_->read(tensor, begin, out);
    const uint64_t row_bytes = format_of(tensors_[head_].type).row_bytes(tensors_[head_].dims[0]);
    for (uint64_t done = 0; done < out.size();) {
      const uint64_t at = begin + done, skip = at % row_bytes;
      const uint64_t n = std::min(row_bytes - skip, out.size() - done);
      const auto row = static_cast<uint64_t>(ids_[at / row_bytes]);
      RETURN_IF_ERROR(source_->read(source_head_, row * row_bytes + skip, out.subspan(done, n)));
      done += n;
    }
    return {};
  }

 private:
  std::unique_ptr<WeightSource> source_;
  const std::vector<TokenId> ids_;
  size_t source_head_ = 0;  // the source's tensor with a row for each token
  size_t head_ = 0;         // ours with the rows kept
};

}  // namespace

Result<DraftVocabulary> choose_draft_vocabulary(const Tokenizer& tokenizer, std::string_view corpus,
                                                size_t n) {
  const size_t n_vocab = tokenizer.n_vocab();
  std::vector<TokenId> order(n_vocab);
  std::iota(order.begin(), order.end(), TokenId{0});
  const auto n_always = static_cast<size_t>(
      std::ranges::count_if(order, [&](TokenId id) { return rank(tokenizer.kind(id)) == kAlways; }));
  if (n <= n_always || n > n_vocab) {
    return fail(ErrorKind::kUsage, "draft.vocab",
                "--draft-vocab: expected {}..{} (the special tokens are always kept), found {}", n_always + 1,
                n_vocab, n);
  }
  ASSIGN_OR_RETURN(const std::vector<uint64_t> counts, count_tokens(tokenizer, corpus));
  DraftVocabulary kept;
  kept.n_corpus_tokens = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  if (kept.n_corpus_tokens == 0) return fail("draft.corpus", "draft corpus: expected a text, found no token");

  std::ranges::stable_sort(order, [&](TokenId a, TokenId b) {
    const Rank rank_a = rank(tokenizer.kind(a)), rank_b = rank(tokenizer.kind(b));
    if (rank_a != rank_b) return rank_a < rank_b;
    return counts[static_cast<size_t>(a)] > counts[static_cast<size_t>(b)];
  });
  order.resize(n);
  std::ranges::sort(order);
  for (const TokenId id : order) kept.n_corpus_covered += counts[static_cast<size_t>(id)];
  kept.ids = std::move(order);
  return kept;
}

Result<std::unique_ptr<WeightSource>> trim_head(std::unique_ptr<WeightSource> source,
                                                std::vector<TokenId> ids) {
  const ModelShape& shape = source->shape();
  if (shape.is_trimmed()) {
    return fail(ErrorKind::kUsage, "draft.trimmed",
                "{}: expected a whole model, found a draft trimmed to {} tokens", source->metadata().source(),
                shape.n_logits());
  }
  CHECK(!ids.empty() && ids.front() >= 0 && static_cast<size_t>(ids.back()) < shape.n_vocab);
  return std::make_unique<TrimmedSource>(std::move(source), std::move(ids));
}

}  // namespace ruvltra
