#include "model/quantize_imatrix.h"

#include <cmath>

#include "base/fail.h"
#include "gguf/reader.h"

namespace ruvltra {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
constexpr uint64_t kMaxColumns = uint64_t{1} << 24;

Result<std::vector<float>> read_floats(const GgufFile& file, const TensorInfo& tensor) {
  if (tensor.type != TensorType::kF32 || tensor.n_elements > kMaxColumns) {
    return fail("imatrix.tensor", "{}: tensor {}: expected at most {} F32 values, found {} of type {}",
                file.path().string(), ruvltra::quoted(tensor.name), kMaxColumns, tensor.n_elements,
                format_of(tensor.type).name);
  }
  std::vector<uint8_t> bytes(tensor.n_bytes);
  RETURN_IF_ERROR(file.read(tensor, 0, bytes));
  std::vector<float> values(tensor.n_elements);
  format_of(TensorType::kF32).decode(bytes.data(), values.data(), values.size());
  for (const float value : values) {
    if (std::isfinite(value) && value >= 0) continue;
    return fail("imatrix.tensor", "{}: tensor {}: expected finite values >= 0, found {}",
                file.path().string(), ruvltra::quoted(tensor.name), value);
  }
  return values;
}

}  // namespace

Result<ImportanceMatrix> ImportanceMatrix::load(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(path));
  ImportanceMatrix out;
  out.source_ = path.string();
  for (const TensorInfo& tensor : file.tensors()) {
    if (!tensor.name.ends_with(kSums)) continue;
    const std::string name = tensor.name.substr(0, tensor.name.size() - kSums.size());
    const TensorInfo* counts_tensor = file.find(name + std::string(kCounts));
    if (counts_tensor == nullptr) {
      return fail("imatrix.tensor", "{}: tensor {}: expected beside {}, not found", out.source_,
                  ruvltra::quoted(name + std::string(kCounts)), ruvltra::quoted(tensor.name));
    }
    ASSIGN_OR_RETURN(std::vector<float> sums, read_floats(file, tensor));
    ASSIGN_OR_RETURN(const std::vector<float> counts, read_floats(file, *counts_tensor));
    if (counts.size() != 1) {
      return fail("imatrix.tensor", "{}: tensor {}: expected 1 count, found {}", out.source_,
                  ruvltra::quoted(counts_tensor->name), counts.size());
    }
    if (counts[0] == 0) continue;  // never used: says nothing
    for (float& sum : sums) sum /= counts[0];
    out.columns_.emplace(name, std::move(sums));
  }
  if (out.columns_.empty()) {
    return fail("imatrix.tensor", "{}: expected tensors NAME{} and NAME{}, found none", out.source_, kSums,
                kCounts);
  }
  return out;
}

const std::vector<float>* ImportanceMatrix::find(std::string_view tensor) const {
  const auto found = columns_.find(tensor);
  return found == columns_.end() ? nullptr : &found->second;
}

Result<void> ImportanceMatrix::check(const WeightSource& model) const {
  size_t n_known = 0;
  for (const SourceTensor& tensor : model.tensors()) {
    const std::vector<float>* columns = find(tensor.name);
    if (columns == nullptr) continue;
    ++n_known;
    if (columns->size() == tensor.dims[0]) continue;
    return fail("imatrix.shape", "{}: tensor {}: expected {} columns as in the model, found {}", source_,
                ruvltra::quoted(tensor.name), tensor.dims[0], columns->size());
  }
  if (n_known > 0) return {};
  return fail("imatrix.tensor", "{}: expected columns for tensors of {}, found none of its names", source_,
              model.metadata().source());
}

}  // namespace ruvltra
