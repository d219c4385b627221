#include "model/qwen2.h"

#include <algorithm>
#include <initializer_list>

#include "base/check.h"

namespace ruvltra {
namespace {

AttentionScratch::Options attention_options(const ModelShape& shape, const Workspace::Options& options,
                                            int n_threads) {
  AttentionScratch::Options attention;
  attention.n_threads = n_threads;
  attention.n_heads = shape.n_heads;
  attention.n_kv_heads = shape.n_kv_heads;
  attention.d_head = shape.d_head;
  attention.max_tokens = options.max_tokens;
  attention.max_positions = options.max_positions != 0 ? options.max_positions : shape.context_length;
  return attention;
}

size_t widest_input(const ModelShape& shape) { return std::max(shape.d_model, shape.d_q()); }

}  // namespace

Result<Workspace> Workspace::make(const ModelShape& shape, const Options& options, int n_threads) {
  CHECK(options.max_tokens > 0);
  const size_t n = options.max_tokens;
  Workspace w;
  w.options_ = options;
  ASSIGN_OR_RETURN(w.x_, AlignedBuffer<float>::make(n * shape.d_model));
  ASSIGN_OR_RETURN(w.normed_, AlignedBuffer<float>::make(n * shape.d_model));
  ASSIGN_OR_RETURN(w.q_, AlignedBuffer<float>::make(n * shape.d_q()));
  ASSIGN_OR_RETURN(w.k_, AlignedBuffer<float>::make(n * shape.d_kv()));
  ASSIGN_OR_RETURN(w.v_, AlignedBuffer<float>::make(n * shape.d_kv()));
  ASSIGN_OR_RETURN(w.mixed_, AlignedBuffer<float>::make(n * shape.d_q()));
  ASSIGN_OR_RETURN(w.greedy_, GreedyHead::make(n, n_threads));
  ASSIGN_OR_RETURN(w.gated_, GatedUnits::make(n, shape.d_ff, n_threads));
  ASSIGN_OR_RETURN(w.activations_, Activations::make(n, widest_input(shape)));
  ASSIGN_OR_RETURN(w.rope_, RopeTable::make(n, shape.d_head, shape.rope_theta));
  ASSIGN_OR_RETURN(w.attention_, AttentionScratch::make(attention_options(shape, options, n_threads)));
  ASSIGN_OR_RETURN(w.features_, AlignedBuffer<float>::make(n * kMaxFeatures));
  ASSIGN_OR_RETURN(w.delta_, AlignedBuffer<float>::make(shape.d_model));
  w.sequences_.reserve(n);
  w.adapted_.reserve(n);
  return w;
}

uint64_t Workspace::bytes_needed(const ModelShape& shape, const Options& options, int n_threads) {
  const uint64_t row_floats =
      2 * shape.d_model + kMaxFeatures + 2 * shape.d_q() + 2 * shape.d_kv() + shape.d_head;
  const uint64_t row_bytes =
      row_floats * sizeof(float) + Activations::bytes_per_value() * widest_input(shape);
  return options.max_tokens * row_bytes + GreedyHead::bytes_needed(options.max_tokens, n_threads) +
         GatedUnits::bytes_needed(options.max_tokens, shape.d_ff, n_threads) +
         AttentionScratch::bytes_needed(attention_options(shape, options, n_threads));
}

// One step. Rows: n = in.n_tokens().
class Forward {
 public:
  Forward(const Ctx& ctx, const Weights& weights, KvPool& kv, Workspace& ws, const StepInput& in,
          const StepOutput& out)
      : ctx_(ctx),
        weights_(weights),
        shape_(weights.shape),
        kv_(kv),
        ws_(ws),
        in_(in),
        out_(out),
        n_(in.n_tokens()) {}

  void run() {
    check_step();
    embed();
    ws_.rope_.set_positions(in_.positions);
    const size_t n_layers =
        in_.stop_after_layer >= 0 ? static_cast<size_t>(in_.stop_after_layer) + 1 : shape_.n_layers;
    for (size_t layer = 0; layer < n_layers; ++layer) {
      attention_block(layer, weights_.layers[layer]);
      feed_forward_block(weights_.layers[layer]);
      tap(layer);
      adapter_taps(layer);
    }
    if (in_.stop_after_layer < 0) output();
  }

 private:
  // x = E[token]
  void embed() {
    ctx_.pool->parallel_for(
        n_, [&](size_t t, int) { weights_.token_embd.decode_row(static_cast<size_t>(in_.tokens[t]), x(t)); });
  }

