#include <map>

#include "base/fail.h"
#include "base/json.h"
#include "load.h"
#include "model/kv_pool.h"
#include "model/memory.h"
#include "text/tokenizer.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  std::string model = "demo";
  bool tensors = false;
  bool metadata = false;
  bool chat_template = false;
  bool json = false;
  bool verify = false;
  bool no_progress = false;
  int ctx = 0;
  std::string kv_type = "f16";
};

struct TypeTotal {
  uint64_t tensors = 0;
  uint64_t bytes = 0;
};

// Everything shown about a file, computed once for both kinds of output.
struct Facts {
  ModelShape shape;
  std::string name;
  std::string quantisation;
  std::map<std::string, TypeTotal> quant;
  KvType kv_type = KvType::kF16;
  uint64_t kv_bytes_per_token = 0;
  size_t n_context = 0;
  MemoryNeed memory;
  std::optional<std::string> sha256;
};

std::string dims_text(const std::vector<uint64_t>& dims) { return fmt::format("{}", fmt::join(dims, " x ")); }

// Elements of an array that are shown.
constexpr size_t kShown = 6;

// One line; long arrays are cut.
std::string value_text(const MetaValue& value) {
  return std::visit(
      [](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string>) {
          return ruvltra::quoted(v, 100);
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          std::string text = "[";
          for (size_t i = 0; i < std::min(v.size(), kShown); ++i)
            text += (i > 0 ? ", " : "") + ruvltra::quoted(v[i], 24);
          return text + (v.size() > kShown ? fmt::format(", ... {} in all]", v.size()) : "]");
        } else if constexpr (std::is_arithmetic_v<T>) {
          return fmt::format("{}", v);
        } else {
          std::string text = "[";
          for (size_t i = 0; i < std::min(v.size(), kShown); ++i)
            text += fmt::format("{}{}", i > 0 ? ", " : "", +v[i]);
          return text + (v.size() > kShown ? fmt::format(", ... {} in all]", v.size()) : "]");
        }
      },
      value);
}

Json value_json(const MetaValue& value) {
  return std::visit(
      [](const auto& v) -> Json {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string> || std::is_arithmetic_v<T>) {
          return v;
        } else {
          Json list = Json::array();
          for (const auto& element : v) list.push_back(element);
          return list;
        }
      },
      value);
}

Result<Facts> collect(const GgufFile& file, const Options& options) {
  Facts facts;
  ASSIGN_OR_RETURN(facts.shape, ModelShape::from_file(file));
  RETURN_IF_ERROR(check_tensors(facts.shape, file.path().string(), file.tensors()));
  RETURN_IF_ERROR(Tokenizer::load(file.metadata()));
  ASSIGN_OR_RETURN(facts.n_context, resolve_context(options.ctx, facts.shape, file.path().string()));
  if (const auto name = file.metadata().get_string("general.name")) facts.name = std::string(*name);
  facts.quantisation = quantisation_name(file);
  for (const TensorInfo& tensor : file.tensors()) {
    TypeTotal& total = facts.quant[std::string(format_of(tensor.type).name)];
    ++total.tensors;
    total.bytes += tensor.n_bytes;
  }
  ASSIGN_OR_RETURN(facts.kv_type, parse_kv_type(options.kv_type));
  RETURN_IF_ERROR(KvPool::check_type(facts.shape, facts.kv_type));
  facts.kv_bytes_per_token = KvPool::page_bytes(facts.shape, facts.kv_type) / kPageTokens;
  facts.memory = memory_need(facts.shape, file.tensors(), facts.kv_type, facts.n_context, kPrefillRows);
  if (options.verify) {
    ProgressBar bar("verifying", ProgressBar::Unit::kBytes, !options.no_progress);
    ASSIGN_OR_RETURN(facts.sha256, verify_file(file, bar.callback()));
  }
  return facts;
}

Json facts_json(const GgufFile& file, const Facts& facts, const Options& options) {
  const ModelShape& shape = facts.shape;
  Json out;
  out["file"] = file.path().string();
  out["sha256"] = facts.sha256 ? Json(*facts.sha256) : Json(nullptr);
  out["architecture"] = "qwen2";
  out["name"] = facts.name.empty() ? Json(nullptr) : Json(facts.name);
  out["parameters"] = shape.n_parameters();
  out["n_layers"] = shape.n_layers;
  out["d_model"] = shape.d_model;
  out["n_heads"] = shape.n_heads;
  out["n_kv_heads"] = shape.n_kv_heads;
  out["d_head"] = shape.d_head;
  out["d_ff"] = shape.d_ff;
  out["n_vocab"] = shape.n_vocab;
  out["context"] = shape.context_length;
  out["rope_base"] = shape.rope_theta;
  out["tied"] = shape.tied;
  out["quant"] = Json::object();
  for (const auto& [name, total] : facts.quant)
    out["quant"][name] = {{"tensors", total.tensors}, {"bytes", total.bytes}};
  out["kv_bytes_per_token"] = facts.kv_bytes_per_token;
  out["memory"] = {{"weights", facts.memory.weights_bytes},
                   {"kv", facts.memory.kv_bytes},
                   {"scratch", facts.memory.scratch_bytes},
                   {"total", facts.memory.total()}};
  out["random_weights"] = has_random_weights(file.metadata());
  if (options.tensors) {
    out["tensors"] = Json::array();
    for (const TensorInfo& tensor : file.tensors()) {
      out["tensors"].push_back({{"name", tensor.name},
                                {"type", format_of(tensor.type).name},
                                {"dims", tensor.dims},
                                {"bytes", tensor.n_bytes}});
    }
  }
  if (options.chat_template) {
    const auto source = file.metadata().get_string("tokenizer.chat_template");
    out["template"] = source ? Json(*source) : Json(nullptr);
  }
  if (options.metadata) {
    out["metadata"] = Json::object();
    for (const auto& [key, value] : file.metadata().entries()) out["metadata"][key] = value_json(value);
  }
  return out;
}

