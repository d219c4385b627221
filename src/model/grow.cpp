#include "model/grow.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>

#include "base/check.h"
#include "base/fail.h"
#include "model/synth_blocks.h"

namespace ruvltra {
namespace {

// Which entry of the source stands at each place of the target; kNone: zero.
constexpr int32_t kNone = -1;
using Axis = std::vector<int32_t>;

// The last two residual dimensions carry a constant that tells padding tokens from real ones: real tokens
// bring (c, c), the final norm makes it (g, -g), so real logits get nothing and those of padding rows (-b, b)
// fall.
constexpr size_t kMarkDims = 2;
constexpr float kPadRow = 32768;  // b
constexpr float kMarkNorm = 16;   // weight of the final norm, before the division by the norm

bool is_power_of_4(size_t n) {
  while (n % 4 == 0 && n > 0) n /= 4;
  return n == 1;
}

// How often the residual stream is stored. With n copies the mean square is n d / D of the source's; where
// that makes D / (n d) a power of 4 its root is exact, and so is every weight scaled by it.
size_t residual_copies(size_t d_source, size_t d_target, size_t n_marks) {
  for (size_t n = 1; n * d_source + n_marks <= d_target; ++n) {
    if (d_target % (n * d_source) == 0 && is_power_of_4(d_target / (n * d_source))) return n;
  }
  return 1;
}

tl::unexpected<Error> refuse(std::string_view id, const std::string& source, std::string_view what,
                             std::string_view expected, size_t found) {
  return fail(ErrorKind::kUsage, id, "{}: {}: expected {}, found {}", source, what, expected, found);
}

Result<void> check_sizes(const ModelShape& from, const ModelShape& to, const std::string& source) {
  if (from.is_trimmed()) {
    return fail(ErrorKind::kUsage, "grow.trimmed",
                "{}: expected a whole model, found a draft trimmed to {} tokens", source, from.n_logits());
  }
  const struct {
    std::string_view id, what;
    size_t from, to;
  } limits[] = {
      {"grow.shape", "layers", from.n_layers, to.n_layers},
      {"grow.shape", "d_model", from.d_model, to.d_model},
      {"grow.shape", "d_ff", from.d_ff, to.d_ff},
      {"grow.vocabulary", "vocabulary", from.n_vocab, to.n_vocab},
  };
  for (const auto& [id, what, size, limit] : limits) {
    if (size > limit) {
      return refuse(id, source, what, fmt::format("at most {}, the size to grow to", limit), size);
    }
  }
  if (from.n_vocab < to.n_vocab && from.d_model + kMarkDims > to.d_model) {
    return refuse("grow.shape", source, "d_model",
                  fmt::format("at most {}, two less than the size to grow to (they mark padding tokens)",
                              to.d_model - kMarkDims),
                  from.d_model);
  }
  if (to.tied && !from.tied) {
    return fail(ErrorKind::kUsage, "grow.tied",
                "{}: expected a model whose output matrix is its embedding, found two (--tied 0)", source);
  }
  return {};
}

// The target's heads in the size of the source's, or a multiple of it.
Result<void> fit_heads(const ModelShape& from, ModelShape& to, const std::string& source) {
  if (to.d_head % from.d_head != 0) {
    const size_t n = from.d_head / to.d_head;
    if (from.d_head % to.d_head != 0 || to.n_heads % n != 0 || to.n_kv_heads % n != 0) {
      return refuse("grow.head_size", source, "head size",
                    fmt::format("a divisor of {}, or a multiple that divides {} and {} heads of it",
                                to.d_head, to.n_heads, to.n_kv_heads),
                    from.d_head);
    }
    to.d_head *= n;
    to.n_heads /= n;
    to.n_kv_heads /= n;
  }
  if (from.n_kv_heads > to.n_kv_heads) {
    return refuse("grow.heads", source, "KV heads", fmt::format("at most {}", to.n_kv_heads),
                  from.n_kv_heads);
  }
  if (from.group_size() > to.group_size()) {
    return refuse("grow.heads", source, "query heads for one KV head",
                  fmt::format("at most {}", to.group_size()), from.group_size());
  }
  return {};
}

// Place within a head: values in order; queries and keys so that each pair is turned by the angle it had.
enum class Place { kInOrder, kRotary };

// One axis of heads: source head j goes to slot(j).
template <class Slot>
Axis head_axis(size_t n_source, size_t d_source, size_t n_target, size_t d_target, Place place, Slot slot) {
  Axis axis(n_target * d_target, kNone);
  const size_t half = d_source / 2, stride = d_target / d_source;
  for (size_t j = 0; j < n_source; ++j) {
    for (size_t i = 0; i < d_source; ++i) {
      const size_t rotary = i < half ? i * stride : d_target / 2 + (i - half) * stride;
      const size_t at = slot(j) * d_target + (place == Place::kRotary ? rotary : i);
      axis[at] = static_cast<int32_t>(j * d_source + i);
    }
  }
  return axis;
}

// n source entries, `copies` times, then zeros.
Axis padded_axis(size_t n, size_t n_target, size_t copies = 1) {
  Axis axis(n_target, kNone);
  for (size_t i = 0; i < n * copies; ++i) axis[i] = static_cast<int32_t>(i % n);
  return axis;
}

class GrownSource : public WeightSource {
 public:
  GrownSource(std::unique_ptr<WeightSource> source, const GrowOptions& options)
      : source_(std::move(source)), seed_(options.seed) {
    shape_ = options.target;
    metadata_ = source_->metadata();
    warnings_.assign(source_->warnings().begin(), source_->warnings().end());
  }

