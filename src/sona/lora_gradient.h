// Losses of an adapter on token records, with exact gradients and Fisher information in closed form.
//
// With p = softmax(W (h + delta)), y the token and delta = s B phi:
//
//   NLL(y)              g = W' (p - e_y)            dNLL / dB = s g phi'
//   KL(p_base || p_B)   g = W' (p - p_base)         both are convex in B
//   F_ij = s^2 E[Var_{v ~ p}(W_vi) phi_j^2]         the Fisher diagonal, which is the Hessian's
//
// Sums over the vocabulary run over the K recorded tokens; the rest counts as uniform, with the mean row of
// W. So |g - g_K| <= (1 - P_K) R at the B of the record.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "sona/output_head.h"
#include "sona/row_products.h"
#include "sona/token_record.h"

namespace ruvltra {

// What a record says about its token at another B.
struct TokenLoss {
  double nll = 0;    // nat
  double bound = 0;  // |nll - exact nll| is at most this (see RecordEvaluator)
  double kl = 0;     // KL(p_base || p_B), over the recorded tokens and the tail as one
  double delta = 0;  // |s B phi|
  double tail = 0;   // probability outside the recorded tokens
};

// One thread's scratch for looking at records. *Thread safety*: none.
//
// The NLL at B: with Delta_v = s w_v (B - B_made) phi, Delta' the same of the mean row and T = (1 - P_K)
// e^Delta', lse_B = lse + log Z, Z = sum_K p_v e^Delta_v + T. Two things are not exact:
//   the tail: |log Z - exact| <= log(1 + T (e^D - 1) / Z), D = s R |(B - B_made) phi|;
//   p_v is stored as f16(log p_v), off by a factor of at most e^+-r, r = 2^-11 |log p_v|. As they are scaled
//   to their sum, which is known, Z is off by at most E = sum_K p_v (e^{r_v + r_max} - 1) |e^Delta_v - mean|.
// bound = log(1 + T (e^D - 1) / (Z - E)) - log(1 - E / Z), and 1e-6 (1 + max |Delta|) for arithmetic in f32.
class RecordEvaluator {
 public:
  // `scale` is s. Errors: memory.exhausted.
  static Result<RecordEvaluator> make(const OutputHead& head, size_t n_features, float scale,
                                      size_t cache_bytes);

  // b: (m, d), or empty for the zero adapter. products: of b, where the record's rows are among them and it
  // was made at the zero adapter; or null.
  TokenLoss loss(const TokenRecord& record, std::span<const float> b, const RowProducts* products = nullptr);
  // The same without bound and delta, which cost as much again.
  TokenLoss value(const TokenRecord& record, std::span<const float> b, const RowProducts* products = nullptr);

  // Of the record last given to loss() or value(), at that B: adds factor dNLL/dB, factor dKL/dB, factor F to
  // `out` (m, d).
  void add_nll_gradient(double factor, std::span<double> out) { add_gradient(nll_weights(), factor, out); }
  void add_kl_gradient(double factor, std::span<double> out) { add_gradient(kl_weights(), factor, out); }
  void add_fisher(double factor, std::span<double> out);
  // What those gradients are made of, valid until the next call.
  RowWeights nll_weights();
  RowWeights kl_weights();
  void add_gradient(const RowWeights& weights, double factor, std::span<double> out);

  // Probabilities of the recorded tokens at that B, and of the base.
  std::span<const double> p() const { return p_; }
  std::span<const double> p_base() const { return p_base_; }

 private:
  RecordEvaluator() = default;
  void recorded_distribution();
  double shifted_distribution(std::span<const float> b, const RowProducts* products, std::vector<double>& p,
                              double& tail);
  void shift_hidden(std::span<const float> b);
  void make_dots(std::span<const float> b, const RowProducts* products);
  // f(rows, first): the rows of the record's tokens, some at a time.
  template <class F>
  void each_rows(F&& f);
  void weighted_rows(const RowWeights& weights, std::vector<double>& sum);

