#include "engine/eval.h"

#include <algorithm>
#include <map>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "experiments.h"
#include "load.h"
#include "options.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;
constexpr size_t kDefaultWindow = 512;
constexpr size_t kMaxVocab = size_t{1} << 31;

// Options that only some kinds have; experiments add theirs.
const std::map<std::string, std::vector<std::string>> kOptionsOfKind = {
    {"logits", {"--tokens", "--tokens-file", "--output", "--force", "--last", "--exact"}},
    {"ppl", {"--file", "--full", "--max-tokens", "--exact"}},
    {"kld", {"--file", "--full", "--max-tokens", "--base", "--base-kv-type", "--exact"}},
    {"mc", {"--exact"}},
};

struct Options {
  const CLI::App* verb = nullptr;
  std::string kind;
  std::string questions;
  ModelOptions model;
  std::string tokens;
  std::string tokens_file;
  std::string output;
  bool force = false;
  bool last = false;
  bool exact = false;
  std::string text_file;
  bool full = false;
  std::string base;
  std::string base_kv_type;  // empty = as the model's
  int64_t max_tokens = 0;    // 0 = all
  bool json = false;
  uint64_t seed = 1;
  std::vector<Experiment> experiments;
  std::map<std::string, std::vector<std::string>> options_of_kind = kOptionsOfKind;
};

tl::unexpected<Error> missing(std::string_view kind, std::string_view option) {
  return fail(ErrorKind::kUsage, "eval.option", "eval {}: expected {}, found none", kind, option);
}

// An option that would do nothing is a mistake.
Result<void> check_usage(const Options& options) {
  const auto& own = options.options_of_kind.at(options.kind);
  for (const auto& [kind, names] : options.options_of_kind) {
    for (const std::string& name : names) {
      if (options.verb->count(name) > 0 && std::find(own.begin(), own.end(), name) == own.end()) {
        return fail(ErrorKind::kUsage, "eval.option", "eval {}: expected no {}, which belongs to eval {}",
                    options.kind, name, kind);
      }
    }
  }
  if (options.kind != "mc" && !options.questions.empty()) {
    return fail(ErrorKind::kUsage, "eval.option", "eval {}: expected no further argument, found {}",
                options.kind, ruvltra::quoted(options.questions));
  }
  if (options.json && options.output == "-") {
    return fail(ErrorKind::kUsage, "eval.two_results",
                "eval logits: expected --json or -o -, found both; stdout holds one result");
  }
  return {};
}

// NumPy format 1.0: float32, C order, (n_rows, n_columns); rows are appended.
class NpyWriter {
 public:
  static Result<NpyWriter> create(const std::string& path, bool overwrite, size_t n_rows, size_t n_columns) {
    NpyWriter writer;
    if (path != "-") {
      ASSIGN_OR_RETURN(writer.file_, OutputFile::create(path, overwrite));
    }
    std::string header =
        fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", n_rows, n_columns);
    constexpr size_t kPrefixBytes = 10;  // magic, version, header length
    const size_t n_bytes = (kPrefixBytes + header.size() + 1 + 63) / 64 * 64;
    header.resize(n_bytes - kPrefixBytes - 1, ' ');
    header += '\n';
    std::string start("\x93NUMPY\x01\x00", 8);
    start += static_cast<char>(header.size() & 255);
    start += static_cast<char>(header.size() >> 8);
    start += header;
    RETURN_IF_ERROR(writer.write_bytes({reinterpret_cast<const uint8_t*>(start.data()), start.size()}));
    return writer;
  }

  Result<void> append(std::span<const float> values) {
    return write_bytes({reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()});
  }
  // Whoever read stdout has enough.
  bool reader_gone() const { return reader_gone_; }
  Result<void> finish() {
    if (!file_) return {};
    return file_->commit();
  }