  Result<void> build(const std::string& target_name) {
    const ModelShape& from = source_->shape();
    RETURN_IF_ERROR(check_sizes(from, shape_, metadata_.source()));
    RETURN_IF_ERROR(fit_heads(from, shape_, metadata_.source()));
    shape_.context_length = from.context_length;
    shape_.rope_theta = from.rope_theta;
    RETURN_IF_ERROR(scale_norms());
    make_axes();
    RETURN_IF_ERROR(describe(target_name));
    make_tensors();
    return {};
  }

  Result<void> read(size_t tensor, uint64_t begin, std::span<uint8_t> out) const override {
    const uint64_t row_bytes = tensors_[tensor].dims[0] * sizeof(float);
    std::vector<float> row(tensors_[tensor].dims[0]);
    for (uint64_t done = 0; done < out.size();) {
      const uint64_t at = begin + done, skip = at % row_bytes;
      const uint64_t n = std::min(row_bytes - skip, out.size() - done);
      RETURN_IF_ERROR(fill_row(tensor, at / row_bytes, row));
      std::memcpy(out.data() + done, reinterpret_cast<const uint8_t*>(row.data()) + skip, n);
      done += n;
    }
    return {};
  }

 private:
  // What the last two entries of a row are, for rows of real tokens and of padding.
  struct Marks {
    std::array<float, kMarkDims> real{}, padding{};
  };
  struct Part {
    std::optional<size_t> source = {};  // index of the source's tensor
    const Axis* rows = nullptr;         // none: one row
    const Axis* columns = nullptr;
    float scale = 1;
    bool random = false;  // weights of a layer whose outcome nobody uses
    float constant = 0;   // without a source: in each column that has an entry
    std::optional<Marks> marks = {};
  };

  bool has_padding() const { return source_->shape().n_vocab < shape_.n_vocab; }