  const OutputHead* head_ = nullptr;
  size_t n_features_ = 0;
  float scale_ = 0;
  RowCache cache_;
  TokenRecord record_;
  std::vector<float> shift_;        // (stride) s (B - B_made) phi
  std::vector<float> phi_;          // (stride of products)
  std::vector<const float*> rows_;  // (k) of products
  std::vector<float> dots_;         // (k) Delta_v
  float mean_dot_ = 0;              // Delta'
  double shift_norm_ = 0;           // |s (B - B_made) phi|
  std::vector<double> p_made_;      // (k) as recorded
  std::vector<double> p_, p_base_;  // (k)
  double tail_ = 0, tail_base_ = 0;
  std::vector<double> coefficients_;  // (k)
  std::vector<double> g_;             // (d)
  std::vector<double> square_;        // (d)
  std::vector<float> centre_;         // (d) g_ in f32
};

// A record of a store and its weight in the loss.
struct Example {
  uint32_t index = 0;
  float weight = 1;  // > 0, finite
};
struct Batch {
  const TokenRecords* records = nullptr;
  std::span<const Example> examples;

  double weight() const;
  // (sum w)^2 / sum w^2: how many equally weighted tokens say as much (Kish 1965); n if all weigh the same.
  double effective_tokens() const;
};

// Sums over batches with the threads of a context. The order of all sums depends on the batch and the
// options alone: any number of threads gives the same bits.
//
// *Thread safety*: none; parallel inside.
class LoraLoss {
 public:
  struct Options {
    size_t cache_bytes = size_t{64} << 20;  // decoded rows, all threads together
    // For large batches, if it holds RowProducts of the whole vocabulary: 102 MB for the 3B model at rank 4.
    // Where it does not they go token by token as well.
    size_t product_bytes = size_t{128} << 20;
    // Called after each token and, where rows are multiplied, every few of them, from whichever thread worked
    // them off: to give way. May be empty.
    std::function<void()> breathe;
  };
  // Errors: memory.exhausted.
  static Result<LoraLoss> make(const Ctx& ctx, const OutputHead& head, size_t n_features, float scale,
                               Options options);

  size_t n_parameters() const { return n_features_ * head_->d(); }
  size_t d() const { return head_->d(); }
  size_t n_features() const { return n_features_; }
  float scale() const { return scale_; }
  const OutputHead& head() const { return *head_; }

  // Weighted means over the batch at b (m, d). With a gradient (m, d): adds factor times the mean's.
  double nll(const Batch& batch, std::span<const float> b, double factor = 1,
             std::span<double> gradient = {});
  double kl(const Batch& batch, std::span<const float> b, double factor = 1, std::span<double> gradient = {});
  // out (m, d) = F of the batch at b, weighted like its loss.
  void fisher(const Batch& batch, std::span<const float> b, std::span<double> out);
  // Each token by itself: out (examples).
  void each(const Batch& batch, std::span<const float> b, std::span<TokenLoss> out);

 private:
  LoraLoss() = default;
  // Should the batch be worked off with products_, made at b? Where its tokens share their rows.
  bool multiply_rows(const Batch& batch, std::span<const float> b);
  double mean(const Batch& batch, std::span<const float> b, double factor, std::span<double> gradient,
              double TokenLoss::*term, RowWeights (RecordEvaluator::*weights)());
  template <class F>
  double sum(const Batch& batch, size_t n_parts, std::span<double> gradient, F&& f);

  Ctx ctx_;
  const OutputHead* head_ = nullptr;
  size_t n_features_ = 0;
  float scale_ = 0;
  Options options_;
  std::vector<RecordEvaluator> evaluators_;  // (threads)
  RowProducts products_;
  AlignedBuffer<double> partial_;  // (parts, m, d)
};

}  // namespace ruvltra
