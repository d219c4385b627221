#include "server/answer.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <new>
#include <utility>

#include "base/fail.h"
#include "base/utf8.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxBacklogBytes = 256 << 10;  // a client that is further behind pauses its answer
constexpr size_t kMaxLogprobs = 1'000'000;      // in one answer: some 400 MB while it is put together
// Tokens that come faster are sent a few at a time: waking up and writing costs some 40 us, a sixth of the
// time a small model takes for a token.
constexpr double kGatherSeconds = 0.001;
constexpr double kQueueSeconds = 1;        // between two looks at one that waits
constexpr double kProgressSeconds = 0.05;  // between two looks at a prompt's progress

// All its functions but the engine's wake-up run on the server's thread.
class Answer : public std::enable_shared_from_this<Answer> {
 public:
  Answer(Call& call, AnswerOrder order, std::unique_ptr<Presenter> presenter)
      : service_(call.service),
        exchange_(call.exchange),
        shape_(call.shape),
        order_(std::move(order)),
        presenter_(std::move(presenter)),
        running_(std::make_shared<Running>()) {
    running_->route = call.route;
    running_->tenant = call.caller.tenant;
    running_->n_prompts = order_.requests.size();
    running_->preview = order_.preview;
    running_->begin = Clock::now();
  }

  Result<void> submit(MediumModel& model);
  void start();

 private:
  void wake() {
    if (!awake_.exchange(true)) exchange_->post([self = shared_from_this()] { self->pump_soon(); });
  }
  void pump_soon();
  void pump_now();
  void pump();
  void take(size_t prompt, const Event& event, std::string& out);
  void look_at_progress();
  void look_at_queue();
  void send(std::string bytes);
  void finish();
  void fail_with(const Error& error);
  void stop();
  size_t n_per_prompt() const { return static_cast<size_t>(order_.requests.front().params.n); }

  Service& service_;
  const std::shared_ptr<Exchange> exchange_;
  const ErrorShape shape_;
  AnswerOrder order_;
  const std::unique_ptr<Presenter> presenter_;
  const std::shared_ptr<Running> running_;
  std::vector<Stream> streams_;
  std::vector<TokenPace> paces_;         // by choice
  std::vector<Generation> generations_;  // by choice, where it has ended
  Usage usage_;
  std::atomic<bool> awake_ = false;
  Clock::time_point last_pump_ = {};
  size_t n_ended_ = 0;
  size_t n_logprobs_ = 0;
  size_t n_told_ = 0;  // prompt tokens a progress piece told of
  // The engine may call before submit() is through: until then there is nothing to look at.
  bool started_ = false;
  bool has_tokens_ = false, over_ = false;
};

Result<void> Answer::submit(MediumModel& model) {
  for (Request& request : order_.requests) {
    request.treatment.timeout_seconds = service_.options().request_seconds;
    ASSIGN_OR_RETURN(Stream stream, model.engine().stream(request, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->wake();
    }));
    streams_.push_back(std::move(stream));
  }
  const size_t n_choices = order_.requests.size() * n_per_prompt();
  paces_.resize(n_choices);
  generations_.resize(n_choices);
  running_->id = service_.response_id(order_.id_prefix, streams_.front().id());
  for (const Stream& stream : streams_) running_->n_prompt += stream.prompt_progress().n_total;
  presenter_->begin(streams_);
  return {};
}

void Answer::start() {
  running_->cancel = [weak = weak_from_this()] {
    if (const auto self = weak.lock())
      self->exchange_->post([self] {
        for (Stream& stream : self->streams_) stream.cancel();
      });
  };
  service_.add(running_);
  exchange_->post([self = shared_from_this()] {
    self->started_ = true;
    self->exchange_->when_closed([self] { self->stop(); });
    if (self->over_) return;
    if (self->order_.with_progress) self->look_at_progress();
    self->look_at_queue();
    self->pump();
  });
}

void Answer::pump_soon() {
  const double since = std::chrono::duration<double>(Clock::now() - last_pump_).count();
  if (since >= kGatherSeconds) return pump_now();
  exchange_->after(kGatherSeconds - since, [self = shared_from_this()] { self->pump_now(); });
}