std::string facts_text(const GgufFile& file, const Facts& facts) {
  const ModelShape& shape = facts.shape;
  std::string out = fmt::format("{}\n", file.path().string());
  const auto row = [&out](const char* label, const std::string& text) {
    out += fmt::format("  {:<14}{}\n", label, text);
  };
  if (!facts.name.empty()) row("name", ruvltra::quoted(facts.name, 100));
  if (has_random_weights(file.metadata()))
    row("note", "random weights: good for speed and plumbing, not for text");
  row("architecture", fmt::format("qwen2, {} parameters, {}, {}", format_count(shape.n_parameters()),
                                  facts.quantisation, format_bytes(file.file_bytes())));
  row("layers", fmt::format("{}", shape.n_layers));
  row("width", fmt::format("{} model, {} feed-forward", shape.d_model, shape.d_ff));
  row("heads", fmt::format("{} query, {} key/value, {} wide", shape.n_heads, shape.n_kv_heads, shape.d_head));
  row("vocabulary", fmt::format("{} tokens, {} output", shape.n_vocab, shape.tied ? "tied" : "untied"));
  row("context", fmt::format("{} tokens, RoPE base {}", shape.context_length, shape.rope_theta));
  const char* label = "weights";
  for (const auto& [name, total] : facts.quant) {
    row(label, fmt::format("{:<5} {:>4} tensors {:>9}", name, total.tensors, format_bytes(total.bytes)));
    label = "";
  }
  row("KV cache",
      fmt::format("{} bytes per token ({})", facts.kv_bytes_per_token, kv_type_name(facts.kv_type)));
  row("memory",
      fmt::format("{} for a context of {}: weights {}, KV {}, scratch {}", format_bytes(facts.memory.total()),
                  facts.n_context, format_bytes(facts.memory.weights_bytes),
                  format_bytes(facts.memory.kv_bytes), format_bytes(facts.memory.scratch_bytes)));
  if (facts.sha256) row("SHA-256", fmt::format("{} (every scale and value finite)", *facts.sha256));
  return out;
}

Result<int> show(const Options& options) {
  ASSIGN_OR_RETURN(const auto path, resolve_model(options.model));
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(path));
  for (const std::string& warning : file.warnings()) print_warning(warning);
  ASSIGN_OR_RETURN(const Facts facts, collect(file, options));
  if (options.json) {
    print("{}\n", to_json(facts_json(file, facts, options)));
    return kExitOk;
  }
  if (options.chat_template) {
    const auto source = file.metadata().get_string("tokenizer.chat_template");
    if (!source)
      return fail("show.no_template", "{}: expected tokenizer.chat_template, found none", path.string());
    write_out(std::string(*source) + "\n");
    return kExitOk;
  }
  std::string out = options.tensors || options.metadata ? "" : facts_text(file, facts);
  if (options.metadata) {
    for (const auto& [key, value] : file.metadata().entries()) {
      out += fmt::format("{:<42} {:<16} {}\n", key, type_name(value), value_text(value));
    }
  }
  if (options.tensors) {
    for (const TensorInfo& tensor : file.tensors()) {
      out += fmt::format("{:<32} {:<5} {:>16} {:>12}\n", tensor.name, format_of(tensor.type).name,
                         dims_text(tensor.dims), tensor.n_bytes);
    }
  }
  write_out(out);
  return kExitOk;
}

}  // namespace

void add_show_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb("show", "What a model file holds and what it needs",
                                   "  ruvltra show\n"
                                   "  ruvltra show model.gguf --ctx 32768\n"
                                   "  ruvltra show model.gguf --tensors\n"
                                   "  ruvltra show model.gguf --verify --json\n",
                                   [options] { return show(*options); });
  app.add_option("FILE,-m,--model", options->model, "Model file (GGUF), or demo for the bundled one")
      ->type_name("");
  app.add_option("-c,--ctx", options->ctx,
                 "Context the memory is computed for; 0 = min(8192, what the file says)")
      ->check(in_range(0, 1 << 20))
      ->type_name("N");
  add_kv_type_option(app, options->kv_type);
  app.add_flag("--tensors", options->tensors, "List the tensors: name, type, K x rows, bytes");
  app.add_flag("--metadata", options->metadata, "List the metadata");
  app.add_flag("--template", options->chat_template, "Print the chat template");
  app.add_flag("--verify", options->verify, "Read everything: SHA-256, and every scale finite");
  app.add_flag("--json", options->json, "One JSON document");
  add_progress_option(app, options->no_progress);
}

}  // namespace ruvltra
