#include "model/quantize_policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "base/fail.h"

namespace ruvltra {
namespace {

using enum TensorType;

constexpr std::array<QuantScheme, 11> kSchemes = {{
    {"F32", 0, kF32, kF32, kF32},
    {"F16", 1, kF16, kF16, kF16},
    {"BF16", 32, kBF16, kBF16, kBF16},
    {"Q8_0", 7, kQ8_0, kQ8_0, kQ8_0},
    {"Q6_K", 18, kQ6_K, kQ6_K, kQ6_K},
    {"Q5_K_M", 17, kQ5_K, kQ6_K, kQ6_K},
    {"Q5_1", 9, kQ5_1, kQ5_1, kQ6_K},
    {"Q5_0", 8, kQ5_0, kQ5_0, kQ6_K},
    {"Q4_K_M", 15, kQ4_K, kQ6_K, kQ6_K},
    {"Q4_0", 2, kQ4_0, kQ4_0, kQ6_K},
    {"Mixed", 15, kQ4_K, kQ6_K, kQ8_0, true},
}};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// "blk.N.PART.weight" -> N and PART.
struct BlockTensor {
  size_t layer;
  std::string_view part;
};
std::optional<BlockTensor> parse_block_tensor(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.", kSuffix = ".weight";
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  BlockTensor out{};
  const char* end = name.data() + name.size() - kSuffix.size();
  const auto [rest, error] = std::from_chars(name.data() + kPrefix.size(), end, out.layer);
  if (error != std::errc() || rest == end || *rest != '.') return std::nullopt;
  out.part = std::string_view(rest + 1, static_cast<size_t>(end - rest - 1));
  return out;
}

TensorType scheme_type(const PolicyInput& policy, std::string_view name) {
  const QuantScheme& scheme = policy.scheme;
  if (policy.pure) return scheme.base;
  if (name == "output.weight") return scheme.output;
  if (name == "token_embd.weight") {
    if (scheme.mixed) return kF16;
    return policy.tied ? scheme.output : scheme.base;
  }
  const auto block = parse_block_tensor(name);
  if (!block) return scheme.base;
  if (scheme.mixed && block->part.starts_with("attn_")) return kF16;
  const bool refinable = block->part == "attn_v" || block->part == "ffn_down";
  return refinable && use_more_bits(block->layer, policy.n_layers) ? scheme.refined : scheme.base;
}

// The nearest format, in quality, whose blocks divide a row of n_elements.
TensorType fit_row(TensorType type, uint64_t n_elements) {
  if (n_elements % format_of(type).block_elements == 0) return type;
  switch (type) {
    case kQ4_K:
      return fit_row(kQ5_0, n_elements);
    case kQ5_K:
      return fit_row(kQ5_1, n_elements);
    case kQ6_K:
      return fit_row(kQ8_0, n_elements);
    default:
      return kF16;
  }
}

}  // namespace

std::span<const QuantScheme> quant_schemes() { return kSchemes; }

Result<QuantScheme> find_quant_scheme(std::string_view name) {
  std::string names;
  for (const QuantScheme& scheme : kSchemes) {
    if (std::ranges::equal(name, scheme.name, {}, lower, lower)) return scheme;
    names += (names.empty() ? "" : ", ") + std::string(scheme.name);
  }
  return fail(ErrorKind::kUsage, "quantize.type", "type: expected one of {}, found {}", names,
              ruvltra::quoted(name));
}

bool use_more_bits(size_t layer, size_t n_layers) {
  const size_t eighth = n_layers / 8;
  return layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2;
}

Result<TypeRule> parse_type_rule(std::string_view text) {
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos) {
    return fail(ErrorKind::kUsage, "quantize.pattern", "--tensor-type: expected REGEX=TYPE, found {}",
                ruvltra::quoted(text));
  }
  const Format* format = find_format(text.substr(equals + 1));
  if (format == nullptr) {
    std::string names;
    for (const Format& known : all_formats()) names += (names.empty() ? "" : ", ") + std::string(known.name);
    return fail(ErrorKind::kUsage, "quantize.type", "--tensor-type: type: expected one of {}, found {}",
                names, ruvltra::quoted(text.substr(equals + 1)));
  }
  ASSIGN_OR_RETURN(NamePattern pattern, NamePattern::parse(text.substr(0, equals)));
  return TypeRule{std::move(pattern), format->type};
}

TypeChoice choose_type(const PolicyInput& policy, std::string_view name, std::span<const uint64_t> dims) {
  if (dims.size() < 2) return {};
  const auto rule =
      std::ranges::find_if(policy.rules, [&](const TypeRule& r) { return r.pattern.found_in(name); });
  const TensorType wished = rule == policy.rules.end() ? scheme_type(policy, name) : rule->type;
  return {fit_row(wished, dims[0]), wished};
}

}  // namespace ruvltra