void Answer::pump_now() {
  awake_ = false;
  last_pump_ = Clock::now();
  try {
    pump();
  } catch (const std::bad_alloc&) {
    fail_with({ErrorKind::kMemory, "memory.exhausted", "no memory is left for this answer"});
  }
}

void Answer::pump() {
  if (!started_ || over_) return;
  std::string out;
  for (size_t prompt = 0; prompt < streams_.size(); ++prompt) {
    while (exchange_->backlog() + out.size() < kMaxBacklogBytes) {
      const std::optional<Event> event = streams_[prompt].poll();
      if (!event) break;
      take(prompt, *event, out);
      if (over_) return;
    }
  }
  const auto now = Clock::now();
  for (TokenPace& pace : paces_) service_.measures().between_tokens(pace.look(now));
  send(std::move(out));
  if (n_ended_ == generations_.size()) return finish();
  if (exchange_->backlog() >= kMaxBacklogBytes)
    exchange_->when_drained([self = shared_from_this()] { self->wake(); });
}

void Answer::take(size_t prompt, const Event& event, std::string& out) {
  const size_t choice = prompt * n_per_prompt() + static_cast<size_t>(event.choice);
  const auto now = Clock::now();
  if (event.token) {
    paces_[choice].token();
    if (!has_tokens_) {
      has_tokens_ = true;
      service_.measures().first_token(std::chrono::duration<double>(now - running_->begin).count());
      running_->n_prompt_done = running_->n_prompt.load();
    }
    ++running_->n_generated;
    if (order_.requests.front().params.n_logprobs > 0) n_logprobs_ += 1 + event.token->top.size();
    if (n_logprobs_ > kMaxLogprobs && !order_.streamed) {
      return fail_with(
          {ErrorKind::kUsage, "request.field",
           fmt::format("logprobs: expected at most {} in an answer that is not streamed", kMaxLogprobs)});
    }
  }
  if (event.generation != nullptr) {
    const Generation& generation = *event.generation;
    if (generation.finish_reason == FinishReason::kFailed ||
        generation.finish_reason == FinishReason::kCancelled) {
      return fail_with(generation.error.value_or(
          Error{ErrorKind::kCancelled, "request.cancelled", "the request was cancelled"}));
    }
    ++n_ended_;
    usage_.n_completion += generation.tokens.size();
    usage_.n_drafted += generation.n_drafted;
    usage_.n_accepted += generation.n_accepted;
    if (event.choice == 0) {
      usage_.n_prompt += generation.n_prompt;
      usage_.n_cached += generation.n_cached;
    }
    service_.measures().answered(finish_reason_name(generation.finish_reason),
                                 std::chrono::duration<double>(now - running_->begin).count(),
                                 generation.timings);
    generations_[choice] = generation;
  }
  if (order_.streamed) out += presenter_->piece(choice, event);
}

void Answer::send(std::string bytes) {
  if (!order_.streamed || bytes.empty()) return;
  if (!exchange_->begun()) {
    exchange_->begin({.content_type = presenter_->content_type(),
                      .headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}});
    exchange_->keep_awake(std::string(presenter_->ping()), service_.options().ping_seconds);
    exchange_->write(presenter_->opening());
  }
  exchange_->write(std::move(bytes));
}

void Answer::look_at_progress() {
  if (over_ || has_tokens_) return;
  PromptProgress all;
  for (const Stream& stream : streams_) {
    const PromptProgress one = stream.prompt_progress();
    all.n_done += one.n_done;
    all.n_total += one.n_total;
  }
  running_->n_prompt_done = all.n_done;
  if (all.n_done != n_told_) {
    n_told_ = all.n_done;
    send(presenter_->progress(all));
  }
  exchange_->after(kProgressSeconds, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->look_at_progress();
  });
}

