#include "ruvltra/model.h"

#include <algorithm>
#include <utility>

#include "api/fresh_pass.h"
#include "api/model_parts.h"
#include "api/sona_parts.h"
#include "base/fail.h"
#include "base/utf8.h"
#include "engine/sampler.h"
#include "model/memory.h"

namespace ruvltra {

struct MediumModel::Impl {
  std::unique_ptr<ModelParts> parts;
  std::unique_ptr<Engine> engine;  // stops before the parts go
  std::unique_ptr<Sona> sona;      // needs a running engine

  Result<Generation> generate(Prompt prompt, const GenerateParams& params);
  Result<void> check_tokens(std::span<const TokenId> tokens) const;
};

namespace {

template <class... Args>
tl::unexpected<Error> refuse(std::string_view id, fmt::format_string<Args...> format, Args&&... args) {
  return fail(ErrorKind::kUsage, id, format, std::forward<Args>(args)...);
}

Result<void> check_ids(std::span<const TokenId> tokens, int n_vocab) {
  const auto bad =
      std::find_if(tokens.begin(), tokens.end(), [&](TokenId id) { return id < 0 || id >= n_vocab; });
  if (bad == tokens.end()) return {};
  return refuse("request.token", "tokens: expected ids of 0..{}, found {}", n_vocab - 1, *bad);
}

}  // namespace

MediumModel::MediumModel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MediumModel::MediumModel(MediumModel&&) noexcept = default;
MediumModel& MediumModel::operator=(MediumModel&&) noexcept = default;
MediumModel::~MediumModel() = default;

Result<MediumModel> MediumModel::load(const std::filesystem::path& gguf, MediumConfig config,
                                      const LoadOptions& options) {
  auto impl = std::make_unique<Impl>();
  ASSIGN_OR_RETURN(impl->parts, ModelParts::load(gguf, std::move(config), options));
  impl->engine.reset(new Engine(*impl->parts));
  return MediumModel(std::move(impl));
}

Result<void> MediumModel::enable_sona(const std::function<bool(size_t done, size_t total)>& on_text) {
  return enable_sona_with_hooks({}, on_text);
}

Result<void> MediumModel::enable_sona_with_hooks(
    std::span<const int> layers, const std::function<bool(size_t done, size_t total)>& on_text) {
  if (impl_->sona) return refuse("learning.enabled", "sona: expected it to be off, it is on");
  ASSIGN_OR_RETURN(auto parts, SonaParts::open(*impl_->parts, layers, on_text));
  impl_->sona.reset(new Sona(std::move(parts)));
  return {};
}

Sona* MediumModel::sona() noexcept { return impl_->sona.get(); }
void MediumModel::disable_sona() { impl_->sona.reset(); }

const MediumConfig& MediumModel::config() const { return impl_->parts->config; }
std::string_view MediumModel::name() const { return impl_->parts->name; }
std::string MediumModel::sha256() const { return to_hex(impl_->parts->weights.file_digest); }
std::span<const std::string> MediumModel::warnings() const { return impl_->parts->warnings; }
uint64_t MediumModel::n_parameters() const { return impl_->parts->weights.shape.n_parameters(); }
Engine& MediumModel::engine() { return *impl_->engine; }

Result<std::vector<TokenId>> MediumModel::tokenize(std::string_view text, bool parse_control) const {
  return impl_->parts->tokenizer.encode(text, parse_control ? Recognise::kAll : Recognise::kUserDefined);
}

Result<std::vector<TokenId>> MediumModel::tokenize(std::span<const ChatMessage> messages,
                                                   std::string_view tools) const {
  if (tools.empty()) return impl_->parts->tokens_of(messages);
  ASSIGN_OR_RETURN(const Json objects, parse_json(tools, "tools"));
  if (!objects.is_array()) return refuse("request.tools", "tools: expected a JSON array");
  return impl_->parts->tokens_of(messages, objects);
}

Result<std::string> MediumModel::detokenize(std::span<const TokenId> tokens) const {
  const Tokenizer& tokenizer = impl_->parts->tokenizer;
  RETURN_IF_ERROR(check_ids(tokens, static_cast<int>(tokenizer.n_vocab())));
  return utf8_replace_invalid(tokenizer.decode(tokens, false));
}

std::string_view MediumModel::token_bytes(TokenId id) const {
  const Tokenizer& tokenizer = impl_->parts->tokenizer;
  return id >= 0 && static_cast<size_t>(id) < tokenizer.n_vocab() ? tokenizer.bytes(id) : std::string_view();
}

Result<bool> MediumModel::has_chat_template() const {
  return impl_->parts->chat_template.map([](const auto& chat_template) { return chat_template.has_value(); });
}

Prompt MediumModel::prompt(std::string_view text, bool raw) const {
  if (raw || !has_chat_template().value_or(true)) return std::string(text);
  return std::vector<ChatMessage>{{"user", std::string(text), {}}};
}

Result<Generation> MediumModel::Impl::generate(Prompt prompt, const GenerateParams& params) {
  if (params.n != 1) {
    return refuse("request.n", "n: expected 1, found {}; Engine::stream gives several answers", params.n);
  }
  ASSIGN_OR_RETURN(Stream stream, engine->stream({std::move(prompt), params, {}, {}}));
  Generation generation = std::move(stream.wait().front());
  if (generation.error) return tl::unexpected<Error>(std::move(*generation.error));
  return generation;
}

GenerateParams MediumModel::default_params() const {
  GenerateParams params;
  static_cast<SamplingParams&>(params) = config().sampling;
  return params;
}

Result<Generation> MediumModel::generate(std::string_view text, const GenerateParams& params) {
  return impl_->generate(prompt(text, params.raw), params);
}

Result<Generation> MediumModel::generate(std::span<const ChatMessage> messages,
                                         const GenerateParams& params) {
  return impl_->generate(std::vector<ChatMessage>(messages.begin(), messages.end()), params);
}

Result<Generation> MediumModel::generate(std::string_view text) { return generate(text, default_params()); }

Result<Generation> MediumModel::generate(std::span<const ChatMessage> messages) {
  return generate(messages, default_params());
}

Result<void> MediumModel::Impl::check_tokens(std::span<const TokenId> tokens) const {
  const auto n_context = static_cast<size_t>(parts->config.context_length);
  if (tokens.empty()) return refuse("request.empty_prompt", "tokens: expected at least one");
  if (tokens.size() > n_context) {
    return refuse("request.too_long", "tokens: expected at most {} (the context), found {}", n_context,
                  tokens.size());
  }
  return check_ids(tokens, parts->config.vocab_size);
}

Result<Logits> MediumModel::forward(std::span<const TokenId> tokens, std::span<const int> positions,
                                    const std::optional<Scope>& learned) {
  RETURN_IF_ERROR(impl_->check_tokens(tokens));
  for (size_t t = 0; t < std::max(positions.size(), tokens.size()) && !positions.empty(); ++t) {
    if (positions.size() == tokens.size() && positions[t] == static_cast<int>(t)) continue;
    return refuse("request.positions", "positions: expected 0..{} in order, found {} of them, the first {}",
                  tokens.size() - 1, positions.size(), positions[0]);
  }
  const ModelShape& shape = impl_->parts->weights.shape;
  MemoryNeed need;
  need.scratch_bytes = tokens.size() * shape.n_vocab * sizeof(float);
  need.kv_bytes =
      KvPool::pages_for(tokens.size()) * KvPool::page_bytes(shape, impl_->parts->config.paged_config.kv_type);
  RETURN_IF_ERROR(check_memory(need, 0, "logits of every token"));
  Logits logits;
  logits.n_tokens = tokens.size();
  logits.n_vocab = shape.n_vocab;
  logits.values.resize(tokens.size() * shape.n_vocab);
  PinnedGeneration adapter;
  if (learned) {
    Treatment treatment;
    treatment.tenant = learned->tenant;
    treatment.session = learned->session;
    ASSIGN_OR_RETURN(adapter, impl_->parts->adapters.pin(treatment, {}));
  }
  RETURN_IF_ERROR(fresh_pass(
      *impl_->parts, tokens, shape.n_layers, SingleSequence::Rows::kAll,
      [&](StepInput& in, size_t begin) {
        return StepOutput{
            .logits = std::span(logits.values).subspan(begin * shape.n_vocab, in.n_tokens() * shape.n_vocab)};
      },
      [](size_t, size_t) {}, adapter.view.get()));
  return logits;
}

Result<std::vector<Sampled>> MediumModel::score(std::span<const TokenId> tokens, int n_top,
                                                const std::optional<Scope>& learned) {
  RETURN_IF_ERROR(impl_->check_tokens(tokens));
  if (n_top < 0 || n_top > 20) return refuse("request.n_top", "n_top: expected 0..20, found {}", n_top);
  ModelParts& parts = *impl_->parts;
  const size_t n_vocab = parts.weights.shape.n_vocab;
  PinnedGeneration adapter;
  if (learned) {
    Treatment treatment;
    treatment.tenant = learned->tenant;
    treatment.session = learned->session;
    ASSIGN_OR_RETURN(adapter, parts.adapters.pin(treatment, {}));
  }
  // The likeliest token is always among those asked for: its log-probability gives everybody's.
  SamplingParams likeliest;
  likeliest.temperature = 0;
  likeliest.n_logprobs = std::max(n_top, 1);
  likeliest.seed = 0;
  ASSIGN_OR_RETURN(Sampler sampler,
                   Sampler::create(likeliest, n_vocab, unused_tokens(parts.tokenizer, n_vocab)));
  std::vector<Sampled> scores;
  scores.reserve(tokens.size() - 1);
  constexpr size_t kMaxRows = 64;  // 39 MB at a vocabulary of 152,000
  std::vector<float> logits(std::min(tokens.size(), kMaxRows) * n_vocab);
  std::optional<Error> failed;
  RETURN_IF_ERROR(fresh_pass(
      parts, tokens, parts.weights.shape.n_layers, SingleSequence::Rows::kAll,
      [&](StepInput& in, size_t) {
        return StepOutput{.logits = std::span(logits).subspan(0, in.n_tokens() * n_vocab)};
      },
      [&](size_t begin, size_t n) {
        for (size_t i = 0; i < n && begin + i + 1 < tokens.size() && !failed; ++i) {
          const auto row = std::span<const float>(logits).subspan(i * n_vocab, n_vocab);
          auto best = sampler.sample_with(row, 0);
          if (!best) {
            failed = std::move(best.error());
            return;
          }
          const TokenId token = tokens[begin + i + 1];
          const auto of = [&](TokenId id) { return static_cast<double>(row[static_cast<size_t>(id)]); };
          Sampled score;
          score.token = token;
          score.logprob = best->logprob + (of(token) - of(best->token));
          if (n_top > 0) score.top = std::move(best->top);
          scores.push_back(std::move(score));
        }
      },
      adapter.view.get(), kMaxRows));
  if (failed) return tl::unexpected<Error>(std::move(*failed));
  return scores;
}

Result<std::vector<float>> MediumModel::embed(std::span<const TokenId> tokens, int layer, Pooling pooling) {
  RETURN_IF_ERROR(impl_->check_tokens(tokens));
  const ModelShape& shape = impl_->parts->weights.shape;
  const auto n_layers = static_cast<int>(shape.n_layers);
  if (layer < -1 || layer >= n_layers)
    return refuse("request.layer", "layer: expected -1..{}, found {}", n_layers - 1, layer);
  const int last = layer < 0 ? n_layers - 1 : layer;
  const size_t d_model = shape.d_model;
  std::vector<float> states(
      std::min(tokens.size(), static_cast<size_t>(impl_->parts->config.engine.step_rows)) *
      d_model);  // (rows of a step, d_model)
  std::vector<double> sum(d_model);
  const size_t first = pooling == Pooling::kMean ? 0 : tokens.size() - 1;
  RETURN_IF_ERROR(fresh_pass(
      *impl_->parts, tokens, static_cast<size_t>(last) + 1, SingleSequence::Rows::kNone,
      [&](StepInput& in, size_t) {
        in.tap_layers = std::span(&last, 1);
        in.stop_after_layer = last;
        return StepOutput{.taps = states};
      },
      [&](size_t begin, size_t n) {
        for (size_t t = first > begin ? first - begin : 0; t < n; ++t) {
          for (size_t i = 0; i < d_model; ++i) sum[i] += static_cast<double>(states[t * d_model + i]);
        }
      }));
  std::vector<float> pooled(d_model);
  const auto n_pooled = static_cast<double>(tokens.size() - first);
  for (size_t i = 0; i < d_model; ++i) pooled[i] = static_cast<float>(sum[i] / n_pooled);
  return pooled;
}

Result<std::vector<float>> MediumModel::embed(std::string_view text, int layer, Pooling pooling) {
  ASSIGN_OR_RETURN(const auto tokens, tokenize(text));
  return embed(std::span<const TokenId>(tokens), layer, pooling);
}

}  // namespace ruvltra
