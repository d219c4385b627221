// Many requests at once: queue -> plan -> step -> tokens (docs/engine.md). One thread of its own runs the
// steps and is thread 0 of the thread pool; all others talk to it through a queue.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/runner.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/speculator.h"
#include "engine/step_cost.h"
#include "engine/token_stream.h"
#include "grammar/constrained.h"
#include "ruvltra/error.h"
#include "ruvltra/hooks.h"
#include "ruvltra/types.h"
#include "text/stream_text.h"
#include "text/tokenizer.h"

namespace ruvltra {

// Thread safety: all public functions from any thread. The thread pool, the weights and the tokenizer must
// outlive the loop and belong to it while it lives.
// Invariants: 1. every answer of a submitted request gets exactly one outcome, at the latest when the loop
// stops; 2. tokens and log-probabilities depend on model, prompt, parameters and seed alone; 3. the loop
// waits for nobody but the thread pool while it has work; 4. a request for which there is no memory fails
// alone (memory.exhausted).
class EngineLoop {
 public:
  static constexpr size_t kMaxDraftRows = 16;  // proposals verified in one step
  struct Options {
    Runner::Options steps;
    size_t max_queued = 256;  // requests beyond those that fill the step
    double max_step_ms = 0;   // 0 = 2.5 x a step without prompt rows
    bool prefix_cache = true;
    size_t stream_tokens = 256;       // a reader may fall behind by
    double slow_reader_seconds = 30;  // before a request that waits for its reader is cancelled
    std::optional<SpeculativeConfig> speculation;
    const Weights* draft = nullptr;  // of a model with the same vocabulary; must outlive the loop
  };
  // Errors: memory.exhausted, sampler.no_token.
  // Memory that start() takes: rows of logits, and pages of the draft model's own KV cache.
  static size_t max_wanted_rows(const Options& options);
  static DraftModel::Options draft_options(const Options& options, const ModelShape& draft);
  static Result<std::unique_ptr<EngineLoop>> start(const Ctx& ctx, const Weights& weights,
                                                   const Tokenizer& tokenizer, const Options& options);
  ~EngineLoop();  // stop()
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  struct Ticket {
    RequestId id = 0;
    uint64_t seed = 0;
    size_t n_prompt = 0;
    std::shared_ptr<TokenStream> stream;
  };
  // Errors: request.empty_prompt, request.too_long, request.token, request.n, request.max_tokens,
  // request.timeout, config.*, sampler.range (usage); engine.queue_full, engine.stopped (busy).
  //
  // `adapter` is held until the request's last token; null: none. *Requires*: it was made for these weights.
  using PinnedAdapter = std::shared_ptr<const AdapterView>;
  // The answer follows `grammar`; null: it is free. Error: constraint.vocabulary. The first such request
  // takes the time and memory of a TokenTrie.
  using PinnedGrammar = std::shared_ptr<const Grammar>;
  Result<Ticket> submit(std::vector<TokenId> prompt, GenerateParams params, const Treatment& treatment,
                        TokenStream::Notice on_ready = {}, PinnedAdapter adapter = {},
                        PinnedGrammar grammar = {});
  // The same work for an answer that is known: every token is drawn as usual, then the record's is taken in
  // its place. For measurements of texts that the model at hand would not write. *Requires*: params.n is 1,
  // at least max_tokens tokens on record, all inside the vocabulary.
  Result<Ticket> replay(std::vector<TokenId> prompt, std::vector<TokenId> record, GenerateParams params,
                        const Treatment& treatment);
  void cancel(RequestId id);
  // Ends everything after the step that is running; later calls of submit() fail.
  void stop();
  EngineStats stats() const;

  // Tells `observer` every answer to a request that it wants and that is submitted from now on, with what the
  // hooks saw after `layers` (ascending). Null: nobody. Waits for the step that is running. Errors:
  // memory.exhausted, engine.stopped.
  Result<void> observe(std::shared_ptr<RequestObserver> observer, std::vector<int> layers);

  bool observed() const { return observed_.load(std::memory_order_relaxed); }

  // Work of another kind that needs the loop's thread and memory: called once between every two steps until
  // it returns true. Waits for that. Errors: engine.stopped (busy); memory.exhausted if it threw bad_alloc.
  using Piece = std::function<bool(Runner&)>;
  // Are answers being made, whom such pieces hold up?
  bool is_answering() const { return n_running_.load(std::memory_order_relaxed) > 0; }
  // Rows that such a piece should compute at most: few while answers are being made.
  size_t piece_rows() const;
  Result<void> between_steps(Piece piece);

 private:
  using Clock = TokenStream::Clock;

