// A pass of the model over given text: how learning asks for logits and hidden states without knowing
// engines.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "ruvltra/error.h"
#include "ruvltra/types.h"

namespace ruvltra {

// One position t: logits (>= V) of the token at t + 1, taps[k] (d) the residual stream after tap_layers[k],
// hidden_norm |h|. Pointers are valid during the call.
using TeacherForcedRow =
    std::function<void(size_t t, std::span<const float> logits, const float* const* taps, float hidden_norm)>;

// Calls `row` for t = n_context - 1 .. tokens.size() - 2, in order. The logits are the base model's: the zero
// adapter, whatever is live. The same tokens give the same numbers.
// *Requires*: 1 <= n_context < tokens.size(); tap_layers as AdapterBasis::tap_layers().
using TeacherForced =
    std::function<Result<void>(std::span<const TokenId> tokens, size_t n_context,
                               std::span<const int> tap_layers, const TeacherForcedRow& row)>;

}  // namespace ruvltra
