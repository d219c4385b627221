#include "sona/lora_gradient.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace ruvltra {
namespace {

constexpr size_t kRowsAtOnce = 64;
constexpr double kHalfUlpF16 = 0x1p-11;   // relative, of a normal f16
constexpr double kSmallestF16 = 0x1p-25;  // half the distance of subnormal ones
constexpr double kArithmetic = 1e-6;      // f32 inner products
// Batches are summed in so many parts at most, whatever the threads; a part has at least kPartTokens.
constexpr size_t kMaxParts = 8, kPartTokens = 32;
static_assert(kMaxParts >= RowProducts::kTasks);

size_t parts_of(size_t n) { return std::clamp(n / kPartTokens, size_t{1}, kMaxParts); }

// e^x of every f16: records hold nothing else, and a look is cheaper than a power.
const double* powers_of_f16() {
  static const std::vector<double> powers = [] {
    std::vector<double> all(size_t{1} << 16);
    for (size_t bits = 0; bits < all.size(); ++bits)
      all[bits] = std::exp(static_cast<double>(f16_to_f32(static_cast<f16_t>(bits))));
    return all;
  }();
  return powers.data();
}

double rounding_of(f16_t log_p) {
  return std::abs(static_cast<double>(f16_to_f32(log_p))) * kHalfUlpF16 + kSmallestF16;
}

}  // namespace

// ---- One record.

Result<RecordEvaluator> RecordEvaluator::make(const OutputHead& head, size_t n_features, float scale,
                                              size_t cache_bytes) {
  RecordEvaluator evaluator;
  evaluator.head_ = &head;
  evaluator.n_features_ = n_features;
  evaluator.scale_ = scale;
  ASSIGN_OR_RETURN(evaluator.cache_, RowCache::make(head, cache_bytes, kRowsAtOnce));
  evaluator.shift_.assign(head.stride(), 0);
  evaluator.g_.assign(head.d(), 0);
  evaluator.square_.assign(head.d(), 0);
  evaluator.centre_.assign(head.d(), 0);
  return evaluator;
}

template <class F>
void RecordEvaluator::each_rows(F&& f) {
  for (size_t first = 0; first < record_.ids.size(); first += kRowsAtOnce) {
    const size_t n = std::min(kRowsAtOnce, record_.ids.size() - first);
    f(cache_.rows(record_.ids.subspan(first, n)), first);
  }
}

// p_made_: what was recorded, scaled so that it and the tail sum to 1.
void RecordEvaluator::recorded_distribution() {
  const size_t k = record_.ids.size();
  p_made_.resize(k);
  const double* powers = powers_of_f16();
  double sum = 0;
  for (size_t i = 0; i < k; ++i) {
    const bool exact = record_.ids[i] == record_.token;
    p_made_[i] = exact ? std::exp(-record_.nll()) : powers[record_.log_p[i]];
    sum += p_made_[i];
  }
  const double factor = (1 - static_cast<double>(record_.tail)) / sum;
  for (double& p : p_made_) p *= factor;
}

// shift_ = s (B - B_made) phi.
void RecordEvaluator::shift_hidden(std::span<const float> b) {
  const size_t d = head_->d();
  const std::span<const float> made = record_.made_at;
  std::fill(shift_.begin(), shift_.end(), 0.0f);
  shift_norm_ = 0;
  if (b.empty() && made.empty()) return;
  for (size_t j = 0; j < n_features_; ++j) {
    const float weight = scale_ * record_.features[j];
    const float* to = b.empty() ? nullptr : b.data() + j * d;
    const float* from = made.empty() ? nullptr : made.data() + j * d;
    if (from == nullptr) {
      for (size_t i = 0; i < d; ++i) shift_[i] += weight * to[i];
    } else if (to == nullptr) {
      for (size_t i = 0; i < d; ++i) shift_[i] -= weight * from[i];
    } else {
      for (size_t i = 0; i < d; ++i) shift_[i] += weight * (to[i] - from[i]);
    }
  }
  shift_norm_ = euclidean_norm(shift_.data(), d);
}

