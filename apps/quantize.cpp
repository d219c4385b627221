#include "model/quantize.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "model/draft_trim.h"
#include "options.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  std::string input;
  std::string output;
  std::string type;
  std::vector<std::string> tensor_types;
  std::string imatrix;
  std::string draft_corpus;
  std::optional<int> draft_vocab;
  int threads = 0;
  bool pure = false;
  bool dry_run = false;
  bool allow_requantize = false;
  bool force = false;
  bool json = false;
  bool no_progress = false;
};

std::string shape_text(const std::vector<uint64_t>& dims) {
  return fmt::format("{}", fmt::join(dims, " x "));
}

std::string tensor_line(const TensorConversion& t) {
  return fmt::format("{:<28} {:>14}  {:>4} -> {:<4}  {:>9}", t.name, shape_text(t.dims),
                     format_of(t.from).name, format_of(t.to).name, format_bytes(t.n_bytes));
}

std::string error_text(const TensorConversion& t) {
  if (t.from == t.to) return "copied";
  return fmt::format("rmse {:.3e}  rel {}", t.rmse,
                     t.rel_rmse ? fmt::format("{:.3f} %", 100 * *t.rel_rmse) : "-");
}

Json tensor_json(const TensorConversion& t, bool measured) {
  Json out;
  out["name"] = t.name;
  out["shape"] = t.dims;
  out["from"] = format_of(t.from).name;
  out["to"] = format_of(t.to).name;
  out["bytes"] = t.n_bytes;
  out["rmse"] = measured ? Json(t.rmse) : Json(nullptr);
  out["rel_rmse"] = measured && t.rel_rmse ? Json(*t.rel_rmse) : Json(nullptr);
  return out;
}

struct Outcome {
  uint64_t n_bytes = 0;  // of the file; of the tensors alone in a dry run
  double seconds = 0;
};

Json draft_json(const DraftVocabulary& kept) {
  Json out;
  out["tokens"] = kept.ids.size();
  out["corpus_tokens"] = kept.n_corpus_tokens;
  out["corpus_covered"] = kept.n_corpus_covered;
  return out;
}

void print_json(const Options& options, const QuantScheme& scheme, const QuantizePlan& plan,
                const std::optional<DraftVocabulary>& kept, const Outcome& outcome) {
  Json out;
  out["input"] = options.input;
  out["output"] = options.output;
  out["type"] = scheme.name;
  out["tensors"] = Json::array();
  for (const TensorConversion& tensor : plan.tensors)
    out["tensors"].push_back(tensor_json(tensor, !options.dry_run));
  out["bytes"] = outcome.n_bytes;
  out["bits_per_weight"] = plan.bits_per_weight();
  out["seconds"] = options.dry_run ? Json(nullptr) : Json(outcome.seconds);
  out["dry_run"] = options.dry_run;
  if (kept) out["draft_vocab"] = draft_json(*kept);
  print("{}\n", to_json(out));
}

void print_worst(const QuantizePlan& plan) {
  std::vector<const TensorConversion*> order;
  for (const TensorConversion& tensor : plan.tensors) {
    if (tensor.rel_rmse.value_or(0) > 0) order.push_back(&tensor);
  }
  const size_t n = std::min<size_t>(5, order.size());
  std::ranges::partial_sort(order, order.begin() + static_cast<ptrdiff_t>(n),
                            [](const auto* a, const auto* b) { return *a->rel_rmse > *b->rel_rmse; });
  if (n > 0) print("largest relative errors:\n");
  for (size_t i = 0; i < n; ++i) print("  {}  {}\n", tensor_line(*order[i]), error_text(*order[i]));
}

Result<Outcome> convert(const Options& options, const WeightSource& source, QuantizePlan& plan) {
  std::optional<ImportanceMatrix> importance;
  if (!options.imatrix.empty()) {
    ASSIGN_OR_RETURN(importance, ImportanceMatrix::load(options.imatrix));
  }
  ProgressBar bar("quantizing", ProgressBar::Unit::kBytes, !options.no_progress);
  QuantizeRun run;
  run.importance = importance ? &*importance : nullptr;
  run.overwrite = options.force;
  run.progress = bar.callback();
  run.on_tensor = [&](const TensorConversion& tensor) {
    if (!options.json) bar.line(tensor_line(tensor) + "  " + error_text(tensor));
  };
  ThreadPool pool(resolve_threads(options.threads));
  const auto begin = std::chrono::steady_clock::now();
  Outcome outcome;
  ASSIGN_OR_RETURN(outcome.n_bytes, quantize(source, plan, options.output, run, pool));
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return outcome;
}

// Restricts the source to the tokens that the corpus uses most.
Result<DraftVocabulary> trim(const Options& options, std::unique_ptr<WeightSource>& source) {
  constexpr uint64_t kMaxCorpusBytes = uint64_t{1} << 30;
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::load(source->metadata()));
  ASSIGN_OR_RETURN(const std::string corpus, read_text_file(options.draft_corpus, kMaxCorpusBytes));
  ASSIGN_OR_RETURN(DraftVocabulary kept,
                   choose_draft_vocabulary(tokenizer, corpus, static_cast<size_t>(*options.draft_vocab)));
  ASSIGN_OR_RETURN(source, trim_head(std::move(source), kept.ids));
  return kept;
}

