#include "engine/sampler.h"

#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "base/check.h"
#include "base/fail.h"
#include "base/num.h"
#include "engine/sampler_math.h"
#include "ruvltra/config.h"

namespace ruvltra {

namespace {

constexpr size_t kLanes = 32;
constexpr float kForbidden = -std::numeric_limits<float>::infinity();

struct RowScan {
  float highest;
  bool all_finite;
};

// Both answers in one pass, in lanes that compilers vectorise.
RowScan scan_row(std::span<const float> row) {
  float highest[kLanes];
  int32_t magnitude[kLanes] =
      {};  // the largest bit pattern without its sign; infinities and NaNs are the top
  std::fill(highest, highest + kLanes, kForbidden);
  for (size_t begin = 0; begin < row.size(); begin += kLanes) {
    const float* values = row.data() + begin;
    const size_t n = std::min(kLanes, row.size() - begin);
    const auto look = [&](size_t lane) {
      const float value = values[lane];
      const auto bits = static_cast<int32_t>(std::bit_cast<uint32_t>(value) & 0x7fffffffu);
      highest[lane] = value > highest[lane] ? value : highest[lane];
      magnitude[lane] = bits > magnitude[lane] ? bits : magnitude[lane];
    };
    if (n == kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) look(lane);
    } else {
      for (size_t lane = 0; lane < n; ++lane) look(lane);
    }
  }
  return {*std::max_element(highest, highest + kLanes),
          *std::max_element(magnitude, magnitude + kLanes) < 0x7f800000};
}

// The candidates of a row, best first, found as far as they are asked for: first the ids within a band below
// the highest logit, then wider bands; inside a band, sorted in growing pieces.
class Candidates {
 public:
  // Stops at logits of minus infinity. `order` is scratch memory.
  Candidates(std::span<const float> row, float highest, float band, std::vector<TokenId>& order)
      : row_(row),
        order_(order),
        highest_(highest),
        band_(band),
        above_(std::numeric_limits<float>::infinity()) {
    order_.clear();
  }

  // The i-th candidate, or -1 past the last one. Ask in ascending order of i.
  TokenId nth(size_t i) {
    while (i >= n_sorted_) {
      if (n_sorted_ == order_.size() && !widen()) return -1;
      sort_more();
    }
    return order_[i];
  }

 private:
  // Adds the ids with logits in [floor, above_). False when none is left.
  bool widen() {
    while (above_ > std::numeric_limits<float>::lowest()) {
      float floor = highest_ - band_;
      if (!(floor < highest_) || band_ > 1e6f) floor = std::numeric_limits<float>::lowest();
      const size_t before = order_.size();
      for (size_t id = 0; id < row_.size(); ++id) {
        if (row_[id] >= floor && row_[id] < above_) order_.push_back(static_cast<TokenId>(id));
      }
      above_ = floor;
      band_ *= 2;
      if (order_.size() > before) return true;
    }
    return false;
  }

  void sort_more() {
    const auto better = [this](TokenId a, TokenId b) {
      const float logit_a = row_[static_cast<size_t>(a)], logit_b = row_[static_cast<size_t>(b)];
      return logit_a != logit_b ? logit_a > logit_b : a < b;
    };
    const auto begin = order_.begin() + static_cast<std::ptrdiff_t>(n_sorted_);
    const size_t n = std::min(piece_, order_.size() - n_sorted_);
    const auto end = begin + static_cast<std::ptrdiff_t>(n);
    if (end != order_.end()) std::nth_element(begin, end, order_.end(), better);
    std::sort(begin, end, better);
    n_sorted_ += n;
    piece_ *= 4;
  }

  std::span<const float> row_;
  std::vector<TokenId>& order_;  // sorted up to n_sorted_; everything in it comes before everything not in it
  float highest_;
  float band_;
  float above_;
  size_t n_sorted_ = 0;
  size_t piece_ = 256;
};

template <class... Args>
tl::unexpected<Error> out_of_range(fmt::format_string<Args...> format, Args&&... args) {
  return fail(ErrorKind::kUsage, "sampler.range", format, std::forward<Args>(args)...);
}

}  // namespace

