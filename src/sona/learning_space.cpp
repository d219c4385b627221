#include "sona/learning_space.h"

#include <algorithm>

#include "base/container.h"
#include "base/fail.h"
#include "base/file.h"
#include "sona/token_record_file.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;
constexpr uint32_t kBasisTag = section_tag("BASI");  // hash of the basis the features are of
constexpr uint32_t kTextTag = section_tag("TEXT");   // hash of the tokens
constexpr uint32_t kTopKTag = section_tag("TOPK");
// Means and deviations of features need fewer tokens than the canary has: one text in so many.
constexpr size_t kBasisStride = 4;

Sha256Digest hash_of(const std::vector<std::vector<TokenId>>& texts) {
  Sha256 hash;
  for (const auto& text : texts) {
    const uint64_t n = text.size();
    hash.update({reinterpret_cast<const uint8_t*>(&n), sizeof n});
    hash.update({reinterpret_cast<const uint8_t*>(text.data()), n * sizeof(TokenId)});
  }
  return hash.finish();
}

}  // namespace

Result<bool> record_text(const TeacherForced& forward, const AdapterBasis& basis,
                         std::span<const TokenId> tokens, size_t n_context, TokenRecords& records) {
  std::vector<float> phi(basis.n_features());
  const FeatureView view = basis.view();
  bool full = false;
  RETURN_IF_ERROR(
      forward(tokens, n_context, basis.tap_layers(),
              [&](size_t t, std::span<const float> logits, const float* const* taps, float hidden_norm) {
                full = full || records.full();
                const auto next = static_cast<uint32_t>(tokens[t + 1]);
                if (full || next >= records.n_rows()) return;  // a token of the padding cannot be learned
                adapter_features(view, taps, phi.data());
                records.add(logits, next, phi, hidden_norm);
              }));
  return !full;
}

std::vector<Example> LearningSpace::canary_sample(size_t n) const {
  const size_t all = canary_->size();
  n = std::min(n, all);
  std::vector<Example> sample;
  for (size_t i = 0; i < n; ++i) sample.push_back({static_cast<uint32_t>(i * all / n), 1});
  return sample;
}

size_t LearningSpace::n_canary_tokens() const {
  size_t n = 0;
  for (const auto& text : texts_) n += text.size() - 1;
  return n;
}

// The shortest cut, in steps of kCanaryTokens / 4, that leaves enough tokens.
Result<void> LearningSpace::cut_texts(std::span<const std::string_view> texts, const Encode& encode) {
  std::vector<std::vector<TokenId>> whole;
  size_t longest = 0;
  for (const std::string_view text : texts) {
    ASSIGN_OR_RETURN(auto tokens, encode(text));
    longest = std::max(longest, tokens.size());
    if (tokens.size() >= 2) whole.push_back(std::move(tokens));
  }
  if (whole.size() < spec_.min_canary_texts) {
    return fail("learning.few_texts", "canary: expected at least {} texts, found {}", spec_.min_canary_texts,
                whole.size());
  }
  for (size_t cut = kCanaryTokens; n_canary_tokens() < spec_.min_canary_tokens; cut += kCanaryTokens / 4) {
    texts_ = whole;
    for (auto& text : texts_) text.resize(std::min(text.size(), cut));
    if (cut >= longest) break;
  }
  if (n_canary_tokens() < spec_.min_canary_tokens) {
    return fail("learning.few_tokens", "canary: expected at least {} tokens, found {}",
                spec_.min_canary_tokens, n_canary_tokens());
  }
  return {};
}

Result<void> LearningSpace::make_basis(const std::filesystem::path& file, const TeacherForced& forward) {
  ASSIGN_OR_RETURN(auto builder, BasisBuilder::make(spec_.basis));
  // Every kBasisStride-th text first: all kinds of text have their part in it.
  for (size_t first = 0; first < kBasisStride && builder.n_tokens() < kMinBasisTokens; ++first) {
    for (size_t i = first; i < texts_.size(); i += kBasisStride) {
      RETURN_IF_ERROR(forward(
          texts_[i], 1, builder.tap_layers(),
          [&](size_t, std::span<const float>, const float* const* taps, float) { builder.add(taps); }));
    }
  }
  ASSIGN_OR_RETURN(auto basis, std::move(builder).finish());
  RETURN_IF_ERROR(basis.save(file));
  basis_ = std::make_shared<const AdapterBasis>(std::move(basis));
  return {};
}