// What every row gains by the shift.
void RecordEvaluator::make_dots(std::span<const float> b, const RowProducts* products) {
  dots_.assign(record_.ids.size(), 0);
  mean_dot_ = 0;
  if (products != nullptr && !b.empty()) {
    DCHECK(record_.made_at.empty());
    phi_.assign(products->stride(), 0);
    std::ranges::copy(record_.features, phi_.begin());
    mean_dot_ = products->dots(record_.ids, phi_.data(), rows_, dots_.data());
    return;
  }
  shift_hidden(b);
  if (shift_norm_ == 0) return;
  const VectorKernels& kernels = head_->kernels().vectors;
  each_rows([&](std::span<const float* const> rows, size_t first) {
    kernels.dot_f32_rows(shift_.data(), rows.data(), rows.size(), head_->stride(), dots_.data() + first);
  });
  mean_dot_ = kernels.dot_f32(shift_.data(), head_->mean().data(), head_->stride());
}

// p and tail at b; returns log Z.
double RecordEvaluator::shifted_distribution(std::span<const float> b, const RowProducts* products,
                                             std::vector<double>& p, double& tail) {
  make_dots(b, products);
  const size_t k = p_made_.size();
  p.resize(k);
  // Everything is measured from the largest Delta: no power overflows.
  const auto largest =
      static_cast<double>(std::max(mean_dot_, *std::max_element(dots_.begin(), dots_.end())));
  double sum = 0;
  for (size_t i = 0; i < k; ++i) {
    p[i] = p_made_[i] * std::exp(static_cast<double>(dots_[i]) - largest);
    sum += p[i];
  }
  tail = static_cast<double>(record_.tail) * std::exp(static_cast<double>(mean_dot_) - largest);
  sum += tail;
  for (double& value : p) value /= sum;
  tail /= sum;
  return std::log(sum) + largest;
}

TokenLoss RecordEvaluator::value(const TokenRecord& record, std::span<const float> b,
                                 const RowProducts* products) {
  record_ = record;
  recorded_distribution();
  const size_t k = record.ids.size();
  TokenLoss result;

  // KL(p_base || p_B) = sum p_base ((Delta_base - log Z_base) - (Delta_B - log Z_B)).
  double log_z_base = 0, mean_base = 0;
  const bool from_base = record.made_at.empty();
  if (from_base) {
    p_base_ = p_made_;
    tail_base_ = static_cast<double>(record.tail);
  } else {
    log_z_base = shifted_distribution({}, nullptr, p_base_, tail_base_);
    mean_base = static_cast<double>(mean_dot_);
    for (size_t i = 0; i < k; ++i) result.kl += p_base_[i] * static_cast<double>(dots_[i]);
  }
  const double log_z = shifted_distribution(b, products, p_, tail_);
  for (size_t i = 0; i < k; ++i) result.kl -= p_base_[i] * static_cast<double>(dots_[i]);
  result.kl += tail_base_ * (mean_base - static_cast<double>(mean_dot_)) + log_z - log_z_base;

  const auto y = static_cast<size_t>(std::lower_bound(record.ids.begin(), record.ids.end(), record.token) -
                                     record.ids.begin());
  DCHECK(y < k && record.ids[y] == record.token);
  result.nll = record.nll() - static_cast<double>(dots_[y]) + log_z;
  result.tail = tail_;
  return result;
}

