// Conversion of a model to other block formats.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "model/convert_source.h"
#include "model/quantize_imatrix.h"
#include "model/quantize_policy.h"

namespace ruvltra {

struct QuantizeOptions {
  QuantScheme scheme;
  std::vector<TypeRule> rules;
  bool pure = false;
  bool allow_requantize = false;  // from a block format to another one
};

// What becomes of one tensor.
struct TensorConversion {
  std::string name;
  std::vector<uint64_t> dims;
  TensorType from = TensorType::kF32;
  TensorType to = TensorType::kF32;
  uint64_t n_bytes = 0;            // after conversion
  double rmse = 0;                 // root mean square error against the source
  std::optional<double> rel_rmse;  // rmse / root mean square of the source; none if the source is all zeros
};

struct QuantizePlan {
  std::vector<TensorConversion> tensors;  // in the order of the source, errors still 0
  Metadata metadata;
  std::vector<std::string> warnings;  // one per kind of fallback
  uint64_t n_elements = 0;
  uint64_t n_tensor_bytes = 0;
  double bits_per_weight() const {
    return n_elements == 0 ? 0 : 8.0 * static_cast<double>(n_tensor_bytes) / static_cast<double>(n_elements);
  }
};
// Error: quantize.requantize (usage) if the source is quantized already and that was not allowed.
Result<QuantizePlan> plan_quantization(const WeightSource& source, const QuantizeOptions& options);

struct QuantizeRun {
  const ImportanceMatrix* importance = nullptr;
  bool overwrite = false;
  Progress progress;                                       // source bytes; may be empty
  std::function<void(const TensorConversion&)> on_tensor;  // after each, with its errors; may be empty
};
// Writes `out` and fills the errors in `plan`; returns the size of the file. The bytes do not depend on the
// number of threads. Memory: a few rows per thread. Errors: quantize.not_finite, quantize.cancelled and those
// of files.
Result<uint64_t> quantize(const WeightSource& source, QuantizePlan& plan, const std::filesystem::path& out,
                          const QuantizeRun& run, ThreadPool& pool);

}  // namespace ruvltra
