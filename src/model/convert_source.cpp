#include "model/convert_source.h"

#include <utility>

#include "base/fail.h"
#include "gguf/reader.h"
#include "model/hf_import.h"

namespace ruvltra {
namespace {

class GgufSource : public WeightSource {
 public:
  static Result<std::unique_ptr<WeightSource>> open(const std::filesystem::path& path) {
    ASSIGN_OR_RETURN(GgufFile file, GgufFile::open(path));
    std::unique_ptr<GgufSource> source(new GgufSource(std::move(file)));
    RETURN_IF_ERROR(source->read_header());
    return source;
  }

  Result<void> read(size_t tensor, uint64_t begin, std::span<uint8_t> out) const override {
    return file_.read(file_.tensors()[tensor], begin, out);
  }

 private:
  explicit GgufSource(GgufFile file) : file_(std::move(file)) {}

  Result<void> read_header() {
    ASSIGN_OR_RETURN(shape_, ModelShape::from_file(file_));
    RETURN_IF_ERROR(check_tensors(shape_, path_text(), file_.tensors()));
    metadata_ = file_.metadata();
    for (const char* key : {"split.no", "split.count", "split.tensors.count"}) metadata_.erase(key);
    for (const TensorInfo& tensor : file_.tensors())
      tensors_.push_back({tensor.name, tensor.type, tensor.dims});
    warnings_.assign(file_.warnings().begin(), file_.warnings().end());
    return {};
  }
  std::string path_text() const { return file_.path().string(); }

  GgufFile file_;
};

}  // namespace

Result<std::unique_ptr<WeightSource>> WeightSource::open(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return open_hf_folder(path);
  return GgufSource::open(path);
}

}  // namespace ruvltra