TokenLoss RecordEvaluator::loss(const TokenRecord& record, std::span<const float> b,
                                const RowProducts* products) {
  TokenLoss result = value(record, b, products);
  if (products != nullptr) shift_hidden(b);
  const size_t k = record.ids.size();
  // The bound; p_ is p_made e^Delta / Z, so everything is in units of Z.
  double largest_rounding = 0, mean_growth = 0, largest_dot = 0;
  const double inside = 1 - static_cast<double>(record.tail);
  for (size_t i = 0; i < k; ++i) {
    largest_rounding = std::max(largest_rounding, rounding_of(record.log_p[i]) * (p_made_[i] > 0 ? 1 : 0));
    mean_growth += p_[i];
    largest_dot = std::max(largest_dot, std::abs(static_cast<double>(dots_[i])));
  }
  if (inside > 0) mean_growth /= inside;
  double rounding = 0;
  for (size_t i = 0; i < k; ++i) {
    rounding += std::expm1(rounding_of(record.log_p[i]) + largest_rounding) *
                std::abs(p_[i] - p_made_[i] * mean_growth);
  }
  const double spread = static_cast<double>(head_->radius()) * shift_norm_;
  const double rest = 1 - rounding;
  result.bound = rest > 0 ? std::log1p(tail_ * std::expm1(spread) / rest) - std::log1p(-rounding) +
                                kArithmetic * (1 + largest_dot)
                          : std::numeric_limits<double>::infinity();

  if (record.made_at.empty()) {
    result.delta = shift_norm_;
  } else if (!b.empty()) {
    const size_t d = head_->d();
    std::fill(g_.begin(), g_.end(), 0);
    for (size_t j = 0; j < n_features_; ++j) {
      const double weight = static_cast<double>(scale_) * static_cast<double>(record.features[j]);
      for (size_t i = 0; i < d; ++i) g_[i] += weight * static_cast<double>(b[j * d + i]);
    }
    double square = 0;
    for (const double value : g_) square += value * value;
    result.delta = std::sqrt(square);
  }
  return result;
}

// sum = sum_v c_v w_v + c_tail w_mean.
void RecordEvaluator::weighted_rows(const RowWeights& weights, std::vector<double>& sum) {
  const size_t d = head_->d();
  const std::span<const float> mean = head_->mean();
  for (size_t i = 0; i < d; ++i) sum[i] = weights.tail * static_cast<double>(mean[i]);
  each_rows([&](std::span<const float* const> rows, size_t first) {
    add_rows(rows, weights.rows.subspan(first, rows.size()), d, sum.data());
  });
}

// out += factor s g phi', g = sum_v c_v w_v.
void RecordEvaluator::add_gradient(const RowWeights& weights, double factor, std::span<double> out) {
  weighted_rows(weights, g_);
  const size_t d = head_->d();
  for (size_t j = 0; j < n_features_; ++j) {
    const double step = factor * static_cast<double>(scale_) * static_cast<double>(record_.features[j]);
    double* column = out.data() + j * d;
    for (size_t i = 0; i < d; ++i) column[i] += step * g_[i];
  }
}

RowWeights RecordEvaluator::nll_weights() {
  coefficients_ = p_;
  const auto y = std::lower_bound(record_.ids.begin(), record_.ids.end(), record_.token);
  coefficients_[static_cast<size_t>(y - record_.ids.begin())] -= 1;
  return {coefficients_, tail_};
}

RowWeights RecordEvaluator::kl_weights() {
  coefficients_.resize(p_.size());
  for (size_t i = 0; i < p_.size(); ++i) coefficients_[i] = p_[i] - p_base_[i];
  return {coefficients_, tail_ - tail_base_};
}

