// What the loop tells an observer: taps of the rows that tokens were drawn from.
#include <algorithm>
#include <new>
#include <utility>

#include "engine/engine_loop.h"
#include "model/hook_sum.h"

namespace ruvltra {

Result<void> EngineLoop::observe(std::shared_ptr<RequestObserver> observer, std::vector<int> layers) {
  Result<void> tapped;
  RETURN_IF_ERROR(between_steps([&](Runner& runner) {
    if (observer) tapped = runner.set_tap_layers(layers);
    return true;
  }));
  RETURN_IF_ERROR(tapped);
  const std::lock_guard lock(inbox_->mutex);
  observed_.store(observer != nullptr, std::memory_order_relaxed);
  inbox_->observer = std::move(observer);
  inbox_->hook_layers = std::move(layers);
  return {};
}

// Memory for the whole answer is taken here: a step allocates nothing.
std::unique_ptr<EngineLoop::Watch> EngineLoop::watch_for(const GenerateParams& params,
                                                         const Treatment& treatment,
                                                         std::span<const TokenId> prompt) const {
  auto watch = std::make_unique<Watch>();
  {
    const std::lock_guard lock(inbox_->mutex);
    watch->observer = inbox_->observer;
    watch->layers = inbox_->hook_layers;
  }
  if (!watch->observer || !treatment.record || !watch->observer->wants(treatment)) return nullptr;
  watch->tenant = treatment.tenant;
  watch->session = treatment.session;
  watch->task = treatment.task;
  watch->prompt.assign(prompt.begin(), prompt.end());
  const size_t n_values = watch->layers.size() * runner_.weights().shape.d_model;
  const size_t n_longest =
      std::min(options_.steps.max_positions - prompt.size(), static_cast<size_t>(params.max_tokens));
  watch->answers.resize(static_cast<size_t>(params.n));
  for (Watched& answer : watch->answers) {
    answer.sum.resize(n_values);
    answer.output.reserve(n_longest);
  }
  return watch;
}

// Each drawn token has one row, whatever the batch, the chunks and the drafts: the sums run over an answer's
// own tokens in order. Called before the token is appended. The prompt's rows are not summed: they may come
// from the prefix cache.
void EngineLoop::watch_row(Active& active, const Sequence& sequence, size_t row, TokenId token) {
  Watch& watch = *active.watch;
  if (!std::equal(watch.layers.begin(), watch.layers.end(), runner_.tap_layers().begin(),
                  runner_.tap_layers().end())) {
    active.watch = nullptr;  // the hooks moved meanwhile
    return;
  }
  Watched& answer = watch.answers[sequence.choice];
  const size_t d_model = runner_.weights().shape.d_model;
  const auto eps = static_cast<double>(runner_.weights().shape.rms_eps);
  answer.output.push_back(token);
  if (sequence.n_output() == 0) return;  // drawn from the prompt's last row
  for (size_t l = 0; l < watch.layers.size(); ++l) {
    add_normalised(runner_.tap(l, row), eps, std::span(answer.sum).subspan(l * d_model, d_model));
  }
  ++answer.n_summed;
}

void EngineLoop::tell_observer(Active& active, size_t choice, FinishReason reason) try {
  Watch& watch = *active.watch;
  Watched& answer = watch.answers[choice];
  AnsweredRequest told{.id = active.id,
                       .choice = static_cast<int>(choice),
                       .tenant = watch.tenant,
                       .session = watch.session,
                       .task = watch.task,
                       .prompt = watch.prompt,
                       .output = std::move(answer.output),
                       .reason = reason,
                       .hooks = {.layers = watch.layers,
                                 .d_model = runner_.weights().shape.d_model,
                                 .mean = std::vector<float>(answer.sum.size()),
                                 .n_tokens = answer.n_summed}};
  for (size_t i = 0; i < answer.sum.size() && answer.n_summed > 0; ++i)
    told.hooks.mean[i] = static_cast<float>(answer.sum[i] / static_cast<double>(answer.n_summed));
  watch.observer->answered(std::move(told));
} catch (const std::bad_alloc&) {
  // Not told: observing never fails an answer.
}

}  // namespace ruvltra