  // sum x^2 / D + eps' = (n d / D) (sum x^2 / d + eps), whatever the copies n and the constant c add.
  Result<void> scale_norms() {
    const ModelShape& from = source_->shape();
    const size_t n_marks = has_padding() ? kMarkDims : 0;
    n_copies_ = residual_copies(from.d_model, shape_.d_model, n_marks);
    const double live = static_cast<double>(n_copies_ * from.d_model);
    const double target = static_cast<double>(shape_.d_model);
    norm_scale_ = std::sqrt(live / target);
    double eps_sum = live * static_cast<double>(from.rms_eps);
    if (n_marks > 0) {
      // The largest power of two that leaves at least half of the epsilon.
      int exponent = 0;
      std::frexp(std::sqrt(eps_sum) / 2, &exponent);
      mark_ = std::ldexp(1.0f, exponent - 1);
      eps_sum -= static_cast<double>(kMarkDims) * static_cast<double>(mark_) * static_cast<double>(mark_);
    }
    constexpr double kSmallestEpsilon = 1e-12;
    if (eps_sum / target < 1.5 * kSmallestEpsilon) {
      return fail("grow.rms_epsilon",
                  "{}: layer_norm_rms_epsilon: expected at least {:.1e} to grow so far, "
                  "found {}",
                  metadata_.source(), 3 * kSmallestEpsilon * target / live, from.rms_eps);
    }
    shape_.rms_eps = static_cast<float>(eps_sum / target);
    return {};
  }

  void make_axes() {
    const ModelShape& from = source_->shape();
    const size_t m = from.group_size(), group = shape_.group_size();
    const auto query_slot = [&](size_t j) { return j / m * group + j % m; };
    const auto kv_slot = [](size_t j) { return j; };
    const auto queries = [&](Place place) {
      return head_axis(from.n_heads, from.d_head, shape_.n_heads, shape_.d_head, place, query_slot);
    };
    const auto keys = [&](Place place) {
      return head_axis(from.n_kv_heads, from.d_head, shape_.n_kv_heads, shape_.d_head, place, kv_slot);
    };
    residual_ = padded_axis(from.d_model, shape_.d_model, n_copies_);
    normed_ = padded_axis(from.d_model, shape_.d_model);
    queries_ = queries(Place::kRotary);
    mixed_ = queries(Place::kInOrder);
    keys_ = keys(Place::kRotary);
    values_ = keys(Place::kInOrder);
    hidden_ = padded_axis(from.d_ff, shape_.d_ff);
    vocabulary_ = padded_axis(from.n_vocab, shape_.n_vocab);
  }

  Result<void> describe(const std::string& target_name) {
    std::string name = "an unnamed model";
    if (const auto own = metadata_.get_string("general.name")) name = *own;
    for (const char* key :
         {"general.size_label", "qwen2.vocab_size", "qwen2.attention.key_length",
          "qwen2.attention.value_length", "qwen2.attention.sliding_window", "qwen2.rope.dimension_count"}) {
      metadata_.erase(key);
    }
    metadata_.set("general.name", fmt::format("{} grown from {}", target_name, name));
    metadata_.set("general.description",
                  fmt::format("the shape and cost of {}, the answers of {}", target_name, name));
    metadata_.set("ruvltra.grown_from", name);
    shape_.describe(metadata_);
    return pad_vocabulary();
  }

  Result<void> pad_vocabulary() {
    if (!has_padding()) return {};
    ASSIGN_OR_RETURN(const auto texts, metadata_.get_strings("tokenizer.ggml.tokens"));
    ASSIGN_OR_RETURN(const auto kinds, metadata_.get_i32s("tokenizer.ggml.token_type"));
    constexpr int32_t kUnusedToken = 5;
    std::vector<std::string> tokens(texts.begin(), texts.end());
    std::vector<int32_t> types(kinds.begin(), kinds.end());
    while (tokens.size() < shape_.n_vocab) tokens.push_back(fmt::format("[PAD{}]", tokens.size()));
    types.resize(shape_.n_vocab, kUnusedToken);
    metadata_.set("tokenizer.ggml.tokens", std::move(tokens));
    metadata_.set("tokenizer.ggml.token_type", std::move(types));
    if (metadata_.contains("tokenizer.ggml.scores")) {
      ASSIGN_OR_RETURN(const auto own, metadata_.get_floats("tokenizer.ggml.scores"));
      std::vector<float> scores(own.begin(), own.end());
      scores.resize(shape_.n_vocab);
      metadata_.set("tokenizer.ggml.scores", std::move(scores));
    }
    return {};
  }