Result<void> LearningSpace::load_canary(const std::filesystem::path& file) {
  std::vector<uint32_t> tags = {kBasisTag, kTextTag, kTopKTag};
  for (const uint32_t tag : record_tags('c')) tags.push_back(tag);
  const ContainerExpect expect = {.kind = ContainerKind::kCanaryRecords,
                                  .max_version = 1,
                                  .known_flags = 0,
                                  .known_tags = tags,
                                  .model = spec_.basis.model};
  ASSIGN_OR_RETURN(const auto bytes, read_file(file, kMaxFileBytes));
  ASSIGN_OR_RETURN(const auto container, Container::parse(bytes, file.string(), expect));
  ASSIGN_OR_RETURN(const auto basis, container.section(kBasisTag, SectionType::kBytes));
  ASSIGN_OR_RETURN(const auto text, container.section(kTextTag, SectionType::kBytes));
  ASSIGN_OR_RETURN(const auto top_k, container.read<uint64_t>(kTopKTag, 1));
  if (!std::ranges::equal(basis, basis_->hash()) || !std::ranges::equal(text, hash_of(texts_)) ||
      top_k[0] != spec_.top_k) {
    return fail("learning.model_mismatch", "{}: expected records of this basis, text and K, found others",
                file.string());
  }
  RETURN_IF_ERROR(read_records(container, 'c', file.string(), *canary_));
  if (canary_->size() < spec_.min_canary_tokens)
    return fail("learning.few_tokens", "{}: expected at least {} tokens, found {}", file.string(),
                spec_.min_canary_tokens, canary_->size());
  return {};
}

Result<void> LearningSpace::make_canary(const std::filesystem::path& file, const TeacherForced& forward) {
  canary_->clear();
  for (const auto& text : texts_) {
    ASSIGN_OR_RETURN(const bool all, record_text(forward, *basis_, text, 1, *canary_));
    if (!all) break;
  }
  if (canary_->size() < spec_.min_canary_tokens) {
    return fail("learning.few_tokens", "canary: expected at least {} tokens with finite logits, found {}",
                spec_.min_canary_tokens, canary_->size());
  }
  ContainerWriter writer(
      {.kind = ContainerKind::kCanaryRecords, .version = 1, .flags = 0, .model = spec_.basis.model});
  const Sha256Digest text = hash_of(texts_);
  const std::vector<uint64_t> top_k = {spec_.top_k};
  const RecordColumns columns(*canary_);
  writer.add_bytes(kBasisTag, SectionType::kBytes, basis_->hash());
  writer.add_bytes(kTextTag, SectionType::kBytes, text);
  writer.add(kTopKTag, top_k);
  columns.add_to(writer, 'c');
  return writer.write_file(file);
}

Result<std::shared_ptr<const LearningSpace>> LearningSpace::open(
    const std::filesystem::path& folder, const LearningSpaceSpec& spec, const OutputHead& head,
    std::span<const std::string_view> canary_texts, const Encode& encode, const TeacherForced& forward) {
  RETURN_IF_ERROR(spec.basis.validate());
  auto space = std::shared_ptr<LearningSpace>(new LearningSpace());
  space->spec_ = spec;
  space->head_ = &head;
  RETURN_IF_ERROR(space->cut_texts(canary_texts, encode));

  const auto basis_file = folder / "adapter-basis.rvc1", canary_file = folder / "canary.rvc1";
  auto basis = AdapterBasis::load(basis_file, spec.basis.model);
  const BasisSpec& wanted = spec.basis;
  const auto fits = [&](const BasisSpec& found) {
    return found.n_layers == wanted.n_layers && found.d_model == wanted.d_model && found.eps == wanted.eps &&
           found.layers == wanted.layers && found.final_tap == wanted.final_tap &&
           found.rank == wanted.rank && found.seed == wanted.seed;
  };
  if (basis && fits(basis->spec())) {
    space->basis_ = std::make_shared<const AdapterBasis>(std::move(*basis));
  } else {
    space->rebuilt_.push_back("basis: " + (basis
                                               ? basis_file.string() + ": made for other hooks, rank or seed"
                                               : basis.error().message));
    RETURN_IF_ERROR(space->make_basis(basis_file, forward));
  }
  // Room for a K that doubles twice; memory is touched as it fills.
  const size_t n_tokens = space->n_canary_tokens();
  space->canary_ = std::make_unique<TokenRecords>(
      TokenRecords::Options{.n_features = space->basis_->n_features(),
                            .n_rows = head.n_rows(),
                            .capacity = n_tokens,
                            .top_k = spec.top_k,
                            .max_ids = n_tokens * (std::min(4 * spec.top_k, head.n_rows()) + 1)});
  if (const auto loaded = space->load_canary(canary_file); !loaded) {
    space->rebuilt_.push_back("canary: " + loaded.error().message);
    RETURN_IF_ERROR(space->make_canary(canary_file, forward));
  }
  for (size_t i = 0; i < space->canary_->size(); ++i)
    space->canary_examples_.push_back({static_cast<uint32_t>(i), 1});
  space->texts_ = {};
  return std::shared_ptr<const LearningSpace>(std::move(space));
}

}  // namespace ruvltra
