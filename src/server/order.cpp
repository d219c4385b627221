#include "server/order.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "base/fail.h"
#include "ruvltra/config.h"
#include "server/fields.h"

namespace ruvltra {
namespace {

constexpr std::array<std::string_view, 3> kProfiles = {"base", "coder", "agent"};

Result<void> read_bias(const Json& body, int n_vocab, GenerateParams& params) {
  const Json& bias = member(body, "logit_bias");
  if (bias.is_null()) return {};
  if (!bias.is_object()) return bad_field("logit_bias", "expected an object, found {}", type_of(bias));
  if (bias.size() > 1024) return bad_field("logit_bias", "expected at most 1024 ids, found {}", bias.size());
  for (const auto& [key, value] : bias.items()) {
    TokenId id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= n_vocab)
      return bad_field("logit_bias", "expected ids of 0..{}, found {}", n_vocab - 1, ruvltra::quoted(key));
    const double amount = value.is_number() ? value.get<double>() : 1e9;
    if (!(amount >= -100 && amount <= 100))
      return bad_field("logit_bias", "expected -100 to 100, found {}", ruvltra::quoted(to_json(value)));
    params.logit_bias.emplace_back(id, static_cast<float>(amount));
  }
  return {};
}

Result<void> read_adapter(const Json& body, std::optional<uint64_t>& adapter) {
  const Json& value = member(body, "adapter");
  if (value.is_null() || value == "latest") return {};
  if (value == "none") {
    adapter = 0;
  } else if (value.is_number_unsigned()) {
    adapter = value.get<uint64_t>();
  } else {
    return bad_field("adapter", "expected latest, none or a generation");
  }
  return {};
}

Result<void> read_drawing(const Json& body, int n_vocab, GenerateParams& params) {
  RETURN_IF_ERROR(read_number(body, "temperature", 0, 2, params.temperature));
  const float preset = params.top_p;
  RETURN_IF_ERROR(read_number(body, "top_p", 0, 1, params.top_p));
  if (!(params.top_p > 0)) return bad_field("top_p", "expected above 0 to 1, found {}", params.top_p);
  if (params.temperature == 0 && member(body, "top_p").is_null()) params.top_p = preset;
  RETURN_IF_ERROR(read_number(body, "min_p", 0, 1, params.min_p));
  RETURN_IF_ERROR(read_integer(body, "top_k", 0, n_vocab, params.top_k));
  RETURN_IF_ERROR(read_number(body, "repeat_penalty", 0, 10, params.repeat_penalty));
  if (!(params.repeat_penalty > 0))
    return bad_field("repeat_penalty", "expected above 0 to 10, found {}", params.repeat_penalty);
  RETURN_IF_ERROR(read_number(body, "presence_penalty", -2, 2, params.presence_penalty));
  RETURN_IF_ERROR(read_number(body, "frequency_penalty", -2, 2, params.frequency_penalty));
  if (!member(body, "seed").is_null()) {
    int64_t seed = 0;
    RETURN_IF_ERROR(read_integer(body, "seed", std::numeric_limits<int64_t>::min(),
                                 std::numeric_limits<int64_t>::max(), seed));
    params.seed = static_cast<uint64_t>(seed);
  }
  RETURN_IF_ERROR(read_integer(body, "n", 1, 16, params.n));
  RETURN_IF_ERROR(read_bias(body, n_vocab, params));
  ASSIGN_OR_RETURN(params.stop, read_stop(body));
  return {};
}

}  // namespace

Result<std::vector<std::string>> read_stop(const Json& body, std::string_view name) {
  std::vector<std::string> stop;
  const Json& value = member(body, name);
  if (value.is_null()) return stop;
  const Json list = value.is_array() ? value : Json::array({value});
  if (list.size() > 16) return bad_field(name, "expected at most 16 strings, found {}", list.size());
  for (const Json& one : list) {
    if (!one.is_string()) return bad_field(name, "expected strings, found {}", type_of(one));
    const auto& text = one.get_ref<const std::string&>();
    if (text.empty() || text.size() > 256)
      return bad_field(name, "expected strings of 1 to 256 bytes, found {}", text.size());
    stop.push_back(text);
  }
  return stop;
}

Result<SamplingParams> profile_sampling(const std::string& profile) {
  ASSIGN_OR_RETURN(const Variant variant, parse_variant(profile));
  return MediumConfig::preset(variant).sampling;
}

Result<std::string> profile_of_model(const Service& service, const std::string& model) {
  constexpr std::string_view kPrefix = "ruvltra-";
  const auto& options = service.options();
  const auto has_alias = [&](std::string_view name) {
    return std::find(options.aliases.begin(), options.aliases.end(), name) != options.aliases.end();
  };
  if (model.starts_with(kPrefix)) {
    const std::string profile = model.substr(kPrefix.size());
    if (std::find(kProfiles.begin(), kProfiles.end(), profile) != kProfiles.end()) return profile;
  }
  if (model.empty() || model == service.info().id || has_alias(model) || has_alias("*"))
    return options.profile;
  return fail(ErrorKind::kUsage, "model_not_found",
              "model: expected {}, ruvltra-base, ruvltra-coder, ruvltra-agent or an --alias, found {}",
              service.info().id, ruvltra::quoted(model));
}

Result<Order> read_order(Call& call, const Json& body) {
  Order order;
  RETURN_IF_ERROR(read_string(body, "model", order.model, 256));
  ASSIGN_OR_RETURN(order.profile, profile_of_model(call.service, order.model));
  if (order.model.empty()) order.model = call.service.info().id;
  RETURN_IF_ERROR(read_string(body, "profile", order.profile, 16));
  if (std::find(kProfiles.begin(), kProfiles.end(), order.profile) == kProfiles.end())
    return bad_field("profile", "expected base, coder or agent, found {}", ruvltra::quoted(order.profile));

  const MediumConfig& config = call.model().config();
  ASSIGN_OR_RETURN(static_cast<SamplingParams&>(order.params), profile_sampling(order.profile));
  RETURN_IF_ERROR(read_drawing(body, config.vocab_size, order.params));
  int64_t max_tokens = config.context_length;
  RETURN_IF_ERROR(read_integer(body, "max_tokens", 1, std::numeric_limits<int32_t>::max(), max_tokens));
  RETURN_IF_ERROR(
      read_integer(body, "max_completion_tokens", 1, std::numeric_limits<int32_t>::max(), max_tokens));
  order.params.max_tokens = static_cast<int>(std::min<int64_t>(max_tokens, config.context_length));

  order.treatment.tenant = call.caller.tenant;
  RETURN_IF_ERROR(read_string(body, "session_id", order.treatment.session, 128));
  RETURN_IF_ERROR(read_string(body, "cache_salt", order.treatment.cache_salt, 256));
  RETURN_IF_ERROR(read_adapter(body, order.adapter));
  RETURN_IF_ERROR(read_bool(body, "bank", order.bank));
  RETURN_IF_ERROR(read_bool(body, "stream", order.stream));
  RETURN_IF_ERROR(read_bool(body, "return_progress", order.return_progress));
  RETURN_IF_ERROR(read_bool(body, "return_drafted", order.return_drafted));
  const Json& stream_options = member(body, "stream_options");
  if (!stream_options.is_null() && !stream_options.is_object())
    return bad_field("stream_options", "expected an object, found {}", type_of(stream_options));
  RETURN_IF_ERROR(read_bool(stream_options, "include_usage", order.include_usage));
  order.sona_options = member(body, "sona_options").is_object();
  return order;
}

}  // namespace ruvltra