void print_draft(const DraftVocabulary& kept, size_t n_vocab) {
  print("draft: logits of {} of {} tokens, which cover {:.2f} % of the corpus ({} tokens)\n", kept.ids.size(),
        n_vocab, 100 * static_cast<double>(kept.n_corpus_covered) / static_cast<double>(kept.n_corpus_tokens),
        kept.n_corpus_tokens);
}

Result<int> quantize_verb(const Options& options) {
  RETURN_IF_ERROR(check_gguf_output(options.output));
  QuantizeOptions wanted;
  ASSIGN_OR_RETURN(wanted.scheme, find_quant_scheme(options.type));
  wanted.pure = options.pure;
  wanted.allow_requantize = options.allow_requantize;
  for (const std::string& text : options.tensor_types) {
    ASSIGN_OR_RETURN(TypeRule rule, parse_type_rule(text));
    wanted.rules.push_back(std::move(rule));
  }
  ASSIGN_OR_RETURN(auto source, WeightSource::open(options.input));
  for (const std::string& warning : source->warnings()) print_warning(warning);
  std::optional<DraftVocabulary> kept;
  if (options.draft_vocab) {
    ASSIGN_OR_RETURN(kept, trim(options, source));
  }
  ASSIGN_OR_RETURN(QuantizePlan plan, plan_quantization(*source, wanted));
  for (const std::string& warning : plan.warnings) print_warning(warning);

  Outcome outcome{plan.n_tensor_bytes, 0};
  if (options.dry_run) {
    if (!options.json) {
      for (const TensorConversion& tensor : plan.tensors) print("{}\n", tensor_line(tensor));
    }
  } else {
    ASSIGN_OR_RETURN(outcome, convert(options, *source, plan));
  }
  if (options.json) {
    print_json(options, wanted.scheme, plan, kept, outcome);
    return kExitOk;
  }
  if (!options.dry_run) print_worst(plan);
  if (kept) print_draft(*kept, source->shape().n_vocab);
  print("{}: {} tensors, {} parameters, {}, {:.3f} bits per weight",
        options.dry_run ? "total" : options.output, plan.tensors.size(), format_count(plan.n_elements),
        format_bytes(outcome.n_bytes), plan.bits_per_weight());
  print("{}\n", options.dry_run ? "" : ", " + format_seconds(outcome.seconds));
  return kExitOk;
}

}  // namespace

void add_quantize_verb(Program& program) {
  auto options = std::make_shared<Options>();
  std::string types;
  for (const QuantScheme& scheme : quant_schemes())
    types += (types.empty() ? "" : " ") + std::string(scheme.name);
  CLI::App& app =
      program.add_verb("quantize", "Convert a GGUF file or a Hugging Face folder to another weight type",
                       "  ruvltra quantize model-f16.gguf model-q4_k_m.gguf Q4_K_M\n"
                       "  ruvltra quantize ./Qwen2.5-3B-Instruct model.gguf Q5_K_M --dry-run\n"
                       "  ruvltra quantize small-f16.gguf draft.gguf Q4_0 --pure --draft-vocab 32768 "
                       "--draft-corpus texts.txt\n",
                       [options] { return quantize_verb(*options); });
  const auto own = [](CLI::Option* option) { return option->required()->configurable(false); };
  own(app.add_option("-m,--model,IN", options->input,
                     "GGUF file, or folder with config.json and *.safetensors"));
  own(app.add_option("-o,--output,OUT", options->output, "GGUF file to write"));
  own(app.add_option("--format,TYPE", options->type, types));
  app.add_option("-t,--threads,THREADS", options->threads, "Worker threads (default: physical cores)")
      ->check(in_range(0, 1024));
  app.add_option("--tensor-type", options->tensor_types, "REGEX=TYPE for matrices; the first match wins")
      ->configurable(false)
      ->expected(1)
      ->take_all();
  app.add_option("--imatrix", options->imatrix, "Importance matrix (GGUF)")->configurable(false);
  CLI::Option* vocab = app.add_option("--draft-vocab", options->draft_vocab,
                                      "Make a draft: an output matrix of the N most frequent tokens")
                           ->configurable(false)
                           ->check(in_range(1, 1 << 20));
  CLI::Option* corpus = app.add_option("--draft-corpus", options->draft_corpus,
                                       "Text file to count the tokens of --draft-vocab on")
                            ->configurable(false);
  vocab->needs(corpus);
  corpus->needs(vocab);
  app.add_flag("--pure", options->pure, "The base type for every matrix");
  app.add_flag("--dry-run", options->dry_run, "Show what would be written, write nothing")
      ->configurable(false);
  app.add_flag("--allow-requantize", options->allow_requantize, "Convert quantized weights again, at a loss");
  app.add_flag("--force", options->force, "Replace an existing file")->configurable(false);
  app.add_flag("--json", options->json, "One JSON document");
  add_progress_option(app, options->no_progress);
}

}  // namespace ruvltra