 private:
  Result<void> write_bytes(std::span<const uint8_t> bytes) {
    if (file_) return file_->write(bytes);
    reader_gone_ = !write_out({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    return {};
  }
  std::optional<OutputFile> file_;
  bool reader_gone_ = false;
};

LogitsRun::Options run_options(const Options& options, const LoadedWeights& model, size_t n_positions) {
  LogitsRun::Options run;
  run.max_positions = n_positions;
  run.exact = options.exact;
  run.kv_type = model.kv_type;
  return run;
}

// Positions that a run may have: --ctx, or all that the file allows.
Result<size_t> logits_context(const ModelOptions& options) {
  ASSIGN_OR_RETURN(const auto path, resolve_model(options.model));
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(path));
  ASSIGN_OR_RETURN(const ModelShape shape, ModelShape::from_file(file));
  return options.ctx != 0 ? resolve_context(options.ctx, shape, path.string()) : shape.context_length;
}

Result<int> eval_logits(Options options) {
  if (options.tokens.empty() && options.tokens_file.empty())
    return missing("logits", "--tokens or --tokens-file");
  if (options.output.empty()) return missing("logits", "-o/--output");
  std::string text = options.tokens;
  if (!options.tokens_file.empty()) {
    ASSIGN_OR_RETURN(text, read_text_file(options.tokens_file, kMaxTextBytes));
  }
  ASSIGN_OR_RETURN(const size_t n_context, logits_context(options.model));
  ASSIGN_OR_RETURN(const auto tokens, parse_token_ids(text, kMaxVocab, "--tokens", ErrorKind::kUsage));
  if (tokens.empty()) return missing("logits", "at least one token id");
  if (tokens.size() > n_context) {
    return fail(ErrorKind::kUsage, "eval.tokens", "--tokens: expected at most {} ids, found {}", n_context,
                tokens.size());
  }
  options.model.ctx = static_cast<int>(tokens.size());  // what the memory check is about
  ASSIGN_OR_RETURN(const auto model, load_weights(options.model));
  const ModelShape& shape = model->weights.shape;
  const TokenId last = *std::max_element(tokens.begin(), tokens.end());
  if (static_cast<size_t>(last) >= shape.n_vocab) {
    return fail(ErrorKind::kUsage, "option.token_ids", "--tokens: expected token ids below {}, found {}",
                shape.n_vocab, last);
  }
  ASSIGN_OR_RETURN(auto run,
                   LogitsRun::make(model->ctx, model->weights, run_options(options, *model, tokens.size())));
  const size_t n_rows = options.last ? 1 : tokens.size();
  ASSIGN_OR_RETURN(auto writer, NpyWriter::create(options.output, options.force, n_rows, shape.n_vocab));
  ProgressBar bar("logits", ProgressBar::Unit::kTokens, !options.model.no_progress);
  run.skip(std::span(tokens).first(tokens.size() - n_rows));
  while (run.n_tokens() < tokens.size()) {
    RETURN_IF_ERROR(writer.append(run.append(std::span(tokens).subspan(run.n_tokens()))));
    if (writer.reader_gone()) return kExitOk;
    if (!bar.update(run.n_tokens(), tokens.size())) {
      return fail(ErrorKind::kCancelled, "eval.cancelled", "evaluation: stopped on request");
    }
  }
  RETURN_IF_ERROR(writer.finish());
  if (options.json) {
    Json out;
    out["kind"] = "logits";
    out["model"] = model->label();
    out["tokens"] = tokens.size();
    out["output"] = options.output;
    out["shape"] = {n_rows, shape.n_vocab};
    print("{}\n", to_json(out));
  }
  return kExitOk;
}

struct Text {
  std::vector<TokenId> tokens;
  WindowOptions window;
};

Result<Text> read_text(const Options& options, const LoadedModel& model) {
  if (options.text_file.empty()) return missing(options.kind, "-f/--file");
  ASSIGN_OR_RETURN(const std::string content, read_text_file(options.text_file, kMaxTextBytes));
  Text text;
  ASSIGN_OR_RETURN(text.tokens, model.tokenizer.encode(content, Recognise::kUserDefined));
  if (options.max_tokens > 0 && text.tokens.size() > static_cast<size_t>(options.max_tokens)) {
    text.tokens.resize(static_cast<size_t>(options.max_tokens));
  }
  text.window.n_window = options.model.ctx != 0 ? model.n_context : std::min(kDefaultWindow, model.n_context);
  text.window.full = options.full;
  return text;
}

Result<int> eval_perplexity(const Options& options) {
  ASSIGN_OR_RETURN(const auto model, load_model(options.model));
  ASSIGN_OR_RETURN(const Text text, read_text(options, *model));
  ASSIGN_OR_RETURN(auto run, LogitsRun::make(model->ctx, model->weights,
                                             run_options(options, *model, text.window.n_window)));
  ProgressBar bar("perplexity", ProgressBar::Unit::kTokens, !options.model.no_progress);
  ASSIGN_OR_RETURN(const Perplexity result, perplexity(run, text.tokens, text.window, bar.callback()));
  if (!options.json) {
    print("perplexity {:.4f} +- {:.4f}   nll {:.5f} nat/token   {} tokens scored in windows of {}\n",
          result.ppl, result.ppl_se, result.nll, result.n_tokens, text.window.n_window);
    return kExitOk;
  }
  Json out;
  out["kind"] = "ppl";
  out["model"] = model->label();
  out["tokens"] = result.n_tokens;
  out["ppl"] = result.ppl;
  out["ppl_se"] = result.ppl_se;
  out["nll"] = result.nll;
  print("{}\n", to_json(out));
  return kExitOk;
}

Result<int> eval_divergence(const Options& options) {
  if (options.base.empty()) return missing("kld", "--base");
  ASSIGN_OR_RETURN(const auto model, load_model(options.model));
  ModelOptions base_options = options.model;
  base_options.model = options.base;
  if (!options.base_kv_type.empty() && !options.exact) base_options.kv_type = options.base_kv_type;
  ASSIGN_OR_RETURN(const auto base, load_model(base_options));
  if (base->tokenizer.digest() != model->tokenizer.digest()) {
    return fail("eval.vocabulary", "{}: expected the vocabulary of {}, found another", base->label(),
                model->label());
  }
  ASSIGN_OR_RETURN(const Text text, read_text(options, *model));
  const size_t n_window = text.window.n_window;
  ASSIGN_OR_RETURN(auto run,
                   LogitsRun::make(model->ctx, model->weights, run_options(options, *model, n_window)));
  ASSIGN_OR_RETURN(auto base_run,
                   LogitsRun::make(base->ctx, base->weights, run_options(options, *base, n_window)));
  ProgressBar bar("divergence", ProgressBar::Unit::kTokens, !options.model.no_progress);
  ASSIGN_OR_RETURN(const Divergence result,
                   divergence(base_run, run, text.tokens, text.window, bar.callback()));
  if (!options.json) {
    print("KLD mean {:.3e}  median {:.3e}  99.9 % {:.3e}  max {:.3e}\n", result.kld_mean, result.kld_median,
          result.kld_p999, result.kld_max);
    print("ppl(model) - ppl(base) {:+.5f}   RMS dp {:.3f} %   same top-1 {:.3f} %   {} tokens scored\n",
          result.delta_ppl, 100 * result.rms_dp, 100 * result.same_top1, result.n_tokens);
    return kExitOk;
  }
  Json out;
  out["kind"] = "kld";
  out["model"] = model->label();
  out["tokens"] = result.n_tokens;
  out["kld_mean"] = result.kld_mean;
  out["kld_median"] = result.kld_median;
  out["kld_p999"] = result.kld_p999;
  out["kld_max"] = result.kld_max;
  out["delta_ppl"] = result.delta_ppl;
  out["rms_dp"] = result.rms_dp;
  out["same_top1"] = result.same_top1;
  print("{}\n", to_json(out));
  return kExitOk;
}

Result<int> eval_multiple_choice(const Options& options) {
  if (options.questions.empty()) return missing("mc", "FILE.jsonl");
  ASSIGN_OR_RETURN(const std::string content, read_text_file(options.questions, kMaxTextBytes));
  ASSIGN_OR_RETURN(const auto questions, parse_questions(content, options.questions));
  ASSIGN_OR_RETURN(const auto model, load_model(options.model));
  ASSIGN_OR_RETURN(
      auto run, LogitsRun::make(model->ctx, model->weights, run_options(options, *model, model->n_context)));
  ProgressBar bar("questions", ProgressBar::Unit::kItems, !options.model.no_progress);
  ASSIGN_OR_RETURN(const Accuracy result, multiple_choice(run, model->tokenizer, questions, bar.callback()));
  if (!options.json) {
    print("accuracy {:.4f} +- {:.4f}   per byte {:.4f}   {} questions\n", result.acc, result.acc_se,
          result.acc_norm, result.n);
    return kExitOk;
  }
  Json out;
  out["kind"] = "mc";
  out["model"] = model->label();
  out["tokens"] = nullptr;
  out["acc"] = result.acc;
  out["acc_norm"] = result.acc_norm;
  out["acc_se"] = result.acc_se;
  out["n"] = result.n;
  print("{}\n", to_json(out));
  return kExitOk;
}

Result<int> eval(Options options) {
  if (options.exact) options.model.kv_type = "f32";
  RETURN_IF_ERROR(check_usage(options));
  for (const Experiment& experiment : options.experiments) {
    if (options.kind == experiment.name) return experiment.run({options.model, options.seed, options.json});
  }
  if (options.kind == "logits") return eval_logits(std::move(options));
  if (options.kind == "ppl") return eval_perplexity(options);
  if (options.kind == "kld") return eval_divergence(options);
  return eval_multiple_choice(options);
}

}  // namespace

