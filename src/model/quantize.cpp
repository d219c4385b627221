#include "model/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/check.h"
#include "base/fail.h"
#include "gguf/writer.h"

namespace ruvltra {
namespace {

constexpr uint64_t kChunkElements = uint64_t{1} << 18;  // per task; whole rows, at least one
constexpr size_t kTasksPerThread = 8;                   // between two looks at the progress callback

bool is_quantized(TensorType type) { return format_of(type).block_elements > 1; }

// One tensor's conversion, cut into runs of whole rows.
class TensorJob {
 public:
  TensorJob(const WeightSource& source, size_t index, const TensorConversion& conversion,
            const float* importance)
      : source_(source),
        index_(index),
        from_(format_of(conversion.from)),
        to_(format_of(conversion.to)),
        name_(conversion.name),
        row_(conversion.dims[0]),
        n_rows_(source.tensors()[index].n_elements() / row_),
        rows_per_chunk_(std::clamp<uint64_t>(kChunkElements / row_, 1, n_rows_)),
        importance_(importance),
        parts_((n_rows_ + rows_per_chunk_ - 1) / rows_per_chunk_) {}

  size_t n_chunks() const { return parts_.size(); }
  uint64_t chunk_end_bytes(size_t chunk) const {
    return from_.row_bytes(row_) * std::min(n_rows_, (chunk + 1) * rows_per_chunk_);
  }

  Result<void> convert(size_t chunk, GgufWriter& writer) {
    const uint64_t first = chunk * rows_per_chunk_, rows = std::min(rows_per_chunk_, n_rows_ - first);
    std::vector<uint8_t> stored(rows * from_.row_bytes(row_));
    RETURN_IF_ERROR(source_.read(index_, first * from_.row_bytes(row_), stored));
    if (from_.type == to_.type) {
      if (!from_.is_finite(stored.data(), rows * row_)) return not_finite(first, rows);
      return writer.write(index_, first * to_.row_bytes(row_), stored);
    }
    std::vector<uint8_t> encoded(rows * to_.row_bytes(row_));
    std::vector<float> values(row_), restored(row_);
    for (uint64_t r = 0; r < rows; ++r) {
      from_.decode(stored.data() + r * from_.row_bytes(row_), values.data(), row_);
      if (!std::ranges::all_of(values, [](float v) { return std::isfinite(v); }))
        return not_finite(first + r, 1);
      uint8_t* blocks = encoded.data() + r * to_.row_bytes(row_);
      to_.encode(values.data(), blocks, row_, importance_);
      to_.decode(blocks, restored.data(), row_);
      parts_[chunk].add(values, restored);
    }
    return writer.write(index_, first * to_.row_bytes(row_), encoded);
  }

  // Sums in the order of the rows, so that the figures do not depend on threads either.
  void report(TensorConversion& conversion) const {
    Part sum;
    for (const Part& part : parts_) {
      sum.errors += part.errors;
      sum.squares += part.squares;
    }
    const auto n = static_cast<double>(n_rows_ * row_);
    conversion.rmse = std::sqrt(sum.errors / n);
    conversion.rel_rmse.reset();
    if (from_.type == to_.type) {
      conversion.rel_rmse = 0;
    } else if (sum.squares > 0) {
      conversion.rel_rmse = std::sqrt(sum.errors / sum.squares);
    }
  }

 private:
  struct Part {
    double errors = 0;   // sum of squared differences
    double squares = 0;  // sum of squared source weights
    void add(std::span<const float> values, std::span<const float> restored) {
      for (size_t i = 0; i < values.size(); ++i) {
        const double value = values[i], difference = value - restored[i];
        errors += difference * difference;
        squares += value * value;
      }
    }
  };

  tl::unexpected<Error> not_finite(uint64_t row, uint64_t rows) const {
    return fail("quantize.not_finite",
                "{}: tensor {}: rows {}..{}: expected finite weights, found NaN or infinity",
                source_.metadata().source(), ruvltra::quoted(name_), row, row + rows - 1);
  }