  // What an observer is to be told of one answer, so far.
  struct Watched {
    std::vector<double> sum;  // (layers, d_model)
    size_t n_summed = 0;
    std::vector<TokenId> output;
  };
  struct Watch {
    std::shared_ptr<RequestObserver> observer;
    std::string tenant, session, task;
    std::vector<int> layers;
    std::vector<TokenId> prompt;
    std::vector<Watched> answers;  // (n)
  };
  // One of the n answers of a request.
  struct Answer {
    Sequence* sequence = nullptr;  // null before it is forked off and after its end
    std::optional<Sampler> sampler;
    std::optional<ConstrainedText> constrained;  // with a grammar
    StreamText stops;
    std::unique_ptr<Drafting> drafting;  // while proposals are made for it
    std::vector<TokenId> rows;           // its last token and the proposals of the step
    size_t n_tokens = 0, n_drafted = 0, n_accepted = 0;
    Clock::time_point first_token, last_token;
    bool ended = false;
  };
  struct Active {
    RequestId id = 0;
    std::shared_ptr<TokenStream> stream;
    SamplingParams sampling;
    bool speculates = false;
    bool greedy = false;  // takes the likeliest token: no row of logits needed
    bool ignore_eos = false;
    SequenceSpec spec;
    PinnedAdapter adapter;  // the generation it was admitted with
    PinnedGrammar grammar;
    std::vector<TokenId> record;   // of replay(), else empty
    std::unique_ptr<Watch> watch;  // while somebody observes
    std::vector<Answer> answers;   // (n)
    size_t n_open = 0;
    size_t n_cached = 0;
    Clock::time_point submitted, begun, paused_since;
    bool has_begun = false;
    bool paused = false;  // its reader is behind
    std::optional<Error> cancel_reason;
  };
  struct SideWork {
    Piece piece;
    bool done = false, ran = false;  // guarded by the inbox's mutex
    bool lacked_memory = false;
  };
  // What other threads leave for the loop.
  struct Inbox {
    std::mutex mutex;
    std::condition_variable news;            // waited for by the loop
    std::condition_variable side_work_done;  // by callers of between_steps()
    bool has_news = false, stop = false;
    std::vector<std::unique_ptr<Active>> submitted;
    std::vector<RequestId> cancelled;
    std::vector<SideWork*> side_work;
    std::shared_ptr<RequestObserver> observer;
    std::vector<int> hook_layers;

    void ring();
  };

  EngineLoop(Runner runner, std::optional<DraftModel> draft, const Tokenizer& tokenizer,
             const Options& options, std::vector<TokenId> unused);

  Result<Ticket> submit_request(std::vector<TokenId> prompt, GenerateParams params,
                                const Treatment& treatment, TokenStream::Notice on_ready,
                                std::vector<TokenId> record, PinnedAdapter adapter, PinnedGrammar grammar);
  Result<void> make_token_trie();
  Result<void> check(std::span<const TokenId> prompt, const GenerateParams& params,
                     const Treatment& treatment) const;
  SequenceSpec sequence_spec(std::vector<TokenId> prompt, const GenerateParams& params,
                             const Treatment& treatment) const;

  void run();
  bool take_inbox(bool wait);
  void start_request(std::unique_ptr<Active> active);
  void cancel_request(Active& active, std::optional<Error> reason);
  void watch_readers();
  bool do_side_work();
  void finish_side_work(SideWork& work, bool ran);
  bool do_step();
  bool begin_admitted(const StepPlan& plan);
  bool begin(Sequence& sequence);
  std::unique_ptr<Watch> watch_for(const GenerateParams& params, const Treatment& treatment,
                                   std::span<const TokenId> prompt) const;
  void watch_row(Active& active, const Sequence& sequence, size_t row, TokenId token);
  void tell_observer(Active& active, size_t choice, FinishReason reason);
  void start_drafting(Answer& answer, const Sequence& sequence);
  void stop_drafting(Active& active);
  void propose();
  void cut_proposals(Answer& answer);
  RowOutput run_step(const StepPlan& plan);
  void report_prompts(const StepPlan& plan);
  size_t draw_tokens(const StepPlan& plan, RowOutput form);
  size_t draw_row(const StepEntry& entry, size_t row, RowOutput form);
  size_t draw_along_draft(const StepEntry& entry, size_t row, RowOutput form);
  std::optional<TokenId> draw_token(Sequence& sequence, size_t row, RowOutput form, TokenId proposal = -1);
  Result<Sampled> next_token(Answer& answer, const Sequence& sequence, size_t row, RowOutput form);
  void end_sequence(Sequence& sequence, FinishReason reason, const std::optional<Error>& error = {});
  void end_answer(Active& active, size_t choice, FinishReason reason, const std::optional<Error>& error);
  void fail_for_memory(Active& active);
  void forget_ended();
  void stop_all();
  PageUse page_use() const;
  // *Requires*: the inbox's mutex is held.
  bool is_full() const { return n_unfinished_ >= options_.steps.max_parts + options_.max_queued; }
  void publish_stats();
  double now_ms() const;

  const Options options_;
  const Tokenizer* tokenizer_;
  const std::vector<TokenId> unused_;  // ids that no token stands for
  const Clock::time_point start_ = Clock::now();
  std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();

  // Of the loop's thread alone.
  Runner runner_;
  Scheduler scheduler_;
  StepCost cost_;
  std::optional<DraftModel> draft_;
  std::optional<Speculator> speculator_;
  std::vector<Speculator::Ask> asks_;
  const uint64_t weight_bytes_per_step_;
  std::unordered_map<RequestId, std::unique_ptr<Active>> active_;
  std::vector<std::unique_ptr<Active>> submitted_;  // taken from the inbox
  std::vector<RequestId> cancelled_;
  std::vector<SideWork*> side_work_;
  std::vector<RequestId> ended_;          // requests without an open answer
  std::vector<uint64_t> allowed_;         // tokens that a constrained answer may have next, one bit for each
  std::optional<ConstrainedText> ahead_;  // such an answer with its proposals
  EngineStats now_;

  std::once_flag token_trie_once_;
  Result<std::shared_ptr<const TokenTrie>> token_trie_;  // made with the first request that needs it

  std::atomic<bool> observed_{false};
  std::atomic<size_t> n_running_{0};  // of the last step

  mutable std::mutex stats_mutex_;
  EngineStats stats_;
  size_t n_unfinished_ = 0;  // requests; guarded by the inbox's mutex
  RequestId next_id_ = 1;    // likewise

  std::thread thread_;
};

}  // namespace ruvltra
