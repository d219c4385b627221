// How good a bank item is and how sure that is: a Beta distribution over its quality, and the age of its last
// use (docs/memory.md).
#pragma once

#include <cstdint>

#include "ruvltra/learning.h"

namespace ruvltra {

struct BetaCounts {
  double a = 1, b = 1;
  double mean() const { return a / (a + b); }
};

// Of a new item: Beta(1 + 2 q, 1 + 2 (1 - q)), swapped for an avoid item, whose quality says how badly it
// went. *Requires*: 0 <= quality <= 1.
BetaCounts beta_start(PatternKind kind, double quality);

// The lower confidence bound: 5 % quantile of Beta(a, b). *Requires*: a, b > 0 and finite.
double beta_lcb(const BetaCounts& counts);

// 2^(-age / 30 d); an age below zero, of a clock set back, counts as none.
double recency(int64_t now_us, int64_t last_used_us);

// log2(lcb x recency) up to a constant that depends on `now` only: since every item decays at one rate, the
// order of items by this number holds at all times. An lcb of 0 stays finite.
double lasting_value(double lcb, int64_t last_used_us);

}  // namespace ruvltra
