// `eval sona-teacher`: how much of a known gap does the adapter recover from how many tokens?
//
// The teacher is the model with a hidden adapter B' of rank 4, scaled so that it is 0.2 nat away. Tokens are
// drawn from it at contexts of a real text; the learner sees records of the plain model. What is recovered is
// measured exactly, over the whole vocabulary, on contexts it has not seen.
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <random>

#include "base/fail.h"
#include "base/json.h"
#include "console.h"
#include "experiments.h"
#include "lora_contexts.h"
#include "lora_options.h"
#include "ops/logits.h"
#include "sona/lora_fit.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr double kGap = 0.2;  // nat per token
constexpr double kShareOfFormula = 0.9;
constexpr size_t kTeacherRank = 4, kForeignUnits = 64;
constexpr size_t kTestContexts = 1024, kScaleContexts = 256;
constexpr size_t kMostIds = 2048;  // room for records whose K has doubled three times
constexpr int kFitSteps = 64, kForeignSize = 4;
constexpr size_t kValidationIn = 8;  // as in the learner

struct TeacherOptions {
  std::shared_ptr<const LoraText> text;
  std::vector<int> sizes = {1, 4, 12};  // tokens, in parameters
};

struct Row {
  uint64_t seed = 0;
  bool foreign = false;  // the teacher is outside the adapter's family
  size_t n_tokens = 0, n_parameters = 0;
  double gap = 0;      // mean KL(teacher || base) on test contexts
  double left = 0;     // mean KL(teacher || fitted)
  double formula = 0;  // N / (N + P / 2G)
  double mean_tail = 0;
  FitReport report;
  double share() const { return 1 - left / gap; }
  bool passed() const { return foreign ? share() > 0 : share() >= kShareOfFormula * formula; }
};

// What is added to a context's hidden state.
using Shift = std::function<void(size_t context, std::span<float> x)>;
const Shift kNoShift = [](size_t, std::span<float>) {};

class TeacherSeed {
 public:
  TeacherSeed(const LoadedModel& model, const OutputHead& head, const LoraContexts& contexts, uint64_t seed)
      : model_(model), head_(head), contexts_(contexts), seed_(seed), random_(seed) {}

