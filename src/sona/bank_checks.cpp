#include "sona/bank_checks.h"

#include "base/fail.h"
#include "base/num.h"
#include "base/utf8.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxTenantBytes = 64, kMaxSessionBytes = 128;

}  // namespace

Result<void> check_scope(const Scope& scope) {
  if (scope.tenant.empty() || scope.tenant.size() > kMaxTenantBytes) {
    return fail(ErrorKind::kUsage, "bank.tenant", "tenant: expected 1..{} bytes, found {}", kMaxTenantBytes,
                scope.tenant.size());
  }
  if (scope.session.size() > kMaxSessionBytes) {
    return fail(ErrorKind::kUsage, "bank.tenant", "session: expected at most {} bytes, found {}",
                kMaxSessionBytes, scope.session.size());
  }
  return {};
}

Result<void> check_quality(double quality) {
  if (quality >= 0 && quality <= 1) return {};  // not a NaN
  return fail(ErrorKind::kUsage, "bank.quality", "quality: expected 0..1, found {}", quality);
}

Result<void> check_item(const PatternItem& item, const TokenCounter& count_tokens) {
  RETURN_IF_ERROR(check_quality(item.quality));
  if (item.text.find_first_not_of(" \t\r\n") == std::string::npos) {
    return fail(ErrorKind::kUsage, "bank.empty_text", "text: expected something reusable, found none");
  }
  if (item.text.size() > kMaxPatternBytes) {
    return fail(ErrorKind::kUsage, "bank.text_too_long", "text: expected at most {} bytes, found {}",
                kMaxPatternBytes, item.text.size());
  }
  if (item.title.size() > kMaxPatternTitleBytes) {
    return fail(ErrorKind::kUsage, "bank.title_too_long", "title: expected at most {} bytes, found {}",
                kMaxPatternTitleBytes, item.title.size());
  }
  if (!utf8_is_valid(item.text) || !utf8_is_valid(item.title) || !utf8_is_valid(item.when)) {
    return fail(ErrorKind::kUsage, "bank.utf8", "item: expected valid UTF-8 in title, text and task");
  }
  ASSIGN_OR_RETURN(const size_t n_tokens, count_tokens(item.text));
  if (n_tokens > kMaxPatternTokens) {
    return fail(ErrorKind::kUsage, "bank.text_too_long", "text: expected at most {} tokens, found {}",
                kMaxPatternTokens, n_tokens);
  }
  return {};
}

Result<void> check_embedding(std::span<const float> values) {
  double norm = 0;
  for (const float x : values) norm += static_cast<double>(x) * x;
  if (values.size() == kEmbeddingDim && norm > 0.5 && norm < 2) return {};
  return fail("bank.embedding",
              "embedding: expected a unit vector of {} numbers, found {} of squared length {}", kEmbeddingDim,
              values.size(), norm);
}

bool is_lost(const Error& error) { return error.id == "store.not_found" || error.id == "store.corrupt"; }

std::string embedded_text(std::string_view when, std::string_view title, std::string_view text) {
  if (!when.empty()) return std::string(when);
  if (title.empty()) return std::string(text);
  return fmt::format("{}\n{}", title, text);
}

std::vector<float> rounded(std::vector<float> values) {
  for (float& x : values) x = f16_to_f32(f32_to_f16(x));
  return values;
}

}  // namespace ruvltra
