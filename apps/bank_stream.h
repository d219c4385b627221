// The task stream of `eval bank`: passages of a text that people ask about again, and how they ask.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

// An opening sentence, what comes after it, and what comes then.
struct Passage {
  std::string opening, answer, more;
};

// Passages of the second half of the text, none sharing a sentence with another. (The wording of the block
// was chosen on the first half.) Error: bank.texts if there are fewer than `at_least`.
Result<std::vector<Passage>> read_passages(std::string_view text, size_t at_least);

struct BankTask {
  std::string request;    // as a user asks
  std::string reference;  // the answer that is right
};

// What an experiment draws: the same seed, the same tasks.
class BankStream {
 public:
  BankStream(std::vector<Passage> passages, uint64_t seed);
  // The next n passages, in an order of the seed's.
  std::vector<Passage> take(size_t n);

  // The first time, the second, and the second with an answer that has only its first half in common with
  // what was answered before.
  BankTask first(const Passage& passage);
  BankTask again(const Passage& passage);
  BankTask shifted(const Passage& passage);
  // "Tell me a story about a X and a Y." with the rarest words of the passage.
  BankTask short_request(const Passage& passage);

  double uniform();
  size_t below(size_t n);

 private:
  std::vector<Passage> passages_;
  uint64_t seed_;
  uint32_t n_drawn_ = 0;
  size_t n_taken_ = 0;
};

// Mean of x over the sum of y in percent, with its 95 % bootstrap interval over pairs.
struct RelativeChange {
  double percent = 0, low = 0, high = 0;
};
RelativeChange bootstrap_change(const std::vector<double>& change, const std::vector<double>& base,
                                uint64_t seed);

}  // namespace ruvltra