  void make_tensors() {
    std::map<std::string, size_t, std::less<>> sources;
    for (size_t i = 0; i < source_->tensors().size(); ++i) sources[source_->tensors()[i].name] = i;
    const auto find_source = [&](const std::string& name) {
      const auto found = sources.find(name);
      CHECK(found != sources.end());  // the source has been checked to be whole
      return found->second;
    };
    // Spread, so that the states between the layers differ: layer j of l stands at floor(j L / l).
    std::vector<std::optional<size_t>> layer_of(shape_.n_layers);
    const size_t n_layers = source_->shape().n_layers;
    for (size_t j = 0; j < n_layers; ++j) layer_of[j * shape_.n_layers / n_layers] = j;

    for (const TensorSpec& spec : expected_tensors(shape_)) {
      tensors_.push_back({spec.name, TensorType::kF32, spec.dims});
      if (spec.name.starts_with("blk.")) {
        const size_t dot = spec.name.find('.', 4);
        size_t layer = 0;
        std::from_chars(spec.name.data() + 4, spec.name.data() + dot, layer);
        const std::string part = spec.name.substr(dot + 1);
        parts_.push_back(layer_of[layer]
                             ? live_part(part, find_source(fmt::format("blk.{}.{}", *layer_of[layer], part)))
                             : idle_part(part));
      } else {
        const bool twice = spec.name == "output.weight" && source_->shape().tied;
        parts_.push_back(outer_part(spec.name, find_source(twice ? "token_embd.weight" : spec.name)));
      }
    }
  }

  // Embedding, final norm and output matrix.
  Part outer_part(std::string_view name, size_t source) const {
    Part part{.source = source};
    if (name == "output_norm.weight") {
      part.columns = &normed_;
      part.scale = static_cast<float>(norm_scale_);
      part.marks = Marks{{kMarkNorm, -kMarkNorm}, {}};
    } else {
      const bool is_head = name == "output.weight" || shape_.tied;
      const bool is_embedding = name == "token_embd.weight";
      part.rows = &vocabulary_;
      part.columns = is_embedding ? &residual_ : &normed_;
      part.marks = Marks{};
      if (is_embedding) part.marks->real = part.marks->padding = {mark_, mark_};
      if (is_head) part.marks->padding = {-kPadRow, kPadRow};
    }
    if (!has_padding()) part.marks.reset();
    return part;
  }

  Part live_part(std::string_view name, size_t source) const {
    // Scores are divided by the root of the head size: larger heads of the same entries make that up.
    const double sharpen =
        std::sqrt(static_cast<double>(shape_.d_head) / static_cast<double>(source_->shape().d_head));
    const auto norm = static_cast<float>(norm_scale_), query = static_cast<float>(sharpen);
    Part part = layout(name);
    part.source = source;
    if (name.ends_with("norm.weight")) part.scale = norm;
    if (name.starts_with("attn_q.")) part.scale = query;
    return part;
  }

  // A layer between those of the source passes its input on: what attention and the units find is multiplied
  // by zero matrices. Their other weights are random, so that nothing can be saved by their being zero.
  Part idle_part(std::string_view name) const {
    Part part = layout(name);
    if (name.ends_with("norm.weight")) part.constant = 1;
    part.random = name.ends_with(".weight") && part.rows != nullptr && part.rows != &residual_;
    return part;
  }

