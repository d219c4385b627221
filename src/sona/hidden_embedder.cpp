#include "sona/hidden_embedder.h"

#include <utility>

#include "base/fail.h"
#include "sona/bundled_texts.h"

namespace ruvltra {
namespace {

tl::unexpected<Error> no_direction() {
  return fail(ErrorKind::kInput, "learning.no_direction",
              "embedding: expected a text that differs from the mean of all texts, found none of its own");
}

}  // namespace

Result<HookBasis> load_or_fit_basis(const std::filesystem::path& file, const Sha256Digest& model,
                                    std::span<const int> layers, size_t d_model, const PooledStates& states,
                                    const std::function<bool(size_t done, size_t total)>& on_text) {
  if (auto basis = HookBasis::load(file, model, layers, d_model)) return basis;
  const std::span<const std::string_view> texts = whitening_texts();
  std::vector<float> pooled;
  pooled.reserve(texts.size() * layers.size() * d_model);
  for (size_t t = 0; t < texts.size(); ++t) {
    ASSIGN_OR_RETURN(const std::vector<float> of_text, states(texts[t], layers));
    pooled.insert(pooled.end(), of_text.begin(), of_text.end());
    if (on_text && !on_text(t + 1, texts.size()))
      return fail(ErrorKind::kCancelled, "basis.cancelled", "basis: stopped on request at text {} of {}",
                  t + 1, texts.size());
  }
  ASSIGN_OR_RETURN(HookBasis basis, HookBasis::fit(model, {layers.begin(), layers.end()}, d_model, pooled));
  RETURN_IF_ERROR(basis.save(file));
  return basis;
}

HiddenEmbedder::HiddenEmbedder(HookBasis basis, PooledStates states)
    : basis_(std::move(basis)), states_(std::move(states)) {}

HiddenEmbedder::Key HiddenEmbedder::key_of(std::string_view text, std::string_view tenant) const {
  Sha256 hash;
  const uint64_t sizes[] = {basis_.space(), tenant.size()};
  hash.update({reinterpret_cast<const uint8_t*>(sizes), sizeof sizes});
  hash.update({reinterpret_cast<const uint8_t*>(tenant.data()), tenant.size()});
  hash.update({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  return hash.finish();
}

bool HiddenEmbedder::cached(std::string_view text, std::string_view tenant, Embedding* embedding) const {
  const Key key = key_of(text, tenant);
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  if (found == entries_.end()) {
    ++stats_.n_misses;
    return false;
  }
  ++stats_.n_hits;
  recent_.splice(recent_.begin(), recent_, found->second);
  if (embedding != nullptr) *embedding = {basis_.space(), found->second->values};
  return true;
}

Result<Embedding> HiddenEmbedder::embed(std::string_view text, std::string_view tenant) {
  if (text.size() > kMaxTextBytes) {
    return fail(ErrorKind::kUsage, "learning.text_too_long", "text: expected at most {} bytes, found {}",
                kMaxTextBytes, text.size());
  }
  Embedding embedding;
  if (cached(text, tenant, &embedding)) return embedding;
  const int layer = basis_.layers()[embed_at()];
  ASSIGN_OR_RETURN(const std::vector<float> pooled, states_(text, std::span(&layer, 1)));
  embedding.space = basis_.space();
  embedding.values.resize(kEmbeddingDim);
  if (!basis_.embed(embed_at(), pooled, embedding.values)) return no_direction();

  const Key key = key_of(text, tenant);
  const std::lock_guard lock(mutex_);
  if (entries_.contains(key)) return embedding;  // another thread was as quick
  recent_.push_front({key, embedding.values});
  entries_[key] = recent_.begin();
  if (recent_.size() > kCacheEntries) {
    entries_.erase(recent_.back().key);
    recent_.pop_back();
  }
  return embedding;
}

Result<HookState> HiddenEmbedder::embed_hooks(std::string_view text) {
  ASSIGN_OR_RETURN(const std::vector<float> pooled, states_(text, basis_.layers()));
  return project(pooled);
}

Result<HookState> HiddenEmbedder::project(std::span<const float> states) const {
  const size_t n_layers = basis_.layers().size();
  HookState state{basis_.space(), {basis_.layers().begin(), basis_.layers().end()}, {}};
  state.values.resize(n_layers * kEmbeddingDim);
  for (size_t l = 0; l < n_layers; ++l) {
    const auto x = states.subspan(l * basis_.d_model(), basis_.d_model());
    if (!basis_.embed(l, x, std::span(state.values).subspan(l * kEmbeddingDim, kEmbeddingDim)))
      return no_direction();
  }
  return state;
}

HiddenEmbedder::Stats HiddenEmbedder::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace ruvltra
