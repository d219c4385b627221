#include "engine/eval.h"

#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "ops/logits.h"

namespace ruvltra {
namespace {

Result<void> report(const Progress& progress, uint64_t done, uint64_t total) {
  if (progress && !progress(done, total)) {
    return fail(ErrorKind::kCancelled, "eval.cancelled", "evaluation: stopped on request");
  }
  return {};
}

tl::unexpected<Error> not_finite(size_t position) {
  return fail("eval.not_finite", "logits at token {}: expected finite values, found NaN or infinity",
              position);
}

Result<void> check_text(const LogitsRun& run, std::span<const TokenId> tokens, const WindowOptions& options) {
  if (options.n_window < 2 || options.n_window > run.shape().context_length) {
    return fail(ErrorKind::kUsage, "eval.context", "ctx: expected 2..{} tokens, found {}",
                run.shape().context_length, options.n_window);
  }
  const size_t n_unscored = options.full ? 1 : options.n_window / 2;
  if (tokens.size() <= n_unscored) {
    return fail("eval.too_short", "text: expected more than {} tokens, found {}", n_unscored, tokens.size());
  }
  for (const TokenId token : tokens) {
    if (token < 0 || static_cast<size_t>(token) >= run.shape().n_vocab) {
      return fail("eval.token_range", "text: expected token ids below {}, found {}", run.shape().n_vocab,
                  token);
    }
  }
  return {};
}

// Calls chunk(tokens, target, begin) for stretches of scored rows: the logits of `tokens` predict
// text[target], text[target + 1], ...; `start` and `skip` bring the runs to that point.
template <class Start, class Skip, class Chunk>
Result<void> for_each_window(std::span<const TokenId> text, const WindowOptions& options,
                             const Progress& progress, Start start, Skip skip, Chunk chunk) {
  for (size_t begin = 0; begin < text.size(); begin += options.n_window) {
    const size_t end = std::min(text.size(), begin + options.n_window);
    size_t target = begin + (options.full ? 1 : options.n_window / 2);
    if (target >= end) break;
    start();
    skip(text.subspan(begin, target - 1 - begin));
    while (target < end) {
      ASSIGN_OR_RETURN(const size_t n, chunk(text.subspan(target - 1, end - target), target));
      target += n;
      RETURN_IF_ERROR(report(progress, target, text.size()));
    }
  }
  return {};
}

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

Perplexity summarise(std::span<const double> nll) {
  Perplexity result;
  result.n_tokens = nll.size();
  result.nll = mean_of(nll);
  result.ppl = std::exp(result.nll);
  double squares = 0;
  for (const double value : nll) squares += (value - result.nll) * (value - result.nll);
  const auto n = static_cast<double>(nll.size());
  if (nll.size() > 1) result.ppl_se = result.ppl * std::sqrt(squares / (n - 1) / n);
  return result;
}

}  // namespace

Result<Perplexity> perplexity(LogitsRun& run, std::span<const TokenId> tokens, const WindowOptions& options,
                              const Progress& progress) {
  RETURN_IF_ERROR(check_text(run, tokens, options));
  const size_t n_vocab = run.shape().n_vocab;
  std::vector<double> nll;
  const auto chunk = [&](std::span<const TokenId> rows, size_t target) -> Result<size_t> {
    const std::span<const float> logits = run.append(rows);
    const size_t n = logits.size() / n_vocab;
    const size_t first = nll.size();
    nll.resize(first + n);
    run.ctx().pool->parallel_for(n, [&](size_t i, int) {
      const auto row = logits.subspan(i * n_vocab, n_vocab);
      nll[first + i] = log_sum_exp(row) - static_cast<double>(row[static_cast<size_t>(tokens[target + i])]);
    });
    for (size_t i = 0; i < n; ++i) {
      if (!std::isfinite(nll[first + i])) return not_finite(target + i);
    }
    return n;
  };
  RETURN_IF_ERROR(for_each_window(
      tokens, options, progress, [&] { run.truncate(0); }, [&](auto part) { run.skip(part); }, chunk));
  return summarise(nll);
}

Result<Divergence> divergence(LogitsRun& base, LogitsRun& model, std::span<const TokenId> tokens,
                              const WindowOptions& options, const Progress& progress) {
  const size_t n_vocab = base.shape().n_vocab;
  if (model.shape().n_vocab != n_vocab) {
    return fail("eval.vocabulary", "base model: expected a vocabulary of {}, found {}", model.shape().n_vocab,
                n_vocab);
  }
  RETURN_IF_ERROR(check_text(base, tokens, options));
  RETURN_IF_ERROR(check_text(model, tokens, options));

  std::vector<double> kl, base_nll, model_nll;
  size_t n_same = 0;
  const auto compare = [&](size_t index, TokenId target, std::span<const float> p, std::span<const float> q) {
    const double p_norm = log_sum_exp(p);
    const double q_norm = log_sum_exp(q);
    double sum = 0;
    for (size_t i = 0; i < n_vocab; ++i) {
      const double log_p = static_cast<double>(p[i]) - p_norm;
      sum += std::exp(log_p) * (log_p - (static_cast<double>(q[i]) - q_norm));
    }
    kl[index] = sum;
    base_nll[index] = p_norm - static_cast<double>(p[static_cast<size_t>(target)]);
    model_nll[index] = q_norm - static_cast<double>(q[static_cast<size_t>(target)]);
  };
  const auto chunk = [&](std::span<const TokenId> rows, size_t target) -> Result<size_t> {
    const std::span<const float> p = base.append(rows);
    const std::span<const float> q = model.append(rows.first(p.size() / n_vocab));
    const size_t n = p.size() / n_vocab;
    const size_t first = kl.size();
    for (std::vector<double>* values : {&kl, &base_nll, &model_nll}) values->resize(first + n);
    base.ctx().pool->parallel_for(n, [&](size_t i, int) {
      compare(first + i, tokens[target + i], p.subspan(i * n_vocab, n_vocab),
              q.subspan(i * n_vocab, n_vocab));
    });
    for (size_t i = 0; i < n; ++i) {
      if (!std::isfinite(kl[first + i])) return not_finite(target + i);
      n_same += argmax(p.subspan(i * n_vocab, n_vocab)) == argmax(q.subspan(i * n_vocab, n_vocab));
    }
    return n;
  };
  const auto start = [&] {
    base.truncate(0);
    model.truncate(0);
  };
  const auto skip = [&](std::span<const TokenId> part) {
    base.skip(part);
    model.skip(part);
  };
  RETURN_IF_ERROR(for_each_window(tokens, options, progress, start, skip, chunk));

  Divergence result;
  result.n_tokens = kl.size();
  result.kld_mean = mean_of(kl);
  double squares = 0;
  for (size_t i = 0; i < kl.size(); ++i) {
    const double dp = std::exp(-model_nll[i]) - std::exp(-base_nll[i]);
    squares += dp * dp;
  }
  result.rms_dp = std::sqrt(squares / static_cast<double>(kl.size()));
  result.delta_ppl = summarise(model_nll).ppl - summarise(base_nll).ppl;
  result.same_top1 = static_cast<double>(n_same) / static_cast<double>(kl.size());
  std::sort(kl.begin(), kl.end());
  result.kld_median = kl[kl.size() / 2];
  result.kld_p999 = kl[(kl.size() - 1) * 999 / 1000];
  result.kld_max = kl.back();
  return result;
}

}  // namespace ruvltra
