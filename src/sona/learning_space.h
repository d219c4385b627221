// What learning needs of a model once, made when it is first missed and kept in the data folder: the basis of
// its adapters, and records of the canary text that every candidate is held against.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sona/lora_gradient.h"
#include "sona/micro_lora.h"
#include "sona/output_head.h"
#include "sona/teacher_forced.h"
#include "sona/token_record.h"

namespace ruvltra {

// Tokens of a canary text that count, unless the texts together would be too few.
inline constexpr size_t kCanaryTokens = 64;
inline constexpr size_t kMinCanaryTexts = 200;
inline constexpr size_t kMinCanaryTokens = 12'000;

struct LearningSpaceSpec {
  BasisSpec basis;
  size_t top_k = kDefaultTopK;
  // Of the canary, for models whose own tests cannot afford it all.
  size_t min_canary_texts = kMinCanaryTexts;
  size_t min_canary_tokens = kMinCanaryTokens;
};

// *Thread safety*: const calls may run in parallel.
class LearningSpace {
 public:
  using Encode = std::function<Result<std::vector<TokenId>>(std::string_view text)>;

  // Loads adapter-basis.rvc1 and canary.rvc1 from `folder`, or makes what is missing, damaged or of another
  // model, basis, K or canary text; rebuilt() says why. `head` must outlive the object.
  // Errors: those of BasisSpec::validate(), of the callbacks and of writing files; learning.few_texts,
  // learning.few_tokens if the texts give too little.
  static Result<std::shared_ptr<const LearningSpace>> open(
      const std::filesystem::path& folder, const LearningSpaceSpec& spec, const OutputHead& head,
      std::span<const std::string_view> canary_texts, const Encode& encode, const TeacherForced& forward);

  const std::shared_ptr<const AdapterBasis>& basis() const { return basis_; }
  const OutputHead& head() const { return *head_; }
  size_t top_k() const { return spec_.top_k; }
  const TokenRecords& canary() const { return *canary_; }
  Batch canary_batch() const { return {canary_.get(), canary_examples_}; }
  // n canary tokens, spread evenly: text that is replayed.
  std::vector<Example> canary_sample(size_t n) const;
  // Why the basis and the canary records were made anew, one line each; empty: they were loaded.
  std::span<const std::string> rebuilt() const { return rebuilt_; }

 private:
  LearningSpace() = default;
  Result<void> make_basis(const std::filesystem::path& file, const TeacherForced& forward);
  Result<void> make_canary(const std::filesystem::path& file, const TeacherForced& forward);
  Result<void> load_canary(const std::filesystem::path& file);
  Result<void> cut_texts(std::span<const std::string_view> texts, const Encode& encode);
  size_t n_canary_tokens() const;

  LearningSpaceSpec spec_;
  const OutputHead* head_ = nullptr;
  std::shared_ptr<const AdapterBasis> basis_;
  std::vector<std::vector<TokenId>> texts_;  // cut; freed after open()
  std::unique_ptr<TokenRecords> canary_;
  std::vector<Example> canary_examples_;
  std::vector<std::string> rebuilt_;
};

// Records of the target tokens of one text, at the base model, into `records`. False: they are full, the rest
// is missing. *Requires*: as TeacherForced. Errors: those of `forward`.
Result<bool> record_text(const TeacherForced& forward, const AdapterBasis& basis,
                         std::span<const TokenId> tokens, size_t n_context, TokenRecords& records);

}  // namespace ruvltra