// Again and again, as a timer of the whole time would outlive the answer, and hold its memory.
void Answer::look_at_queue() {
  if (over_ || has_tokens_) return;
  for (const Stream& stream : streams_)
    if (stream.prompt_progress().n_done > 0) return;
  const double limit = service_.options().queue_seconds;
  const double waited = std::chrono::duration<double>(Clock::now() - running_->begin).count();
  if (waited >= limit) {
    return fail_with({ErrorKind::kBusy, "queue_timeout",
                      fmt::format("the request waited for {} s without being begun", limit)});
  }
  exchange_->after(std::min(kQueueSeconds, limit - waited), [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->look_at_queue();
  });
}

void Answer::finish() {
  if (order_.streamed) {
    send(presenter_->closing(usage_));
    exchange_->end();
  } else {
    auto response = presenter_->whole(generations_, usage_);
    exchange_->respond(response ? std::move(*response) : to_response(response.error(), shape_));
  }
  stop();
}

void Answer::fail_with(const Error& error) {
  if (exchange_->begun()) {
    exchange_->write(presenter_->failure(error));
    exchange_->end();
  } else {
    HttpResponse response = to_response(error, shape_);
    if (response.status == 503) {
      service_.measures().rejected(error.id);
      response.headers.push_back({"Retry-After", "1"});
    }
    exchange_->respond(std::move(response));
  }
  stop();
}

// Whatever is still running is cancelled; the engine forgets it after its present step.
void Answer::stop() {
  if (std::exchange(over_, true)) return;
  service_.remove(running_);
  streams_.clear();
}

}  // namespace

Handled answer(Call& call, AnswerOrder order, std::unique_ptr<Presenter> presenter) {
  const auto& limits = call.service.options();
  if (!limits.keys.empty() &&
      call.service.n_running(call.caller.tenant) + order.requests.size() > limits.max_per_tenant) {
    return fail(ErrorKind::kBusy, "rate_limit", "expected at most {} requests of one tenant at a time",
                limits.max_per_tenant);
  }
  const auto job = std::make_shared<Answer>(call, std::move(order), std::move(presenter));
  RETURN_IF_ERROR(job->submit(call.model()));
  job->start();
  return std::nullopt;
}

std::string_view finish_reason(const Generation& generation) {
  return generation.finish_reason == FinishReason::kStop ? "stop" : "length";
}

std::string preview_of(std::string_view text) {
  constexpr size_t kMaxBytes = 80;
  return utf8_replace_invalid(utf8_cut(text, kMaxBytes));
}

Json timings_json(const Generation& generation) {
  const Timings& timings = generation.timings;
  const size_t n_computed = generation.n_prompt - std::min(generation.n_cached, generation.n_prompt);
  const auto n_predicted = generation.tokens.size();
  const auto per = [](double seconds, size_t n) {
    return n == 0 ? Json() : Json(1000 * seconds / static_cast<double>(n));
  };
  const auto rate = [](double seconds, size_t n) {
    return seconds <= 0 ? Json() : Json(static_cast<double>(n) / seconds);
  };
  return {{"cache_n", generation.n_cached},
          {"prompt_n", n_computed},
          {"prompt_ms", 1000 * timings.prompt_seconds},
          {"prompt_per_token_ms", per(timings.prompt_seconds, n_computed)},
          {"prompt_per_second", rate(timings.prompt_seconds, n_computed)},
          {"predicted_n", n_predicted},
          {"predicted_ms", 1000 * timings.generate_seconds},
          {"predicted_per_token_ms", per(timings.generate_seconds, n_predicted)},
          {"predicted_per_second", rate(timings.generate_seconds, n_predicted)},
          {"draft_n", generation.n_drafted},
          {"draft_n_accepted", generation.n_accepted},
          {"queue_ms", 1000 * timings.queue_seconds},
          {"ttft_ms", 1000 * timings.first_token_seconds}};
}

Json usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.n_prompt},
          {"completion_tokens", usage.n_completion},
          {"total_tokens", usage.n_prompt + usage.n_completion},
          {"prompt_tokens_details", {{"cached_tokens", usage.n_cached}}},
          {"completion_tokens_details", {{"accepted_prediction_tokens", usage.n_accepted}}}};
}

}  // namespace ruvltra