  const WeightSource& source_;
  const size_t index_;
  const Format& from_;
  const Format& to_;
  const std::string& name_;
  const uint64_t row_;
  const uint64_t n_rows_;
  const uint64_t rows_per_chunk_;
  const float* importance_;
  std::vector<Part> parts_;
};

Result<void> run_job(TensorJob& job, GgufWriter& writer, ThreadPool& pool, const Progress& progress,
                     uint64_t bytes_before, uint64_t bytes_total) {
  const size_t batch = static_cast<size_t>(pool.n_threads()) * kTasksPerThread;
  for (size_t begin = 0; begin < job.n_chunks(); begin += batch) {
    const size_t n = std::min(batch, job.n_chunks() - begin);
    std::vector<Result<void>> results(n);
    pool.parallel_for(n, [&](size_t task, int) { results[task] = job.convert(begin + task, writer); });
    for (Result<void>& result : results) RETURN_IF_ERROR(std::move(result));
    if (progress && !progress(bytes_before + job.chunk_end_bytes(begin + n - 1), bytes_total)) {
      return fail(ErrorKind::kCancelled, "quantize.cancelled", "quantize: stopped on request");
    }
  }
  return {};
}

}  // namespace

Result<QuantizePlan> plan_quantization(const WeightSource& source, const QuantizeOptions& options) {
  QuantizePlan plan;
  plan.metadata = source.metadata();
  plan.metadata.set("general.quantization_version", uint32_t{2});
  plan.metadata.set("general.file_type", options.scheme.file_type);
  plan.metadata.erase("ruvltra.quant");
  if (options.scheme.mixed) plan.metadata.set("ruvltra.quant", std::string("mixed"));

  const PolicyInput policy{options.scheme, options.rules, options.pure, source.shape().n_layers,
                           source.shape().tied};
  std::map<std::pair<TensorType, TensorType>, size_t> fallbacks;
  for (const SourceTensor& tensor : source.tensors()) {
    const TypeChoice choice = choose_type(policy, tensor.name, tensor.dims);
    if (choice.type != choice.wished) ++fallbacks[{choice.wished, choice.type}];
    if (is_quantized(tensor.type) && tensor.type != choice.type && !options.allow_requantize) {
      return fail(
          ErrorKind::kUsage, "quantize.requantize",
          "{}: tensor {}: expected F32, F16 or BF16 weights, found {} (--allow-requantize converts them all "
          "the same, at a loss)",
          source.metadata().source(), ruvltra::quoted(tensor.name), format_of(tensor.type).name);
    }
    const uint64_t n_bytes = format_of(choice.type).row_bytes(tensor.n_elements());
    plan.tensors.push_back({tensor.name, tensor.dims, tensor.type, choice.type, n_bytes, 0, std::nullopt});
    plan.n_elements += tensor.n_elements();
    plan.n_tensor_bytes += n_bytes;
  }
  for (const auto& [types, count] : fallbacks) {
    plan.warnings.push_back(fmt::format(
        "{} tensors become {} instead of {}: their rows are not a multiple of {}", count,
        format_of(types.second).name, format_of(types.first).name, format_of(types.first).block_elements));
  }
  return plan;
}

Result<uint64_t> quantize(const WeightSource& source, QuantizePlan& plan, const std::filesystem::path& out,
                          const QuantizeRun& run, ThreadPool& pool) {
  CHECK(plan.tensors.size() == source.tensors().size());
  if (run.importance != nullptr) RETURN_IF_ERROR(run.importance->check(source));
  std::vector<TensorPlan> layout;
  uint64_t bytes_total = 0;
  for (const SourceTensor& tensor : source.tensors()) bytes_total += tensor.n_bytes();
  for (const TensorConversion& tensor : plan.tensors) layout.push_back({tensor.name, tensor.to, tensor.dims});
  ASSIGN_OR_RETURN(GgufWriter writer,
                   GgufWriter::create(out, plan.metadata, std::move(layout), run.overwrite));

  uint64_t bytes_done = 0;
  for (size_t index = 0; index < plan.tensors.size(); ++index) {
    TensorConversion& conversion = plan.tensors[index];
    const std::vector<float>* columns =
        run.importance == nullptr ? nullptr : run.importance->find(conversion.name);
    TensorJob job(source, index, conversion, columns == nullptr ? nullptr : columns->data());
    RETURN_IF_ERROR(run_job(job, writer, pool, run.progress, bytes_done, bytes_total));
    job.report(conversion);
    bytes_done += source.tensors()[index].n_bytes();
    if (run.on_tensor) run.on_tensor(conversion);
  }
  RETURN_IF_ERROR(writer.finish());
  return writer.total_bytes();
}

}  // namespace ruvltra