// Two walks: the mean first, then squares of what is left. The difference of squares would lose everything
// where one token has almost all the probability.
void RecordEvaluator::add_fisher(double factor, std::span<double> out) {
  const size_t d = head_->d();
  weighted_rows({p_, tail_}, g_);
  const std::span<const float> mean = head_->mean();
  const std::span<const double> mean_square = head_->mean_square();
  for (size_t i = 0; i < d; ++i) {
    square_[i] =
        tail_ * std::max(0.0, mean_square[i] - 2 * g_[i] * static_cast<double>(mean[i]) + g_[i] * g_[i]);
  }
  for (size_t i = 0; i < d; ++i) centre_[i] = static_cast<float>(g_[i]);
  const float* const centre = centre_.data();
  double* const out_square = square_.data();
  each_rows([&](std::span<const float* const> rows, size_t first) {
    each_four(rows, [&](const float* const* row, size_t r, size_t count) {
      float p[4] = {};
      for (size_t k = 0; k < count; ++k) p[k] = static_cast<float>(p_[first + r + k]);
      for (size_t i = 0; i < d; ++i) {
        const float a0 = row[0][i] - centre[i], a1 = row[1][i] - centre[i];
        const float a2 = row[2][i] - centre[i], a3 = row[3][i] - centre[i];
        out_square[i] +=
            static_cast<double>((p[0] * a0 * a0 + p[1] * a1 * a1) + (p[2] * a2 * a2 + p[3] * a3 * a3));
      }
    });
  });
  for (size_t j = 0; j < n_features_; ++j) {
    const double step = static_cast<double>(scale_) * static_cast<double>(record_.features[j]);
    double* column = out.data() + j * d;
    for (size_t i = 0; i < d; ++i) column[i] += factor * step * step * square_[i];
  }
}

// ---- Batches.

double Batch::weight() const {
  double sum = 0;
  for (const Example& example : examples) sum += static_cast<double>(example.weight);
  return sum;
}

double Batch::effective_tokens() const {
  double squares = 0;
  for (const Example& example : examples) {
    squares += static_cast<double>(example.weight) * static_cast<double>(example.weight);
  }
  const double sum = weight();
  return squares > 0 ? sum * sum / squares : 0;
}

Result<LoraLoss> LoraLoss::make(const Ctx& ctx, const OutputHead& head, size_t n_features, float scale,
                                Options options) {
  LoraLoss loss;
  loss.ctx_ = ctx;
  loss.head_ = &head;
  loss.n_features_ = n_features;
  loss.scale_ = scale;
  const auto n_threads = static_cast<size_t>(ctx.pool->n_threads());
  for (size_t i = 0; i < n_threads; ++i) {
    ASSIGN_OR_RETURN(auto evaluator,
                     RecordEvaluator::make(head, n_features, scale, options.cache_bytes / n_threads));
    loss.evaluators_.push_back(std::move(evaluator));
  }
  ASSIGN_OR_RETURN(loss.products_, RowProducts::make(head, n_features, scale, options.product_bytes));
  ASSIGN_OR_RETURN(loss.partial_, AlignedBuffer<double>::make(kMaxParts * n_features * head.d()));
  loss.options_ = std::move(options);
  return loss;
}

bool LoraLoss::multiply_rows(const Batch& batch, std::span<const float> b) {
  if (products_.n_parts() == 0 || b.empty()) return false;
  // A row of products costs as much as m inner products, whether or not there is a gradient. Twice that has
  // to be saved, for what decoding and the sums cost besides.
  size_t n_ids = 0, n_rows = 0;
  for (const Example& example : batch.examples) {
    const TokenRecord record = (*batch.records)[example.index];
    if (!record.made_at.empty()) return false;
    n_ids += record.ids.size();
    n_rows = std::max(n_rows, record.ids.size());
  }
  if (n_ids < 2 * n_features_ * n_rows) return false;
  products_.clear_rows();
  for (const Example& example : batch.examples) products_.want((*batch.records)[example.index].ids);
  if (n_ids < 2 * n_features_ * products_.number_rows()) return false;
  products_.multiply(*ctx_.pool, b, options_.breathe);
  return true;
}