double sum_of_exponentials(std::span<const float> row, float highest, double scale) {
  double sums[kLanes] = {};
  double exponents[kLanes];
  for (size_t begin = 0; begin < row.size(); begin += kLanes) {
    const float* values = row.data() + begin;
    const size_t n = std::min(kLanes, row.size() - begin);
    for (size_t lane = 0; lane < n; ++lane) {
      const double x = (static_cast<double>(values[lane]) - static_cast<double>(highest)) * scale;
      exponents[lane] = x > -708.0 ? x : -708.0;
    }
    // A loop of its own and of fixed length: this one is vectorised.
    if (n == kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += exp_in_range(exponents[lane]);
    } else {
      for (size_t lane = 0; lane < n; ++lane) sums[lane] += exp_in_range(exponents[lane]);
    }
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

Result<void> validate(const SamplingParams& params, size_t n_vocab) {
  RETURN_IF_ERROR(validate_sampling(params));
  if (static_cast<size_t>(params.top_k) > n_vocab) {
    return out_of_range("top_k: expected 0 to {}, found {}", n_vocab, params.top_k);
  }
  for (const auto& [token, bias] : params.logit_bias) {
    if (static_cast<size_t>(token) >= n_vocab) {
      return out_of_range("logit_bias: expected a token id below {}, found {}", n_vocab, token);
    }
  }
  return {};
}

uint64_t random_seed() {
  uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, 0) == static_cast<ssize_t>(sizeof seed)) return seed;
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

std::vector<TokenId> unused_tokens(const Tokenizer& tokenizer, size_t n_vocab) {
  std::vector<TokenId> unused;
  for (size_t id = 0; id < n_vocab; ++id) {
    const auto token = static_cast<TokenId>(id);
    if (id >= tokenizer.n_vocab() || tokenizer.kind(token) == TokenKind::kUnused) unused.push_back(token);
  }
  return unused;
}

Sampler::Sampler(const SamplingParams& params, size_t n_vocab, std::span<const TokenId> unused)
    : params_(params), unused_(unused.begin(), unused.end()), work_(n_vocab) {
  order_.reserve(n_vocab);
  cumulative_.reserve(n_vocab);
  if (!counts(params)) return;
  counts_.resize(n_vocab);
  occurred_.reserve(n_vocab);
}

Result<Sampler> Sampler::create(const SamplingParams& params, size_t n_vocab,
                                std::span<const TokenId> unused) {
  CHECK(validate(params, n_vocab).has_value() && params.seed.has_value());
  std::vector<bool> is_unused(n_vocab);
  for (const TokenId token : unused) {
    CHECK(token >= 0 && static_cast<size_t>(token) < n_vocab);
    is_unused[static_cast<size_t>(token)] = true;
  }
  if (std::find(is_unused.begin(), is_unused.end(), false) == is_unused.end()) {
    return fail("sampler.no_token", "vocabulary of {}: expected a token that may be generated, found none",
                n_vocab);
  }
  return Sampler(params, n_vocab, unused);
}

bool Sampler::takes_likeliest(const SamplingParams& params) {
  return params.temperature == 0 && params.repeat_penalty == 1 && params.presence_penalty == 0 &&
         params.frequency_penalty == 0 && params.logit_bias.empty() && params.n_logprobs == 0;
}

bool Sampler::counts(const SamplingParams& params) {
  return params.repeat_penalty != 1 || params.frequency_penalty != 0 || params.presence_penalty != 0;
}

Result<Sampled> Sampler::take(const BestLogit& best, size_t position) {
  if (!best.finite) {
    return fail("sampler.not_finite", "logits: position {}: expected finite numbers, found NaN or infinity",
                position);
  }
  Sampled sampled;
  sampled.token = best.row;
  return sampled;
}

Sampler::Counts& Sampler::count_of(TokenId token) {
  CHECK(token >= 0 && static_cast<size_t>(token) < counts_.size());
  Counts& count = counts_[static_cast<size_t>(token)];
  if (count.prompt == 0 && count.output == 0) occurred_.push_back(token);
  return count;
}

void Sampler::accept_prompt(std::span<const TokenId> tokens) {
  if (counts_.empty()) return;
  for (const TokenId token : tokens) ++count_of(token).prompt;
}

void Sampler::accept(TokenId token) {
  if (!counts_.empty()) ++count_of(token).output;
}

Result<Sampled> Sampler::sample(std::span<const float> row, uint32_t position, uint32_t choice,
                                std::vector<TokenLogprob> top, std::span<const uint64_t> allowed) {
  return sample_with(row, philox_uniform(*params_.seed, position, choice, 0), std::move(top), allowed);
}

Result<Sampled> Sampler::sample_with(std::span<const float> row, double u, std::vector<TokenLogprob> top,
                                     std::span<const uint64_t> allowed) {
  CHECK(row.size() == work_.size());
  if (!scan_row(row).all_finite) {
    const auto bad = std::find_if(row.begin(), row.end(), [](float value) { return !std::isfinite(value); });
    return fail("sampler.not_finite", "logits: token {}: expected a finite number, found {}",
                bad - row.begin(), *bad);
  }
  std::copy(row.begin(), row.end(), work_.begin());
  apply_bias_and_penalties();
  if (!allowed.empty()) forbid_all_but(allowed);
  const float highest = scan_row(work_).highest;
  Sampled sampled;
  sampled.top = std::move(top);
  sampled.top.clear();
  if (params_.temperature == 0) {
    sampled.token = static_cast<TokenId>(std::find(work_.begin(), work_.end(), highest) - work_.begin());
  } else {
    sampled.token = draw(highest, u);
  }
  if (params_.n_logprobs > 0) fill_logprobs(row, sampled);
  return sampled;
}

void Sampler::apply_bias_and_penalties() {
  for (const auto& [token, bias] : params_.logit_bias) work_[static_cast<size_t>(token)] += bias;
  const float r = params_.repeat_penalty;
  for (const TokenId token : occurred_) {
    const int n_output = counts_[static_cast<size_t>(token)].output;
    float& z = work_[static_cast<size_t>(token)];
    z = z > 0 ? z / r : z * r;
    if (n_output == 0) continue;
    z = z - params_.frequency_penalty * static_cast<float>(n_output) - params_.presence_penalty;
  }
  for (const TokenId token : unused_) work_[static_cast<size_t>(token)] = kForbidden;
}

void Sampler::forbid_all_but(std::span<const uint64_t> allowed) {
  for (size_t begin = 0; begin < work_.size(); begin += 64) {
    const uint64_t bits = allowed[begin / 64];
    if (bits == ~uint64_t{0}) continue;
    const size_t n = std::min<size_t>(64, work_.size() - begin);
    for (size_t i = 0; i < n; ++i) work_[begin + i] = (bits >> i & 1) != 0 ? work_[begin + i] : kForbidden;
  }
}

TokenId Sampler::draw(float highest, double u) {
  const double scale = 1.0 / static_cast<double>(params_.temperature);
  const auto weight = [&](TokenId token) {
    const auto z = static_cast<double>(work_[static_cast<size_t>(token)]);
    return exp_nonpositive((z - static_cast<double>(highest)) * scale);
  };
  Candidates candidates(work_, highest, std::max(1.0f, 8 * params_.temperature), order_);
  const size_t n_top = params_.top_k > 0 ? static_cast<size_t>(params_.top_k) : work_.size();

  // What top-k left is the whole that top-p cuts from.
  double total = 0;
  if (params_.top_k > 0) {
    for (size_t i = 0; i < n_top && candidates.nth(i) >= 0; ++i) total += weight(candidates.nth(i));
  } else {
    total = sum_of_exponentials(work_, highest, scale);
  }
  const bool cuts = params_.top_p < 1 || params_.min_p > 0;
  const double wanted = (params_.top_p < 1 ? static_cast<double>(params_.top_p) : 2.0) * total;

  cumulative_.clear();
  double sum = 0;
  TokenId last = -1;
  for (size_t i = 0; i < n_top; ++i) {
    const TokenId token = candidates.nth(i);
    if (token < 0) break;
    const double w = weight(token);
    if (i > 0 && w < static_cast<double>(params_.min_p)) break;  // the best weight is 1
    sum += w;
    last = token;
    if (!cuts && sum > u * total) return token;
    if (cuts) cumulative_.push_back(sum);
    if (sum >= wanted) break;
  }
  if (!cuts) return last;
  const auto hit = std::upper_bound(cumulative_.begin(), cumulative_.end(), u * sum);
  return hit == cumulative_.end() ? last : candidates.nth(static_cast<size_t>(hit - cumulative_.begin()));
}

void Sampler::fill_logprobs(std::span<const float> row, Sampled& sampled) {
  const float highest = scan_row(row).highest;
  const double log_total = std::log(sum_of_exponentials(row, highest, 1.0));
  const auto logprob = [&](TokenId token) {
    const auto z = static_cast<double>(row[static_cast<size_t>(token)]);
    return z - static_cast<double>(highest) - log_total;
  };
  sampled.logprob = logprob(sampled.token);
  Candidates candidates(row, highest, 4.0f, order_);
  for (int i = 0; i < params_.n_logprobs; ++i) {
    const TokenId token = candidates.nth(static_cast<size_t>(i));
    if (token < 0) break;
    sampled.top.push_back({token, logprob(token)});
  }
}

}  // namespace ruvltra
