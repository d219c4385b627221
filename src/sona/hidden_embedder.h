// Text embeddings from the model's own hidden states: one pass that ends at the embedding layer, the mean
// over the tokens, and the basis (docs/learning.md).
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "base/sha256.h"
#include "ruvltra/error.h"
#include "sona/hook_basis.h"
#include "sona/text_embedder.h"

namespace ruvltra {

// Mean over the tokens of a text of n = x / sqrt(mean(x^2) + eps) after each of `layers` (ascending):
// (layers, d_model). No layer after the last of them is computed. Raw text: no template, no control tokens.
// Errors: learning.empty_text (usage), tokenizer.*, engine.stopped, memory.exhausted.
using PooledStates =
    std::function<Result<std::vector<float>>(std::string_view text, std::span<const int> layers)>;

// The basis in `file`, or a new one, fitted on the bundled texts and saved there. `on_text(done, total)` may
// be empty; false stops: basis.cancelled, and nothing is saved. Errors: those of the states; file.* if it
// cannot be saved. A damaged or foreign file is replaced.
Result<HookBasis> load_or_fit_basis(const std::filesystem::path& file, const Sha256Digest& model,
                                    std::span<const int> layers, size_t d_model, const PooledStates& states,
                                    const std::function<bool(size_t done, size_t total)>& on_text);

// Thread safety: all functions from any thread.
class HiddenEmbedder final : public TextEmbedder {
 public:
  static constexpr size_t kCacheEntries = 10'000;
  static constexpr size_t kMaxTextBytes = 64 * 1024;

  HiddenEmbedder(HookBasis basis, PooledStates states);

  // Of the layers' own hooks, the one texts are compared by: 16 of 8/16/24, the lower middle one in general.
  size_t embed_at() const { return (basis_.layers().size() - 1) / 2; }
  const HookBasis& basis() const { return basis_; }

  uint64_t space() const override { return basis_.space(); }
  Result<Embedding> embed(std::string_view text, std::string_view tenant) override;
  bool cached(std::string_view text, std::string_view tenant, Embedding* embedding) const override;

  // At every hook layer, in one pass. Not cached.
  Result<HookState> embed_hooks(std::string_view text);
  // Of states that the engine's hooks saw: (layers, d_model). Error: learning.no_direction.
  Result<HookState> project(std::span<const float> states) const;

  struct Stats {
    uint64_t n_hits = 0, n_misses = 0;
  };
  Stats stats() const;

 private:
  using Key = Sha256Digest;
  struct Entry {
    Key key;
    std::vector<float> values;
  };
  Key key_of(std::string_view text, std::string_view tenant) const;

  const HookBasis basis_;
  const PooledStates states_;
  mutable std::mutex mutex_;
  mutable std::list<Entry> recent_;  // first: used last
  std::map<Key, std::list<Entry>::iterator> entries_;
  mutable Stats stats_;
};

}  // namespace ruvltra