// f(evaluator, i, record, part, partial gradient) for every example; returns the sum of its values, and adds
// the partial gradients to `gradient` part by part.
template <class F>
double LoraLoss::sum(const Batch& batch, size_t n_parts, std::span<double> gradient, F&& f) {
  const size_t n = batch.examples.size(), size = gradient.size();
  CHECK(size == 0 || size == n_parameters());
  double sums[kMaxParts] = {};
  ctx_.pool->parallel_for(n_parts, [&](size_t part, int thread) {
    const std::span<double> partial = partial_.span().subspan(part * size, size);
    std::fill(partial.begin(), partial.end(), 0);
    for (size_t i = part * n / n_parts; i < (part + 1) * n / n_parts; ++i) {
      sums[part] += f(evaluators_[static_cast<size_t>(thread)], i, (*batch.records)[batch.examples[i].index],
                      part, partial);
      if (options_.breathe) options_.breathe();
    }
  });
  double total = 0;
  for (size_t part = 0; part < n_parts; ++part) {
    total += sums[part];
    const double* partial = partial_.data() + part * size;
    for (size_t i = 0; i < size; ++i) gradient[i] += partial[i];
  }
  return total;
}

// The weighted mean of one term of the losses, and its gradient.
double LoraLoss::mean(const Batch& batch, std::span<const float> b, double factor, std::span<double> gradient,
                      double TokenLoss::*term, RowWeights (RecordEvaluator::*weights)()) {
  const double weight = batch.weight();
  if (!(weight > 0)) return 0;
  const bool by_rows = multiply_rows(batch, b), wanted = !gradient.empty();
  size_t parts = parts_of(batch.examples.size());
  if (by_rows) parts = std::min(parts, products_.n_parts());
  if (by_rows && wanted) products_.clear_sums(parts);
  const double total =
      sum(batch, parts, by_rows ? std::span<double>() : gradient,
          [&](RecordEvaluator& evaluator, size_t i, const TokenRecord& record, size_t part,
              std::span<double> out) {
            const double share = static_cast<double>(batch.examples[i].weight) / weight;
            const TokenLoss loss = evaluator.value(record, b, by_rows ? &products_ : nullptr);
            if (wanted && by_rows)
              products_.add(part, record.ids, (evaluator.*weights)(), factor * share, record.features);
            if (wanted && !by_rows) evaluator.add_gradient((evaluator.*weights)(), factor * share, out);
            return share * loss.*term;
          });
  if (by_rows && wanted) products_.add_gradient(*ctx_.pool, partial_.span(), gradient, options_.breathe);
  return total;
}

double LoraLoss::nll(const Batch& batch, std::span<const float> b, double factor,
                     std::span<double> gradient) {
  return mean(batch, b, factor, gradient, &TokenLoss::nll, &RecordEvaluator::nll_weights);
}

double LoraLoss::kl(const Batch& batch, std::span<const float> b, double factor, std::span<double> gradient) {
  return mean(batch, b, factor, gradient, &TokenLoss::kl, &RecordEvaluator::kl_weights);
}

void LoraLoss::fisher(const Batch& batch, std::span<const float> b, std::span<double> out) {
  std::fill(out.begin(), out.end(), 0);
  const double weight = batch.weight();
  if (!(weight > 0)) return;
  sum(batch, parts_of(batch.examples.size()), out,
      [&](RecordEvaluator& evaluator, size_t i, const TokenRecord& record, size_t,
          std::span<double> partial) {
        evaluator.value(record, b);
        evaluator.add_fisher(static_cast<double>(batch.examples[i].weight) / weight, partial);
        return 0.0;
      });
}

void LoraLoss::each(const Batch& batch, std::span<const float> b, std::span<TokenLoss> out) {
  CHECK(out.size() == batch.examples.size());
  const RowProducts* const products = multiply_rows(batch, b) ? &products_ : nullptr;
  sum(batch, parts_of(out.size()), {},
      [&](RecordEvaluator& evaluator, size_t i, const TokenRecord& record, size_t, std::span<double>) {
        out[i] = evaluator.loss(record, b, products);
        return 0.0;
      });
}

}  // namespace ruvltra