  // x += W_o attention(rope(W_q h + b_q), rope(W_k h + b_k), W_v h + b_v),  h = norm(x)
  void attention_block(size_t layer, const LayerWeights& w) {
    float* q = ws_.q_.data();          // (n, d_q)
    float* k = ws_.k_.data();          // (n, d_kv)
    float* v = ws_.v_.data();          // (n, d_kv)
    float* mixed = ws_.mixed_.data();  // (n, d_q)
    const KvLayerView cache = kv_.layer(layer);

    normalise(w.attn_norm, {&w.attn_q, &w.attn_k, &w.attn_v});
    project_qkv(ctx_, ws_.activations_,
                {&w.attn_q, &w.attn_k, &w.attn_v, w.q_bias.data(), w.k_bias.data(), w.v_bias.data()},
                ws_.rope_, cache, in_.kv_slots, q, k, v, ws_.options_.exact);
    attention(ctx_, cache, ws_.sequences_, in_.positions, q, shape_.n_heads, mixed, ws_.attention_);
    ws_.activations_.set(mixed, n_, shape_.d_q());
    add_product(w.attn_output, ws_.activations_);
  }

  // x += W_down (silu(W_gate h) * W_up h),  h = norm(x)
  void feed_forward_block(const LayerWeights& w) {
    normalise(w.ffn_norm, {&w.ffn_gate, &w.ffn_up});
    Activations& gated = ws_.gated_.compute(ctx_, ws_.activations_, w.ffn_gate, w.ffn_up,
                                            format_for(w.ffn_down), ws_.options_.exact);
    add_product(w.ffn_down, gated);
  }

  // What the wanted rows are wanted for: their normalised hidden state, or the output matrix times it.
  void output() {
    normalise_wanted(RowOutput::kHidden, out_.hidden.data());
    const bool exact = ws_.options_.exact;
    float* head_in = ws_.normed_.data();  // (wanted rows, d_model)
    if (const size_t n = normalise_wanted(RowOutput::kLogits, head_in); n > 0) {
      ws_.activations_.set(head_in, n, shape_.d_model);
      const MatmulTask head[] = {
          {.w = &weights_.head(), .y = out_.logits.data(), .y_stride = shape_.n_logits()}};
      matmul(ctx_, ws_.activations_, head, exact);
    }
    if (const size_t n = normalise_wanted(RowOutput::kBest, head_in); n > 0) {
      ws_.activations_.set(head_in, n, shape_.d_model);
      ws_.greedy_.compute(ctx_, ws_.activations_, weights_.head(), in_.never_best, out_.best.first(n), exact);
    }
  }

  // norm(x) of the rows wanted in this form, packed; their number.
  size_t normalise_wanted(RowOutput form, float* to) {
    size_t n = 0;
    for (size_t t = 0; t < n_; ++t) {
      if (in_.rows_wanted[t] != form) continue;
      ctx_.kernels->rows.rms_norm(x(t), weights_.output_norm.data(), shape_.rms_eps, to + n * shape_.d_model,
                                  shape_.d_model);
      ++n;
    }
    adapt(form, to);
    return n;
  }

  // phi of adapted rows, block by block: rank numbers leave a layer.
  void adapter_taps(size_t layer) {
    if (ws_.adapted_.empty()) return;
    ctx_.pool->parallel_for(ws_.adapted_.size(), [&](size_t i, int) {
      const size_t t = ws_.adapted_[i];
      const FeatureView& view = adapter_of(t)->features;
      for (size_t tap = 0; tap < view.n_taps; ++tap) {
        if (view.layers[tap] == static_cast<int>(layer))
          tap_features(view, tap, x(t), features(t) + tap * view.rank);
      }
    });
  }

  // h += delta for the adapted rows among those wanted in this form, which stand packed in `to`.
  void adapt(RowOutput form, float* to) {
    if (ws_.adapted_.empty()) return;
    size_t n = 0;
    for (size_t t = 0; t < n_; ++t) {
      if (in_.rows_wanted[t] != form) continue;
      float* h = to + n++ * shape_.d_model;
      const AdapterView* adapter = adapter_of(t);
      if (adapter == nullptr) continue;
      features(t)[adapter->features.n_features() - 1] = 1;
      float* delta = ws_.delta_.data();
      adapter_delta(*adapter, features(t), h, delta);
      for (size_t i = 0; i < shape_.d_model; ++i) h[i] += delta[i];
    }
  }

  // Null where there is nothing to add: an adapter of zeros leaves the very bits.
  const AdapterView* adapter_of(size_t t) const {
    const AdapterView* adapter = in_.sequences[static_cast<size_t>(in_.seq_of[t])].adapter;
    return adapter == nullptr || adapter->is_zero() ? nullptr : adapter;
  }
  float* features(size_t t) { return ws_.features_.data() + t * kMaxFeatures; }

