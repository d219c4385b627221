// `eval schema`: answers under random schemas. How many are complete, and what the constraint costs; whether
// they are valid is for others to say, who read the lines it writes (tests/eval_schema_test.py).
#include <algorithm>
#include <ctime>
#include <memory>
#include <random>

#include "base/fail.h"
#include "base/file.h"
#include "console.h"
#include "experiments.h"
#include "gguf/reader.h"
#include "grammar/constrained.h"
#include "grammar/schema.h"
#include "load.h"
#include "ruvltra/constraint.h"
#include "schema_generator.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr double kLeastFinished = 0.8;
constexpr const char* kPrompt = "Tell me a story about a fox and a crow.";

struct Settings {
  uint64_t count = 200;
  int tokens = 400;
  std::string lines;
  bool walk = false;
};

// Of this thread alone: what others do on the machine meanwhile does not count.
double processor_microseconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return 1e6 * static_cast<double>(time.tv_sec) + 1e-3 * static_cast<double>(time.tv_nsec);
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(share * static_cast<double>(values.size())))];
}

// Processor time of masks along texts, in microseconds.
class MaskClock {
 public:
  static Result<MaskClock> make(const ModelOptions& options) {
    ASSIGN_OR_RETURN(const auto path, resolve_model(options.model));
    ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(path));
    MaskClock clock;
    ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::load(file.metadata()));
    clock.tokenizer_ = std::make_unique<Tokenizer>(std::move(tokenizer));
    const double begin = processor_microseconds();
    ASSIGN_OR_RETURN(clock.trie_, TokenTrie::make(*clock.tokenizer_, clock.tokenizer_->n_vocab()));
    clock.trie_ms_ = 1e-3 * (processor_microseconds() - begin);
    clock.mask_.resize(clock.trie_->n_words());
    return clock;
  }

  // Along the tokens of an answer, or, without a model, of tokens drawn evenly from those that are allowed.
  void follow(const std::shared_ptr<const Grammar>& grammar, std::span<const TokenId> tokens) {
    ConstrainedText text(grammar, trie_);
    for (const TokenId token : tokens) {
      measure(text);
      if (!text.accept(tokenizer_->bytes(token), tokenizer_->ends_generation(token))) break;
    }
  }
  // The text, or nothing if it was not complete after max_tokens.
  std::optional<std::string> walk(const std::shared_ptr<const Grammar>& grammar, int max_tokens,
                                  std::mt19937_64& random) {
    ConstrainedText text(grammar, trie_);
    std::string written;
    std::vector<TokenId> allowed;
    for (int i = 0; i < max_tokens; ++i) {
      measure(text);
      allowed.clear();
      for (size_t id = 0; id < tokenizer_->n_vocab(); ++id)
        if ((mask_[id / 64] >> id % 64 & 1) != 0) allowed.push_back(static_cast<TokenId>(id));
      const TokenId token = allowed[random() % allowed.size()];
      if (tokenizer_->ends_generation(token)) return written;
      written += tokenizer_->bytes(token);
      text.accept(tokenizer_->bytes(token), false);
    }
    return std::nullopt;
  }

  const std::vector<double>& times() const { return times_; }
  double trie_ms() const { return trie_ms_; }
  size_t n_vocab() const { return tokenizer_->n_vocab(); }

 private:
  void measure(ConstrainedText& text) {
    const double begin = processor_microseconds();
    text.fill_mask(mask_);
    times_.push_back(processor_microseconds() - begin);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::shared_ptr<const TokenTrie> trie_;
  std::vector<uint64_t> mask_;
  std::vector<double> times_;
  double trie_ms_ = 0;
};

struct Tally {
  uint64_t n_finished = 0, n_tokens = 0;
  double constrained_seconds = 0, free_seconds = 0;  // for the same number of tokens
  std::vector<double> compile_us;
  std::string lines;
};

void add_line(Tally& tally, uint64_t number, const Json& schema, const std::string& text, bool is_finished) {
  Json line;
  line["number"] = number;
  line["schema"] = schema;
  line["text"] = text;
  line["finished"] = is_finished;
  tally.lines += to_json(line) + "\n";
  tally.n_finished += is_finished;
}

// One constrained answer, then a free one of as many tokens: both find the same machine.
Result<void> answer(ServedModel& served, const Constraint::Pointer& constraint, uint64_t number,
                    const Settings& settings, MaskClock& clock, const std::shared_ptr<const Grammar>& grammar,
                    const Json& schema, Tally& tally) {
  Request request;
  request.prompt = served.model.prompt(kPrompt);
  request.params.max_tokens = settings.tokens;
  request.params.seed = number;
  request.params.temperature = number % 2 == 0 ? 0.7f : 1.2f;
  Request plain = request;
  request.constraint = constraint;
  ASSIGN_OR_RETURN(Stream stream, served.model.engine().stream(std::move(request)));
  const Generation generation = stream.wait().front();
  if (generation.error) return tl::unexpected<Error>(*generation.error);
  add_line(tally, number, schema, generation.text, generation.finish_reason == FinishReason::kStop);
  clock.follow(grammar, generation.tokens);
  if (generation.tokens.size() < 2) return {};
  plain.params.max_tokens = static_cast<int>(generation.tokens.size());
  plain.params.ignore_eos = true;
  ASSIGN_OR_RETURN(Stream other, served.model.engine().stream(std::move(plain)));
  const Generation free = other.wait().front();
  tally.n_tokens += generation.tokens.size() - 1;
  tally.constrained_seconds += generation.timings.generate_seconds;
  tally.free_seconds += free.timings.generate_seconds;
  return {};
}