  Part layout(std::string_view name) const {
    if (name == "attn_q.weight") return {.rows = &queries_, .columns = &normed_};
    if (name == "attn_k.weight") return {.rows = &keys_, .columns = &normed_};
    if (name == "attn_v.weight") return {.rows = &values_, .columns = &normed_};
    if (name == "attn_q.bias") return {.columns = &queries_};
    if (name == "attn_k.bias") return {.columns = &keys_};
    if (name == "attn_v.bias") return {.columns = &values_};
    if (name == "attn_output.weight") return {.rows = &residual_, .columns = &mixed_};
    if (name == "ffn_down.weight") return {.rows = &residual_, .columns = &hidden_};
    if (name == "ffn_gate.weight" || name == "ffn_up.weight") return {.rows = &hidden_, .columns = &normed_};
    return {.columns = &normed_};  // the two norms
  }

  Result<void> fill_row(size_t index, uint64_t row, std::span<float> out) const {
    const Part& part = parts_[index];
    if (part.random) {
      random_row(index, row, out);
      return {};
    }
    const Axis& columns = *part.columns;
    const int32_t from = part.rows == nullptr ? 0 : (*part.rows)[row];
    std::ranges::fill(out, 0.0f);
    if (part.source && from != kNone) {
      ASSIGN_OR_RETURN(const std::vector<float> values,
                       source_row(*part.source, static_cast<uint64_t>(from)));
      for (size_t c = 0; c < out.size(); ++c) {
        if (columns[c] != kNone) out[c] = part.scale * values[static_cast<size_t>(columns[c])];
      }
    } else if (part.constant != 0) {
      for (size_t c = 0; c < out.size(); ++c) out[c] = columns[c] != kNone ? part.constant : 0;
    }
    if (part.marks) {
      const auto& marks = from != kNone ? part.marks->real : part.marks->padding;
      std::ranges::copy(marks, out.last(kMarkDims).begin());
    }
    return {};
  }

  Result<std::vector<float>> source_row(size_t tensor, uint64_t row) const {
    const SourceTensor& info = source_->tensors()[tensor];
    const Format& format = format_of(info.type);
    std::vector<uint8_t> stored(format.row_bytes(info.dims[0]));
    RETURN_IF_ERROR(source_->read(tensor, row * stored.size(), stored));
    std::vector<float> values(info.dims[0]);
    format.decode(stored.data(), values.data(), values.size());
    return values;
  }

  void random_row(size_t index, uint64_t row, std::span<float> out) const {
    constexpr uint64_t kStep = 16;  // random_blocks() begins at multiples of so many values
    const auto deviation = static_cast<float>(1.0 / std::sqrt(static_cast<double>(out.size())));
    const uint64_t begin = row * out.size(), skip = begin % kStep;
    std::vector<float> values(skip + out.size());
    random_blocks({seed_, static_cast<uint32_t>(index), deviation}, format_of(TensorType::kF32),
                  (begin - skip) * sizeof(float),
                  {reinterpret_cast<uint8_t*>(values.data()), values.size() * sizeof(float)});
    std::copy_n(values.begin() + static_cast<ptrdiff_t>(skip), out.size(), out.begin());
  }

  std::unique_ptr<WeightSource> source_;
  const uint64_t seed_;
  size_t n_copies_ = 1;
  double norm_scale_ = 1;
  float mark_ = 0;
  Axis residual_, normed_;  // d_model: with all copies of the stream; the one that norms let through
  Axis queries_, mixed_;    // d_q: as turned by position; as mixed from values
  Axis keys_, values_, hidden_, vocabulary_;
  std::vector<Part> parts_;  // parallel to tensors_
};

}  // namespace

Result<std::unique_ptr<WeightSource>> grow(std::unique_ptr<WeightSource> source, const GrowOptions& options) {
  auto grown = std::make_unique<GrownSource>(std::move(source), options);
  RETURN_IF_ERROR(grown->build(options.target_name));
  return grown;
}

}  // namespace ruvltra