void add_eval_verb(Program& program) {
  auto options = std::make_shared<Options>();
  options->experiments = experiments();
  std::vector<std::string> kinds = {"logits", "ppl", "kld", "mc"};
  for (const Experiment& experiment : options->experiments) kinds.push_back(experiment.name);
  CLI::App& app = program.add_verb("eval", "Logits, perplexity, divergence, multiple choice, experiments",
                                   "  ruvltra eval logits --tokens 1,2,3 -o logits.npy\n"
                                   "  ruvltra eval ppl -f heldout.txt\n"
                                   "  ruvltra eval kld -m small.gguf --base full.gguf -f heldout.txt\n"
                                   "  ruvltra eval mc questions.jsonl\n",
                                   [options] { return eval(*options); });
  options->verb = &app;
  app.add_option("kind", options->kind, fmt::format("{}", fmt::join(kinds, ", ")))
      ->required()
      ->configurable(false)
      ->check(one_of(kinds));
  app.add_option("questions", options->questions, "mc: lines of {\"context\", \"choices\", \"answer\"}")
      ->configurable(false);
  add_model_options(app, options->model);
  // What is measured, and what is written, is said on the command line: another verb's max_tokens in a
  // settings file must not cut the text short.
  const auto own = [](CLI::Option* option) { return option->configurable(false); };
  CLI::Option* tokens =
      own(app.add_option("--tokens", options->tokens, "logits: token ids, separated by commas or spaces"));
  own(app.add_option("--tokens-file", options->tokens_file, "logits: a file of token ids"))->excludes(tokens);
  own(app.add_option("-o,--output", options->output, "logits: NumPy file to write, - for stdout"));
  own(app.add_flag("--force", options->force, "logits: replace an existing output file"));
  own(app.add_flag("--last", options->last, "logits: only the row after the last token"));
  app.add_flag("--exact", options->exact, "f32 activations and KV cache instead of int8 and f16");
  own(app.add_option("-f,--file", options->text_file, "ppl, kld: the text"));
  own(app.add_flag("--full", options->full, "ppl, kld: score whole windows, not their second halves"));
  own(app.add_option("--base", options->base, "kld: the reference model"));
  own(app.add_option("--base-kv-type", options->base_kv_type, "kld: --kv-type of the reference model")
          ->check(one_of({"f16", "q8_0"}))
          ->type_name("TYPE"));
  own(app.add_option("--max-tokens", options->max_tokens,
                     "ppl, kld: use at most this many tokens of the text (0 = all)"))
      ->check(in_range(int64_t{0}, int64_t{1} << 40));
  app.add_flag("--json", options->json, "One JSON document on stdout");
  if (!options->experiments.empty())
    own(app.add_option("--seed", options->seed, "Experiments: seed of everything random"))->type_name("N");
  for (const Experiment& experiment : options->experiments)
    options->options_of_kind[experiment.name] = experiment.add_options(app);
}

}  // namespace ruvltra
