#include "bench_report.h"

#include <cmath>
#include <fstream>
#include <utility>

#include "console.h"
#include "verbs.h"

namespace ruvltra {
namespace {

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string model_type(const LoadedWeights& model) {
  return fmt::format("qwen2 {}L {}", model.weights.shape.n_layers, quantisation_name(model.file));
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace

void print_csv(const Json& document, bool with_names) {
  std::vector<std::string> names;
  std::vector<std::string> values;
  for (const auto& [name, value] : document.items()) {
    names.push_back(name);
    std::string text = value.is_null() ? "" : value.is_string() ? value.get<std::string>() : to_json(value);
    for (size_t i = text.find('"'); i != std::string::npos; i = text.find('"', i + 2)) text.insert(i, 1, '"');
    values.push_back('"' + text + '"');
  }
  if (with_names) write_out(fmt::format("{}\n", fmt::join(names, ",")));
  write_out(fmt::format("{}\n", fmt::join(values, ",")));
}

// Fields of llama-bench that mean nothing here are null.
Json BenchReport::document(const BenchMeasurement& m) const {
  std::vector<double> nanoseconds;
  for (const double s : m.seconds) nanoseconds.push_back(1e9 * s);
  Json out;
  out["build_commit"] = build_commit().empty() ? Json(nullptr) : Json(build_commit());
  out["build_number"] = nullptr;
  out["cpu_info"] = cpu_name();
  out["gpu_info"] = "";
  out["backends"] = "CPU";
  out["model_filename"] = model_.file.path().string();
  out["model_type"] = model_type(model_);
  out["model_size"] = model_.file.file_bytes();
  out["model_n_params"] = model_.weights.shape.n_parameters();
  out["n_batch"] = kPrefillRows;
  out["n_ubatch"] = kPrefillRows;
  out["n_threads"] = m.test.n_threads;
  out["cpu_mask"] = nullptr;
  out["cpu_strict"] = nullptr;
  out["poll"] = nullptr;
  out["type_k"] = kv_type_name(model_.kv_type);
  out["type_v"] = kv_type_name(model_.kv_type);
  out["n_gpu_layers"] = 0;
  out["split_mode"] = nullptr;
  out["main_gpu"] = nullptr;
  out["no_kv_offload"] = nullptr;
  out["flash_attn"] = true;
  out["tensor_split"] = nullptr;
  out["use_mmap"] = use_mmap_;
  out["embeddings"] = false;
  out["n_prompt"] = m.test.n_prompt;
  out["n_gen"] = m.test.n_generate;
  out["n_depth"] = m.test.n_depth;
  out["test_time"] = m.time;
  out["avg_ns"] = std::llround(mean_of(nanoseconds));
  out["stddev_ns"] = std::llround(deviation(nanoseconds));
  out["avg_ts"] = mean_of(m.rates());
  out["stddev_ts"] = deviation(m.rates());
  out["isa"] = model_.ctx.kernels->isa;
  out["peak_rss_bytes"] = m.peak_bytes;
  out["read_bw_gbs"] = m.bandwidth() / 1e9;
  out["pct_roofline"] = or_null(m.share_of_bandwidth());
  out["n_seqs"] = m.test.n_sequences;
  out["n_per_step"] = m.test.n_per_step;
  out["step_ms"] = m.test.is_decode() ? Json(1e3 * m.mean_step_seconds()) : Json(nullptr);
  out["step_ratio"] = or_null(m.step_ratio);
  out["samples_ts"] = m.rates();
  return out;
}

void BenchReport::begin() {
  if (form_ == "md") {
    print("| model | size | params | backend | threads | test | t/s |\n|---|---:|---:|---|---:|---|---:|\n");
  }
  if (form_ == "json") list_ = Json::array();
}

void BenchReport::add(const BenchMeasurement& measurement) {
  if (form_ == "md") return add_md(measurement);
  const Json fields = document(measurement);
  if (form_ == "json") list_.push_back(fields);
  if (form_ == "jsonl") print("{}\n", to_json(fields));
  if (form_ == "csv") print_csv(fields, !std::exchange(headed_, true));
}

void BenchReport::add_md(const BenchMeasurement& m) {
  print("| {} | {} | {} | CPU | {} | {} | {:.2f} ± {:.2f} |\n", model_type(model_),
        format_bytes(model_.file.file_bytes()), format_count(model_.weights.shape.n_parameters()),
        m.test.n_threads, m.test.name(), mean_of(m.rates()), deviation(m.rates()));
  const auto share = m.share_of_bandwidth();
  if (!share) return;
  if (m.test.tokens_per_step() > 1) {
    steps_ += fmt::format("| {} | {} | {:.1f} | {:.2f} | {:.0f} |\n", m.test.n_threads, m.test.name(),
                          1e3 * m.mean_step_seconds(), m.step_ratio.value_or(0), *share);
    return;
  }
  remarks_ += fmt::format(
      "{} on {} threads reads {} per token, {:.1f} ms: {:.0f} % of the {:.1f} GB/s measured beside it\n",
      m.test.name(), m.test.n_threads, format_bytes(m.bytes_per_step), 1e3 * m.mean_step_seconds(), *share,
      m.bandwidth() / 1e9);
}

void BenchReport::end() {
  if (form_ == "md") {
    if (!steps_.empty()) {
      print("\n| threads | test | ms per step | x a 1-token step | % of read bandwidth |\n");
      print("|---:|---|---:|---:|---:|\n{}", steps_);
    }
    print("\n{}{} | {}\n", remarks_, version_line(), model_.ctx.kernels->isa);
  }
  if (form_ == "json") print("{}\n", to_json(list_));
}

}  // namespace ruvltra