  Result<std::vector<Row>> run(std::span<const int> sizes) {
    ASSIGN_OR_RETURN(auto product, HeadProduct::make(model_));
    product_ = std::make_unique<HeadProduct>(std::move(product));
    // Which contexts are for testing is drawn anew with each seed; they are never trained on.
    order_.resize(contexts_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::shuffle(order_.begin(), order_.end(), random_);
    std::vector<Row> rows;
    const int largest = *std::max_element(sizes.begin(), sizes.end());
    RETURN_IF_ERROR(learn(scaled(own_teacher()), false, sizes, rows));
    // A teacher that no adapter can be, at the middle size.
    const int middle[] = {std::min(kForeignSize, largest)};
    RETURN_IF_ERROR(learn(scaled(foreign_teacher()), true, middle, rows));
    return rows;
  }

 private:
  size_t d() const { return contexts_.d(); }
  size_t m() const { return contexts_.m(); }
  size_t n_parameters() const { return d() * m(); }
  std::vector<float> normals(size_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> values(n);
    for (float& value : values) value = normal(random_);
    return values;
  }

  // s B' phi, B' = U V with U (d, 4), V (4, m).
  std::function<Shift(float)> own_teacher() {
    const auto u = normals(kTeacherRank * d()), v = normals(kTeacherRank * m());
    std::vector<float> b(n_parameters(), 0);
    for (size_t k = 0; k < kTeacherRank; ++k)
      for (size_t j = 0; j < m(); ++j)
        for (size_t i = 0; i < d(); ++i) b[j * d() + i] += v[k * m() + j] * u[k * d() + i];
    return [this, b](float scale) -> Shift {
      auto scaled_b = b;
      for (float& value : scaled_b) value *= scale;
      return [this, scaled_b](size_t context, std::span<float> x) {
        add_delta(contexts_, context, scaled_b, x);
      };
    };
  }
  // U tanh(V h / |h| sqrt(d)): nothing that is linear in phi.
  std::function<Shift(float)> foreign_teacher() {
    const auto u = normals(d() * kForeignUnits), v = normals(kForeignUnits * d());
    return [this, u, v](float scale) -> Shift {
      return [this, u, v, scale](size_t context, std::span<float> x) {
        const auto h = contexts_.h(context);
        const auto norm = static_cast<float>(euclidean_norm(h.data(), d()));
        for (size_t k = 0; k < kForeignUnits; ++k) {
          float product = 0;
          for (size_t i = 0; i < d(); ++i) product += v[k * d() + i] * h[i] / norm;
          const float unit = scale * std::tanh(product);
          for (size_t i = 0; i < d(); ++i) x[i] += unit * u[k * d() + i];
        }
      };
    };
  }

  // use(t, row) for each of n contexts from `first` on: the logits of its shifted hidden state. Rows are
  // multiplied some at a time.
  template <class F>
  void each_row(const Shift& shift, size_t first, size_t n, F&& use) {
    for (size_t begin = 0; begin < n; begin += HeadProduct::kRows) {
      const size_t count = std::min(HeadProduct::kRows, n - begin);
      x_.resize(count * d());
      for (size_t t = 0; t < count; ++t) {
        const size_t at = context(first + begin + t);
        const auto x = std::span(x_).subspan(t * d(), d());
        std::ranges::copy(contexts_.h(at), x.begin());
        shift(at, x);
      }
      const auto logits = product_->logits(x_.data(), count);
      for (size_t t = 0; t < count; ++t) use(begin + t, logits.subspan(t * head_.n_rows(), head_.n_rows()));
    }
  }
  // Test contexts first; then the others in shuffled order, and again from their start where the text is too
  // short.
  size_t context(size_t i) const {
    if (i < kTestContexts) return order_[i];
    return order_[kTestContexts + (i - kTestContexts) % (order_.size() - kTestContexts)];
  }
  // Mean KL(a || b) over n contexts from `first` on, over the whole vocabulary.
  double mean_kl(const Shift& a, const Shift& b, size_t first, size_t n) {
    std::vector<float> rows(n * head_.n_rows());
    each_row(a, first, n, [&](size_t t, std::span<const float> row) {
      std::ranges::copy(row, rows.begin() + static_cast<std::ptrdiff_t>(t * head_.n_rows()));
    });
    double total = 0;
    each_row(b, first, n, [&](size_t t, std::span<const float> other) {
      const auto row = std::span(rows).subspan(t * head_.n_rows(), head_.n_rows());
      const double lse = log_sum_exp(row), lse_other = log_sum_exp(other);
      for (size_t v = 0; v < row.size(); ++v) {
        const double log_p = static_cast<double>(row[v]) - lse;
        total += std::exp(log_p) * (log_p - (static_cast<double>(other[v]) - lse_other));
      }
    });
    return total / static_cast<double>(n);
  }

  // The size at which the teacher is kGap away, by bisection on training contexts.
  Shift scaled(const std::function<Shift(float)>& teacher) {
    double low = 0, high = 1e-4;
    const auto gap = [&](double scale) {
      return mean_kl(teacher(static_cast<float>(scale)), kNoShift, kTestContexts, kScaleContexts);
    };
    while (gap(high) < kGap) high *= 2;
    for (int i = 0; i < 20; ++i) {
      const double middle = 0.5 * (low + high);
      (gap(middle) < kGap ? low : high) = middle;
    }
    return teacher(static_cast<float>(0.5 * (low + high)));
  }

  Result<TokenRecords> draw(const Shift& teacher, size_t n_tokens);
  // Smaller sizes learn from the first of the same tokens. The anchor that belongs to the gap is known of a
  // teacher of the adapter's family alone. Of a foreign one it is the best of those that the learner chooses
  // from, by every kValidationIn-th token, which is not trained on.
  Result<void> learn(const Shift& teacher, bool foreign, std::span<const int> sizes, std::vector<Row>& rows);

  const LoadedModel& model_;
  const OutputHead& head_;
  const LoraContexts& contexts_;
  const uint64_t seed_;
  std::mt19937_64 random_;
  std::vector<size_t> order_;  // contexts; the first kTestContexts are for testing
  std::unique_ptr<HeadProduct> product_;
  std::vector<float> x_;
};

// The plain model's records of tokens that the teacher wrote.
Result<TokenRecords> TeacherSeed::draw(const Shift& teacher, size_t n_tokens) {
  TokenRecords records({.n_features = m(),
                        .n_rows = head_.n_rows(),
                        .capacity = n_tokens,
                        .top_k = kDefaultTopK,
                        .max_ids = n_tokens * (std::min(kMostIds, head_.n_rows()) + 1)});
  std::vector<uint32_t> tokens(n_tokens);
  std::vector<double> cumulative(head_.n_rows());
  std::uniform_real_distribution<double> uniform;
  each_row(teacher, kTestContexts, n_tokens, [&](size_t t, std::span<const float> z) {
    const auto largest = static_cast<double>(*std::max_element(z.begin(), z.end()));
    double sum = 0;
    for (size_t v = 0; v < z.size(); ++v)
      cumulative[v] = sum += std::exp(static_cast<double>(z[v]) - largest);
    const auto y = std::lower_bound(cumulative.begin(), cumulative.end(), uniform(random_) * sum);
    tokens[t] = static_cast<uint32_t>(
        std::min<size_t>(static_cast<size_t>(y - cumulative.begin()), head_.n_rows() - 1));
  });
  each_row(kNoShift, kTestContexts, n_tokens, [&](size_t t, std::span<const float> z) {
    const size_t at = context(kTestContexts + t);
    records.add(z, tokens[t], contexts_.phi(at),
                static_cast<float>(euclidean_norm(contexts_.h(at).data(), d())));
  });
  if (records.size() != n_tokens) {
    return fail("sona_teacher.record", "sona-teacher: expected {} records, {} could be kept", n_tokens,
                records.size());
  }
  return records;
}

Result<void> TeacherSeed::learn(const Shift& teacher, bool foreign, std::span<const int> sizes,
                                std::vector<Row>& rows) {
  const auto most = static_cast<size_t>(*std::max_element(sizes.begin(), sizes.end()));
  ASSIGN_OR_RETURN(const TokenRecords records, draw(teacher, most * n_parameters()));
  ASSIGN_OR_RETURN(auto loss, LoraLoss::make(model_.ctx, head_, m(), contexts_.basis->scale(), {}));
  FitOptions options;
  options.n0 = static_cast<double>(n_parameters()) / (2 * kGap);
  options.c_feature = 1;
  options.beta = 0;
  options.max_update = FitOptions::kNoBound;
  options.max_steps = kFitSteps;
  const double gap = mean_kl(teacher, kNoShift, 0, kTestContexts);
  for (const int size : sizes) {
    Row row;
    row.seed = seed_;
    row.foreign = foreign;
    row.n_parameters = n_parameters();
    row.n_tokens = static_cast<size_t>(size) * n_parameters();
    row.formula = static_cast<double>(size) / (static_cast<double>(size) + 1 / (2 * kGap));
    row.mean_tail = records.mean_tail();
    std::vector<Example> examples, validation;
    for (uint32_t i = 0; i < row.n_tokens; ++i)
      (foreign && i % kValidationIn == 0 ? validation : examples).push_back({i, 1});
    Ewc ewc(n_parameters(), 0);
    std::vector<float> b(n_parameters(), 0);
    if (foreign) {
      AnchorChoice choice =
          fit_with_best_anchor(loss, ewc, b, options, {&records, examples}, {}, {&records, validation});
      row.report = std::move(choice.report);
      b = std::move(choice.b);
    } else {
      LoraFit fit(loss, ewc, b, options);
      row.report = fit.full_batch({&records, examples}, {});
      b.assign(fit.b().begin(), fit.b().end());
    }
    const Shift fitted = [&](size_t context, std::span<float> x) { add_delta(contexts_, context, b, x); };
    row.gap = gap;
    row.left = mean_kl(teacher, fitted, 0, kTestContexts);
    rows.push_back(std::move(row));
  }
  return {};
}

Json to_document(const Row& row) {
  Json out;
  out["seed"] = row.seed;
  out["teacher"] = row.foreign ? "foreign" : "adapter";
  out["tokens"] = row.n_tokens;
  out["parameters"] = row.n_parameters;
  out["gap"] = row.gap;
  out["left"] = row.left;
  out["share"] = row.share();
  out["formula"] = row.foreign ? Json(nullptr) : Json(row.formula);
  out["mean_tail"] = row.mean_tail;
  out["n0"] = row.report.n0;
  out["steps"] = row.report.n_steps;
  out["halvings"] = row.report.n_halvings;
  out["stop"] = std::string(fit_stop_name(row.report.stop));
  out["objective_before"] = row.report.objective_before;
  out["objective_after"] = row.report.objective_after;
  out["passed"] = row.passed();
  return out;
}

Result<int> eval_sona_teacher(const TeacherOptions& teacher, const ExperimentOptions& options) {
  ASSIGN_OR_RETURN(const auto model, load_model(options.model));
  ASSIGN_OR_RETURN(const OutputHead head,
                   OutputHead::make(model->ctx, model->weights.head(), model->weights.shape.n_vocab));
  ASSIGN_OR_RETURN(const HiddenStates canary, hidden_states(*model, canary_text(), 8192));
  BasisSpec spec;
  spec.layers = canary.layers;
  const size_t n_parameters = spec.n_features() * model->weights.shape.d_model;
  const auto largest = static_cast<size_t>(*std::max_element(teacher.sizes.begin(), teacher.sizes.end()));
  ASSIGN_OR_RETURN(const HiddenStates text,
                   read_states(*model, *teacher.text, kTestContexts + largest * n_parameters));
  if (text.next.size() < 2 * kTestContexts + kScaleContexts) {
    return fail(ErrorKind::kUsage, "sona_teacher.text", "--text: expected at least {} tokens, found {}",
                2 * kTestContexts + kScaleContexts, text.next.size());
  }
  ProgressBar bar("sona-teacher", ProgressBar::Unit::kItems, !options.model.no_progress);
  std::vector<Row> rows;
  const auto n_seeds = static_cast<uint64_t>(teacher.text->n_seeds);
  for (uint64_t i = 0; i < n_seeds; ++i) {
    ASSIGN_OR_RETURN(const LoraContexts contexts, lora_contexts(*model, canary, text, options.seed + i));
    TeacherSeed seed(*model, head, contexts, options.seed + i);
    ASSIGN_OR_RETURN(const auto found, seed.run(teacher.sizes));
    rows.insert(rows.end(), found.begin(), found.end());
    if (!bar.update(i + 1, n_seeds))
      return fail(ErrorKind::kCancelled, "eval.cancelled", "sona-teacher: stopped on request");
  }
  const bool all_passed = std::all_of(rows.begin(), rows.end(), [](const Row& row) { return row.passed(); });
  if (options.json) {
    Json out = experiment_document("sona-teacher", *model, options.seed);
    out["contexts"] = text.next.size();
    out["rows"] = Json::array();
    for (const Row& row : rows) out["rows"].push_back(to_document(row));
    out["passed"] = all_passed;
    print("{}\n", to_json(out));
    return all_passed ? kExitOk : kExitFailure;
  }
  print("{}{}: {} contexts, teacher {} nat away, {} parameters\n\n", model->label(),
        has_random_weights(model->file.metadata()) ? " (random weights)" : "", text.next.size(), kGap,
        rows[0].n_parameters);
  print("| seed | teacher | tokens | gap | left | share | formula | tail | steps | |\n");
  print("|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Row& row : rows) {
    print("| {} | {} | {} | {:.4f} | {:.4f} | {:.3f} | {} | {:.3f} | {} {} | {} |\n", row.seed,
          row.foreign ? "foreign" : "adapter", row.n_tokens, row.gap, row.left, row.share(),
          row.foreign ? "> 0" : fmt::format("{:.3f}", row.formula), row.mean_tail, row.report.n_steps,
          fit_stop_name(row.report.stop), row.passed() ? "" : "FAILED");
  }
  print("\n{}\n", all_passed ? "passed" : "FAILED");
  return all_passed ? kExitOk : kExitFailure;
}

}  // namespace

Experiment sona_teacher_experiment() {
  const auto teacher = std::make_shared<TeacherOptions>();
  return {
      .name = "sona-teacher",
      .add_options =
          [teacher](CLI::App& app) {
            auto names = add_lora_text_options(app, teacher->text);
            app.add_option("--sizes", teacher->sizes, "sona-teacher: tokens, in parameters (1,4,12)")
                ->delimiter(',')
                ->check(in_range(1, 1000))
                ->configurable(false);
            names.push_back("--sizes");
            return names;
          },
      .run = [teacher](const ExperimentOptions& options) { return eval_sona_teacher(*teacher, options); }};
}

}  // namespace ruvltra
