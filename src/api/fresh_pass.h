// Passing the tokens of a fresh sequence through the model, a step at a time between those of the engine.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "api/model_parts.h"
#include "engine/runner.h"
#include "model/kv_pool.h"
#include "model/step.h"

namespace ruvltra {

// complete(in, begin) says what a step beginning with token `begin` gives; done(begin, n) takes it. Only the
// first n_layers layers get room. `adapter` is of the wanted rows. A step has at most max_rows rows, how many
// depends on what else runs just then. Errors: memory.exhausted, engine.stopped.
template <class Complete, class Done>
Result<void> fresh_pass(ModelParts& parts, std::span<const TokenId> tokens, size_t n_layers,
                        SingleSequence::Rows rows, Complete&& complete, Done&& done,
                        const AdapterView* adapter = nullptr, size_t max_rows = SIZE_MAX) {
  ModelShape shape = parts.weights.shape;
  shape.n_layers = n_layers;  // layers that are not computed need no room
  const size_t n_pages = KvPool::pages_for(tokens.size());
  ASSIGN_OR_RETURN(KvPool kv, KvPool::make(shape, parts.config.paged_config.kv_type, n_pages));
  SingleSequence sequence(0, n_pages);
  sequence.set_adapter(adapter);
  return parts.loop->between_steps([&](Runner& runner) {
    const size_t begin = sequence.n_tokens();
    const size_t n = std::min({tokens.size() - begin, parts.loop->piece_rows(), max_rows});
    StepInput in = sequence.append(tokens.subspan(begin, n), rows);
    const StepOutput out = complete(in, begin);
    forward(runner.ctx(), runner.weights(), kv, runner.workspace(), in, out);
    done(begin, n);
    return begin + n == tokens.size();
  });
}

// See PooledStates (sona/hidden_embedder.h). Of a long text its first kMaxPooledTokens tokens.
inline constexpr size_t kMaxPooledTokens = 512;
Result<std::vector<float>> pooled_states(ModelParts& parts, std::string_view text,
                                         std::span<const int> layers);

}  // namespace ruvltra
