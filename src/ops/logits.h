// What is read off a row of logits.
#pragma once

#include <cstddef>
#include <span>

namespace ruvltra {

// log(sum(exp(x))) in double; NaN if a value is NaN, else finite or infinite.
double log_sum_exp(std::span<const float> logits);

// Index of the largest value, the lowest one on ties. *Requires*: not empty.
size_t argmax(std::span<const float> logits);

}  // namespace ruvltra