  void tap(size_t layer) {
    const auto found = std::find(in_.tap_layers.begin(), in_.tap_layers.end(), static_cast<int>(layer));
    if (found == in_.tap_layers.end()) return;
    const auto index = static_cast<size_t>(found - in_.tap_layers.begin());
    float* to = out_.taps.data() + index * n_tapped_ * shape_.d_model;
    if (!in_.tap_wanted_rows) {
      std::copy_n(ws_.x_.data(), n_ * shape_.d_model, to);
      return;
    }
    for (size_t t = 0; t < n_; ++t) {
      if (in_.rows_wanted[t] != RowOutput::kNone) to = std::copy_n(x(t), shape_.d_model, to);
    }
  }

  ActivationFormat format_for(const PackedMatrix& w) const {
    return activation_format(w.type(), ws_.options_.exact);
  }
  // The input of the next products: norm(x), (n, d_model), quantised for each of them.
  void normalise(const AlignedBuffer<float>& weight, std::initializer_list<const PackedMatrix*> products) {
    ActivationFormats formats;
    for (const PackedMatrix* w : products) formats.add(format_for(*w));
    ws_.activations_.fill(ctx_, ws_.normed_.data(), n_, shape_.d_model, formats, [&](size_t t) {
      ctx_.kernels->rows.rms_norm(x(t), weight.data(), shape_.rms_eps,
                                  ws_.normed_.data() + t * shape_.d_model, shape_.d_model);
    });
  }
  // x += w input
  void add_product(const PackedMatrix& w, Activations& input) {
    const MatmulTask task[] = {{.w = &w, .accumulate = true, .y = ws_.x_.data(), .y_stride = shape_.d_model}};
    matmul(ctx_, input, task, ws_.options_.exact);
  }

  float* x(size_t t) { return ws_.x_.data() + t * shape_.d_model; }

  // Splits the rows by sequence, and holds the caller to the requirements of StepInput.
  void check_step() {
    CHECK(n_ <= ws_.options_.max_tokens);
    CHECK(in_.positions.size() == n_ && in_.seq_of.size() == n_ && in_.kv_slots.size() == n_ &&
          in_.rows_wanted.size() == n_);
    ws_.sequences_.clear();
    ws_.adapted_.clear();
    size_t n_logits = 0;
    size_t n_hidden = 0;
    size_t n_best = 0;
    for (size_t t = 0; t < n_; ++t) {
      CHECK(in_.tokens[t] >= 0 && static_cast<size_t>(in_.tokens[t]) < shape_.n_vocab);
      const bool continues = t > 0 && in_.seq_of[t] == in_.seq_of[t - 1];
      const auto& pages = in_.sequences[static_cast<size_t>(in_.seq_of[t])].pages;
      CHECK(in_.positions[t] >= 0 && static_cast<size_t>(in_.positions[t]) < pages.size() * kPageTokens);
      CHECK(!continues || in_.positions[t] > in_.positions[t - 1]);
      if (!continues) ws_.sequences_.push_back({t, 0, pages});
      ++ws_.sequences_.back().n_rows;
      if (in_.rows_wanted[t] != RowOutput::kNone && adapter_of(t) != nullptr) {
        CHECK(adapter_of(t)->features.d_model == shape_.d_model);
        CHECK(adapter_of(t)->features.n_features() <= kMaxFeatures);
        ws_.adapted_.push_back(t);
      }
      n_logits += in_.rows_wanted[t] == RowOutput::kLogits;
      n_hidden += in_.rows_wanted[t] == RowOutput::kHidden;
      n_best += in_.rows_wanted[t] == RowOutput::kBest;
    }
    CHECK(out_.best.size() >= n_best);
    CHECK(out_.logits.size() >= n_logits * shape_.n_logits() &&
          out_.hidden.size() >= n_hidden * shape_.d_model);
    n_tapped_ = in_.tap_wanted_rows ? n_logits + n_hidden + n_best : n_;
    CHECK(out_.taps.size() >= in_.tap_layers.size() * n_tapped_ * shape_.d_model);
    CHECK(in_.stop_after_layer < static_cast<int>(shape_.n_layers));
    CHECK(in_.stop_after_layer < 0 || n_logits + n_hidden + n_best == 0);
  }

  const Ctx& ctx_;
  const Weights& weights_;
  const ModelShape& shape_;
  KvPool& kv_;
  Workspace& ws_;
  const StepInput& in_;
  const StepOutput& out_;
  const size_t n_;
  size_t n_tapped_ = 0;  // rows a tap copies
};

void forward(const Ctx& ctx, const Weights& weights, KvPool& kv, Workspace& workspace, const StepInput& in,
             const StepOutput& out) {
  Forward(ctx, weights, kv, workspace, in, out).run();
}

}  // namespace ruvltra