Result<void> write_lines(const std::string& path, const std::string& lines) {
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(path, true));
  RETURN_IF_ERROR(file.write({reinterpret_cast<const uint8_t*>(lines.data()), lines.size()}));
  return file.commit();
}

Json document_of(const Tally& tally, const Settings& settings, const MaskClock& clock, uint64_t seed) {
  Json out;
  out["kind"] = "schema";
  out["commit"] = build_commit();
  out["seed"] = seed;
  out["walk"] = settings.walk;
  out["schemas"] = settings.count;
  out["finished"] = tally.n_finished;
  out["max_tokens"] = settings.tokens;
  out["n_vocab"] = clock.n_vocab();
  out["trie_ms"] = clock.trie_ms();
  out["compile_us"] = {{"p50", percentile(tally.compile_us, 0.5)}, {"max", percentile(tally.compile_us, 1)}};
  out["mask_us"] = {{"n", clock.times().size()},
                    {"p50", percentile(clock.times(), 0.5)},
                    {"p99", percentile(clock.times(), 0.99)},
                    {"max", percentile(clock.times(), 1)}};
  if (!settings.walk) {
    const auto n = static_cast<double>(tally.n_tokens);
    out["constrained_tokens_per_second"] = n / tally.constrained_seconds;
    out["free_tokens_per_second"] = n / tally.free_seconds;
    out["slowdown"] = tally.constrained_seconds / tally.free_seconds;
  }
  return out;
}

Result<int> eval_schema(const Settings& settings, const ExperimentOptions& options) {
  ASSIGN_OR_RETURN(MaskClock clock, MaskClock::make(options.model));
  std::optional<ServedModel> served;
  if (!settings.walk) {
    ASSIGN_OR_RETURN(served, load_served(options.model, {}));
  }
  Tally tally;
  std::mt19937_64 random(options.seed);
  for (uint64_t i = 0; i < settings.count; ++i) {
    if (stop_requested()) return fail(ErrorKind::kCancelled, "eval.stopped", "eval schema: interrupted");
    const uint64_t number = options.seed * 1'000'000 + i;
    const Json schema = random_schema(number);
    const std::string text = to_json(schema);
    const double begin = processor_microseconds();
    ASSIGN_OR_RETURN(const auto grammar, compile_json_schema(text, "schema"));
    tally.compile_us.push_back(processor_microseconds() - begin);
    if (settings.walk) {
      const auto written = clock.walk(grammar, settings.tokens, random);
      add_line(tally, number, schema, written.value_or(""), written.has_value());
      continue;
    }
    ASSIGN_OR_RETURN(const Constraint::Pointer constraint, Constraint::from_json_schema(text));
    RETURN_IF_ERROR(answer(*served, constraint, number, settings, clock, grammar, schema, tally));
  }
  if (!settings.lines.empty()) RETURN_IF_ERROR(write_lines(settings.lines, tally.lines));
  Json out = document_of(tally, settings, clock, options.seed);
  const bool passed =
      static_cast<double>(tally.n_finished) >= kLeastFinished * static_cast<double>(settings.count);
  out["passed"] = passed;
  if (options.json) {
    print("{}\n", to_json(out));
  } else {
    for (const auto& [name, value] : out.items()) print("{:<32} {}\n", name, to_json(value));
  }
  return passed ? kExitOk : kExitFailure;
}

}  // namespace

Experiment schema_experiment() {
  const auto settings = std::make_shared<Settings>();
  return {.name = "schema",
          .add_options =
              [settings](CLI::App& app) {
                app.add_option("--schemas", settings->count, "schema: how many random schemas")
                    ->check(in_range(int64_t{1}, int64_t{1'000'000}))
                    ->configurable(false);
                app.add_option("--answer-tokens", settings->tokens, "schema: tokens of an answer at most")
                    ->check(in_range(1, 8000))
                    ->configurable(false);
                app.add_option("--lines", settings->lines,
                               "schema: file for a JSON line per schema and answer")
                    ->configurable(false);
                app.add_flag("--walk", settings->walk,
                             "schema: tokens are drawn evenly instead of by the model, of which only the "
                             "vocabulary is read")
                    ->configurable(false);
                return std::vector<std::string>{"--schemas", "--answer-tokens", "--lines", "--walk"};
              },
          .run = [settings](const ExperimentOptions& options) { return eval_schema(*settings, options); }};
}

}  // namespace ruvltra
