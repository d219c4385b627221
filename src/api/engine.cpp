#include "ruvltra/engine.h"

#include <list>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "api/model_parts.h"
#include "base/fail.h"
#include "ruvltra/constraint.h"
#include "text/stream_text.h"

namespace ruvltra {

namespace {

// What an answer is recorded under, where the request does not say.
std::string task_of(const Prompt& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) return *text;
  const auto* messages = std::get_if<std::vector<ChatMessage>>(&prompt);
  return messages == nullptr || messages->empty() ? std::string() : messages->back().content;
}

}  // namespace

// Turns tokens into text on the reader's side: the loop only counts and compares.
struct Stream::Impl {
  EngineLoop* loop;
  const Tokenizer* tokenizer;
  EngineLoop::Ticket ticket;
  bool keeps_logprobs;
  std::vector<Generation> generations;  // (n)
  std::vector<StreamText> texts;        // (n)
  StreamItem item;

  ~Impl() {
    if (!ticket.stream->drained()) loop->cancel(ticket.id);
  }

  std::optional<Event> take(std::optional<TokenStream::Clock::time_point> deadline) {
    if (!ticket.stream->take(item, deadline)) return std::nullopt;
    return item.outcome ? end_of_answer() : next_token();
  }

  Event next_token() {
    const auto choice = static_cast<size_t>(item.choice);
    const TokenId token = item.token.token;
    Generation& generation = generations[choice];
    generation.tokens.push_back(token);
    if (keeps_logprobs) generation.logprobs.push_back(item.token);
    Event event{.choice = item.choice, .token = std::move(item.token), .text = {}, .generation = nullptr};
    if (!tokenizer->ends_generation(token) && tokenizer->kind(token) != TokenKind::kControl)
      event.text = texts[choice].push(tokenizer->bytes(token));
    generation.text += event.text;
    return event;
  }

  Event end_of_answer() {
    const auto choice = static_cast<size_t>(item.choice);
    Generation& generation = generations[choice];
    generation.finish_reason = item.outcome->reason;
    generation.n_cached = item.outcome->n_cached;
    generation.n_drafted = item.outcome->n_drafted;
    generation.n_accepted = item.outcome->n_accepted;
    generation.timings = item.outcome->timings;
    generation.error = std::move(item.outcome->error);
    Event event{
        .choice = item.choice, .token = {}, .text = texts[choice].finish(), .generation = &generation};
    generation.text += event.text;
    return event;
  }
};

Stream::Stream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

RequestId Stream::id() const { return impl_->ticket.id; }
uint64_t Stream::seed() const { return impl_->ticket.seed; }
std::optional<Event> Stream::next() { return impl_->take(std::nullopt); }
std::optional<Event> Stream::poll() { return impl_->take(TokenStream::Clock::now()); }
bool Stream::finished() const { return impl_->ticket.stream->drained(); }
void Stream::cancel() { impl_->loop->cancel(impl_->ticket.id); }
PromptProgress Stream::prompt_progress() const {
  return {.n_done = impl_->ticket.stream->n_prompt_done(), .n_total = impl_->ticket.n_prompt};
}
std::span<const Generation> Stream::generations() const { return impl_->generations; }

std::vector<Generation> Stream::wait() {
  while (next()) {
  }
  return impl_->generations;
}

struct Engine::Impl {
  // A thread that carries one request's events to its sink.
  struct Carrier {
    std::thread thread;
    bool done = false;
  };

  ModelParts& parts;
  std::mutex mutex;
  std::list<Carrier> carriers;

  explicit Impl(ModelParts& model_parts) : parts(model_parts) {}

  ~Impl() {
    parts.loop->stop();
    for (Carrier& carrier : carriers) carrier.thread.join();
  }

  // Joins the threads that have nothing left to do. *Requires*: the mutex is held.
  void sweep() {
    for (auto carrier = carriers.begin(); carrier != carriers.end();) {
      if (carrier->done) {
        carrier->thread.join();
        carrier = carriers.erase(carrier);
      } else {
        ++carrier;
      }
    }
  }

  void carry(Carrier& carrier, Stream& stream, const Sink& sink) {
    bool wanted = true;
    while (const auto event = stream.next()) {
      if (!wanted && event->generation == nullptr) continue;
      if (sink(*event) || !wanted) continue;
      wanted = false;
      stream.cancel();
    }
    const std::lock_guard lock(mutex);
    carrier.done = true;
  }
};

Engine::Engine(ModelParts& parts) : impl_(std::make_unique<Impl>(parts)) {}
Engine::~Engine() = default;

Result<Stream> Engine::stream(Request request, std::function<void()> on_ready) {
  ModelParts& parts = impl_->parts;
  if (parts.loop->observed() && request.treatment.task.empty())
    request.treatment.task = task_of(request.prompt);
  ASSIGN_OR_RETURN(PinnedGeneration adapter, parts.adapters.pin(request.treatment, request.adapter));
  ASSIGN_OR_RETURN(auto tokens, parts.tokens_of(std::move(request.prompt)));
  EngineLoop::PinnedGrammar grammar = request.constraint ? request.constraint->grammar_ : nullptr;
  ASSIGN_OR_RETURN(EngineLoop::Ticket ticket,
                   parts.loop->submit(std::move(tokens), request.params, request.treatment,
                                      std::move(on_ready), std::move(adapter.view), std::move(grammar)));
  const auto n = static_cast<size_t>(request.params.n);
  Generation empty;
  empty.id = ticket.id;
  empty.seed = ticket.seed;
  empty.n_prompt = ticket.n_prompt;
  empty.adapter_generation = adapter.number;
  empty.adapter_hash = std::move(adapter.hash);
  return Stream(std::unique_ptr<Stream::Impl>(
      new Stream::Impl{.loop = parts.loop.get(),
                       .tokenizer = &parts.tokenizer,
                       .ticket = std::move(ticket),
                       .keeps_logprobs = request.params.n_logprobs > 0,
                       .generations = std::vector<Generation>(n, empty),
                       .texts = std::vector<StreamText>(n, StreamText(request.params.stop)),
                       .item = {}}));
}

Result<RequestId> Engine::submit(Request request, Sink sink) {
  ASSIGN_OR_RETURN(Stream events, stream(std::move(request)));
  const RequestId id = events.id();
  const std::lock_guard lock(impl_->mutex);
  impl_->sweep();
  Impl::Carrier& carrier = impl_->carriers.emplace_back();
  try {
    carrier.thread = std::thread([impl = impl_.get(), &carrier, reader = std::move(events),
                                  to = std::move(sink)]() mutable { impl->carry(carrier, reader, to); });
  } catch (const std::system_error& error) {
    impl_->carriers.pop_back();
    return fail(ErrorKind::kMemory, "engine.no_thread", "a thread for the sink: the system gave none: {}",
                error.what());
  }
  return id;
}

void Engine::cancel(RequestId id) { impl_->parts.loop->cancel(id); }
EngineStats Engine::stats() const { return impl_->parts.loop->stats(); }

}  // namespace ruvltra
