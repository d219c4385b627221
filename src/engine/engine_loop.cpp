#include "engine/engine_loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/fail.h"

namespace ruvltra {
namespace {

using std::chrono::duration;

constexpr int kMaxChoices = 16;
constexpr double kMaxTimeoutSeconds = 1e6;

double seconds_between(TokenStream::Clock::time_point begin, TokenStream::Clock::time_point end) {
  return duration<double>(end - begin).count();
}

SchedulerOptions scheduler_options(const EngineLoop::Options& options) {
  SchedulerOptions out;
  out.n_pages = options.steps.n_pages;
  out.max_running = options.steps.max_parts;
  out.max_waiting = options.steps.max_parts + options.max_queued;
  out.max_step_rows = options.steps.max_rows;
  out.max_draft_rows = EngineLoop::kMaxDraftRows;
  out.max_step_ms = options.max_step_ms;
  return out;
}

// Tenants are told apart by their names' digests.
TenantId tenant_id(std::string_view tenant) {
  PrefixSpace space;
  space.tenant_salt = tenant;
  const Sha256Digest digest = prefix_root(space);
  TenantId id;
  std::memcpy(&id, digest.data(), sizeof id);
  return id >> 1;
}

template <class... Args>
tl::unexpected<Error> refuse(std::string_view id, fmt::format_string<Args...> format, Args&&... args) {
  return fail(ErrorKind::kUsage, id, format, std::forward<Args>(args)...);
}

tl::unexpected<Error> stopped() {
  return fail(ErrorKind::kBusy, "engine.stopped", "engine: expected a running one, it is shutting down");
}

}  // namespace

void EngineLoop::Inbox::ring() {
  {
    const std::lock_guard lock(mutex);
    has_news = true;
  }
  news.notify_one();
}

EngineLoop::EngineLoop(Runner runner, std::optional<DraftModel> draft, const Tokenizer& tokenizer,
                       const Options& options, std::vector<TokenId> unused)
    : options_(options),
      tokenizer_(&tokenizer),
      unused_(std::move(unused)),
      runner_(std::move(runner)),
      scheduler_(scheduler_options(options)),
      draft_(std::move(draft)),
      weight_bytes_per_step_(runner_.weights().bytes_per_token()) {
  ended_.reserve(options.steps.max_parts + options.max_queued);
  now_.n_pages = options.steps.n_pages;
  now_.page_bytes = KvPool::page_bytes(runner_.weights().shape, options.steps.kv_type);
  if (options.speculation) speculator_.emplace(*options.speculation, draft_ ? &*draft_ : nullptr);
  asks_.reserve(options.steps.max_parts);
  publish_stats();
  thread_ = std::thread([this] { run(); });
}

Result<std::unique_ptr<EngineLoop>> EngineLoop::start(const Ctx& ctx, const Weights& weights,
                                                      const Tokenizer& tokenizer, const Options& options) {
  std::vector<TokenId> unused = unused_tokens(tokenizer, weights.shape.n_vocab);
  if (unused.size() == weights.shape.n_vocab) {
    return fail("sampler.no_token", "vocabulary of {}: expected a token that may be generated, found none",
                weights.shape.n_vocab);
  }
  Runner::Options steps = options.steps;
  steps.max_wanted = max_wanted_rows(options);
  ASSIGN_OR_RETURN(Runner runner, Runner::make(ctx, weights, steps));
  std::optional<DraftModel> draft;
  if (options.draft != nullptr) {
    DraftModel::Options settings = draft_options(options, options.draft->shape);
    settings.n_target_vocab = weights.shape.n_vocab;
    ASSIGN_OR_RETURN(draft, DraftModel::make(ctx, *options.draft, unused, settings));
  }
  return std::unique_ptr<EngineLoop>(
      new EngineLoop(std::move(runner), std::move(draft), tokenizer, options, std::move(unused)));
}

size_t EngineLoop::max_wanted_rows(const Options& options) {
  return options.steps.max_parts + (options.speculation ? kMaxDraftRows : 0);
}

DraftModel::Options EngineLoop::draft_options(const Options& options, const ModelShape& draft) {
  DraftModel::Options out;
  out.max_sequences = options.steps.max_parts;
  out.max_positions =
      std::max(std::min(options.steps.max_positions, draft.context_length), DraftModel::kLeastPositions);
  // A text takes as many pages in both models, and may end in another page with proposals.
  const size_t n_longest = options.steps.max_parts * pages_for(out.max_positions);
  out.n_pages = std::min(options.steps.n_pages + options.steps.max_parts, n_longest);
  out.kv_type = options.steps.kv_type;
  out.temperature = options.speculation ? options.speculation->draft_temperature : 0;
  return out;
}

EngineLoop::~EngineLoop() { stop(); }

void EngineLoop::stop() {
  {
    const std::lock_guard lock(inbox_->mutex);
    inbox_->stop = true;
  }
  inbox_->ring();
  if (thread_.joinable()) thread_.join();
}

Result<void> EngineLoop::check(std::span<const TokenId> prompt, const GenerateParams& params,
                               const Treatment& treatment) const {
  const size_t n_vocab = runner_.weights().shape.n_vocab;
  const size_t n_context = options_.steps.max_positions;
  if (prompt.empty()) return refuse("request.empty_prompt", "prompt: expected at least one token");
  if (prompt.size() >= n_context) {
    return refuse("request.too_long", "prompt: expected fewer than {} tokens (the context), found {}",
                  n_context, prompt.size());
  }
  for (const TokenId token : prompt) {
    if (token < 0 || static_cast<size_t>(token) >= n_vocab)
      return refuse("request.token", "prompt: expected token ids of 0..{}, found {}", n_vocab - 1, token);
  }
  RETURN_IF_ERROR(validate(params, n_vocab));
  const int max_n = std::min(kMaxChoices, static_cast<int>(options_.steps.max_parts));
  if (params.n < 1 || params.n > max_n)
    return refuse("request.n", "n: expected 1..{}, found {}", max_n, params.n);
  if (params.max_tokens < 1)
    return refuse("request.max_tokens", "max_tokens: expected at least 1, found {}", params.max_tokens);
  const size_t n_longest = std::min(n_context, prompt.size() + static_cast<size_t>(params.max_tokens));
  if (KvPool::pages_for(n_longest) > options_.steps.n_pages) {
    return refuse("request.too_long",
                  "prompt and max_tokens: expected at most {} tokens (the KV cache), found {}",
                  options_.steps.n_pages * kPageTokens, n_longest);
  }
  if (!(treatment.timeout_seconds >= 0 && treatment.timeout_seconds <= kMaxTimeoutSeconds)) {
    return refuse("request.timeout", "timeout_seconds: expected 0..{}, found {}", kMaxTimeoutSeconds,
                  treatment.timeout_seconds);
  }
  return {};
}

SequenceSpec EngineLoop::sequence_spec(std::vector<TokenId> prompt, const GenerateParams& params,
                                       const Treatment& treatment) const {
  SequenceSpec spec;
  spec.max_new_tokens =
      std::min(static_cast<size_t>(params.max_tokens), options_.steps.max_positions - prompt.size());
  spec.prompt = std::move(prompt);
  spec.n_samples = static_cast<size_t>(params.n);
  spec.root = prefix_root({.model = runner_.weights().file_digest,
                           .kv_type = options_.steps.kv_type,
                           .tenant_salt = treatment.tenant,
                           .cache_salt = treatment.cache_salt,
                           .adapter_kv_tag = {}});
  spec.use_cache = treatment.use_cache && options_.prefix_cache;
  spec.tenant = tenant_id(treatment.tenant);
  spec.priority = treatment.priority;
  if (treatment.timeout_seconds > 0) spec.deadline_ms = now_ms() + 1e3 * treatment.timeout_seconds;
  return spec;
}

Result<EngineLoop::Ticket> EngineLoop::submit(std::vector<TokenId> prompt, GenerateParams params,
                                              const Treatment& treatment, TokenStream::Notice on_ready,
                                              PinnedAdapter adapter, PinnedGrammar grammar) {
  if (grammar) RETURN_IF_ERROR(make_token_trie());
  return submit_request(std::move(prompt), std::move(params), treatment, std::move(on_ready), {},
                        std::move(adapter), std::move(grammar));
}

Result<EngineLoop::Ticket> EngineLoop::replay(std::vector<TokenId> prompt, std::vector<TokenId> record,
                                              GenerateParams params, const Treatment& treatment) {
  CHECK(params.n == 1 && record.size() >= static_cast<size_t>(params.max_tokens));
  return submit_request(std::move(prompt), std::move(params), treatment, {}, std::move(record), {}, {});
}

Result<EngineLoop::Ticket> EngineLoop::submit_request(std::vector<TokenId> prompt, GenerateParams params,
                                                      const Treatment& treatment,
                                                      TokenStream::Notice on_ready,
                                                      std::vector<TokenId> record, PinnedAdapter adapter,
                                                      PinnedGrammar grammar) {
  RETURN_IF_ERROR(check(prompt, params, treatment));
  if (!params.seed) params.seed = random_seed() >> 11;  // 53 bits: exact in every JSON reader
  const auto n_choices = static_cast<size_t>(params.n);
  auto active = std::make_unique<Active>();
  active->stream = std::make_shared<TokenStream>(
      params.n, options_.stream_tokens, options_.speculation ? 1 + kMaxDraft : 1, std::move(on_ready),
      [inbox = inbox_] { inbox->ring(); }, static_cast<size_t>(params.n_logprobs));
  active->speculates = speculator_ && treatment.speculate;
  active->greedy = Sampler::takes_likeliest(params) && grammar == nullptr;
  active->ignore_eos = params.ignore_eos;
  active->sampling = params;
  active->spec = sequence_spec(std::move(prompt), params, treatment);
  active->spec.owner = active.get();
  active->record = std::move(record);
  active->adapter = std::move(adapter);
  active->grammar = std::move(grammar);
  active->watch = watch_for(params, treatment, active->spec.prompt);
  active->answers.resize(n_choices);
  for (Answer& answer : active->answers) answer.stops = StreamText(params.stop);
  active->n_open = n_choices;
  active->submitted = Clock::now();
  Ticket ticket{
      .id = 0, .seed = *params.seed, .n_prompt = active->spec.prompt.size(), .stream = active->stream};
  {
    const std::lock_guard lock(inbox_->mutex);
    if (inbox_->stop) return stopped();
    if (is_full()) {
      return fail(ErrorKind::kBusy, "engine.queue_full", "queue: expected room, {} requests are there",
                  n_unfinished_);
    }
    ++n_unfinished_;
    ticket.id = active->id = next_id_++;
    inbox_->submitted.push_back(std::move(active));
  }
  inbox_->ring();
  return ticket;
}

Result<void> EngineLoop::make_token_trie() {
  std::call_once(token_trie_once_,
                 [this] { token_trie_ = TokenTrie::make(*tokenizer_, runner_.weights().shape.n_vocab); });
  if (!token_trie_) return tl::unexpected<Error>(token_trie_.error());
  return {};
}

void EngineLoop::cancel(RequestId id) {
  {
    const std::lock_guard lock(inbox_->mutex);
    inbox_->cancelled.push_back(id);
  }
  inbox_->ring();
}

EngineStats EngineLoop::stats() const {
  EngineStats stats;
  {
    const std::lock_guard lock(stats_mutex_);
    stats = stats_;
  }
  const std::lock_guard lock(inbox_->mutex);
  stats.full = is_full();
  return stats;
}

Result<void> EngineLoop::between_steps(Piece piece) {
  SideWork work{.piece = std::move(piece)};
  std::unique_lock lock(inbox_->mutex);
  if (inbox_->stop) return stopped();
  inbox_->side_work.push_back(&work);
  inbox_->has_news = true;
  inbox_->news.notify_one();
  inbox_->side_work_done.wait(lock, [&] { return work.done; });
  if (work.lacked_memory)
    return fail(ErrorKind::kMemory, "memory.exhausted", "work between steps: there was no memory");
  if (!work.ran) return stopped();
  return {};
}

size_t EngineLoop::piece_rows() const {
  constexpr size_t kBesideAnswers = 8;  // about the time of one decoding step: both read all weights once
  return is_answering() ? std::min(kBesideAnswers, options_.steps.max_rows) : options_.steps.max_rows;
}

double EngineLoop::now_ms() const { return 1e3 * seconds_between(start_, Clock::now()); }

}  // namespace ruvltra
