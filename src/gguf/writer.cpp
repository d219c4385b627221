#include "gguf/writer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/fail.h"
#include "base/file.h"
#include "gguf/layout.h"

namespace ruvltra {
namespace {

// The header, built in memory: a few megabytes for a full vocabulary.
class HeaderBuilder {
 public:
  template <class T>
  void number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    const auto bytes = std::bit_cast<std::array<uint8_t, sizeof(T)>>(value);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }

  void value(const std::string& text) {
    number<uint64_t>(text.size());
    bytes_.insert(bytes_.end(), text.begin(), text.end());
  }
  void value(bool flag) { number<uint8_t>(flag ? 1 : 0); }
  template <class T>
  void value(T x) {
    number<T>(x);
  }
  template <class T>
  void value(const std::vector<T>& array) {
    number<uint64_t>(array.size());
    for (const T& element : array) value(element);
  }

  void key_value(const std::string& key, const MetaValue& meta) {
    value(key);
    const size_t index = meta.index();
    if (index >= kGgufScalarTypes) number<uint32_t>(kGgufArrayType);
    number<uint32_t>(gguf_type_id(index % kGgufScalarTypes));
    std::visit([this](const auto& x) { value(x); }, meta);
  }

  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

struct PlacedTensor {
  uint64_t offset = 0;  // absolute
  uint64_t n_bytes = 0;
};

Result<void> check_metadata(const Metadata& metadata, const std::string& target) {
  if (metadata.size() >= kGgufMaxEntries) {
    return fail("gguf.kv_count", "{}: expected fewer than {} metadata entries, found {}", target,
                kGgufMaxEntries, metadata.size());
  }
  for (const auto& [key, value] : metadata.entries()) RETURN_IF_ERROR(check_gguf_key(key, target));
  return {};
}

Result<void> check_names(const std::vector<TensorPlan>& tensors, const std::string& target) {
  if (tensors.size() > kGgufMaxEntries) {
    return fail("gguf.tensor_count", "{}: expected at most {} tensors, found {}", target, kGgufMaxEntries,
                tensors.size());
  }
  std::vector<std::string_view> names;
  for (const TensorPlan& tensor : tensors) {
    RETURN_IF_ERROR(check_gguf_tensor_name(tensor.name, target));
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  if (twin != names.end()) {
    return fail("gguf.tensor_duplicate", "{}: tensor {}: expected one of this name, found two", target,
                ruvltra::quoted(*twin));
  }
  return {};
}

// Offsets relative to the data section, and its size.
Result<uint64_t> place(const std::vector<TensorPlan>& tensors, uint32_t alignment, const std::string& target,
                       std::vector<PlacedTensor>& placed) {
  std::optional<uint64_t> end = 0;
  for (const TensorPlan& tensor : tensors) {
    ASSIGN_OR_RETURN(const auto size,
                     gguf_tensor_size(tensor.name, format_of(tensor.type), tensor.dims, target));
    placed.push_back({*end, size.n_bytes});
    end = checked_add(*end, size.n_bytes);
    if (end) end = checked_align_up(*end, alignment);
    if (!end) {
      return fail("gguf.tensor_size", "{}: tensor {}: expected all tensors below 2^64 bytes, found more",
                  target, ruvltra::quoted(tensor.name));
    }
  }
  return *end;
}

void build_header(HeaderBuilder& header, const Metadata& metadata, const std::vector<TensorPlan>& tensors,
                  const std::vector<PlacedTensor>& placed, uint32_t alignment) {
  const bool names_alignment = alignment != kGgufDefaultAlignment;
  const uint64_t n_others = metadata.size() - (metadata.contains(kGgufAlignmentKey) ? 1 : 0);
  header.number<uint32_t>(kGgufMagic);
  header.number<uint32_t>(kGgufVersion);
  header.number<uint64_t>(tensors.size());
  header.number<uint64_t>(n_others + (names_alignment ? 1 : 0));
  if (names_alignment) header.key_value(std::string(kGgufAlignmentKey), alignment);
  for (const auto& [key, value] : metadata.entries()) {
    if (key != kGgufAlignmentKey) header.key_value(key, value);
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    header.value(tensors[i].name);
    header.number<uint32_t>(static_cast<uint32_t>(tensors[i].dims.size()));
    for (const uint64_t dim : tensors[i].dims) header.number<uint64_t>(dim);
    header.number<uint32_t>(static_cast<uint32_t>(tensors[i].type));
    header.number<uint64_t>(placed[i].offset);
  }
}

}  // namespace

struct GgufWriter::Impl {
  OutputFile file;
  std::string target;
  std::vector<TensorPlan> tensors;
  std::vector<PlacedTensor> placed;
  uint64_t total_bytes = 0;
  std::vector<std::atomic<uint64_t>> delivered;  // bytes of each tensor
};

Result<GgufWriter> GgufWriter::create(const std::filesystem::path& path, const Metadata& metadata,
                                      std::vector<TensorPlan> tensors, bool overwrite, uint32_t alignment) {
  const std::string target = path.string();
  if (!is_gguf_alignment(alignment)) {
    return fail("gguf.alignment", "{}: expected a power of two from {} to {}, found {}", target,
                kGgufMinAlignment, kGgufMaxAlignment, alignment);
  }
  RETURN_IF_ERROR(check_metadata(metadata, target));
  RETURN_IF_ERROR(check_names(tensors, target));
  std::vector<PlacedTensor> placed;
  ASSIGN_OR_RETURN(const auto data_bytes, place(tensors, alignment, target, placed));

  HeaderBuilder header;
  build_header(header, metadata, tensors, placed, alignment);
  auto& bytes = header.bytes();
  if (bytes.size() > kGgufMaxHeaderBytes) {
    return fail("gguf.metadata_size", "{}: expected a header of at most {} bytes, found {}", target,
                kGgufMaxHeaderBytes, bytes.size());
  }
  bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
  const auto total_bytes = checked_add(bytes.size(), data_bytes);
  if (!total_bytes)
    return fail("gguf.tensor_size", "{}: expected a file below 2^64 bytes, found more", target);
  for (PlacedTensor& tensor : placed) tensor.offset += bytes.size();

  ASSIGN_OR_RETURN(auto file, OutputFile::create(path, overwrite));
  RETURN_IF_ERROR(file.write_at(0, bytes));
  const size_t n_tensors = tensors.size();
  return GgufWriter(
      std::unique_ptr<Impl>(new Impl{std::move(file), target, std::move(tensors), std::move(placed),
                                     *total_bytes, std::vector<std::atomic<uint64_t>>(n_tensors)}));
}

GgufWriter::GgufWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GgufWriter::GgufWriter(GgufWriter&&) noexcept = default;
GgufWriter& GgufWriter::operator=(GgufWriter&&) noexcept = default;
GgufWriter::~GgufWriter() = default;

uint64_t GgufWriter::total_bytes() const { return impl_->total_bytes; }

Result<void> GgufWriter::write(size_t index, uint64_t begin, std::span<const uint8_t> bytes) {
  CHECK(index < impl_->placed.size());
  const PlacedTensor& tensor = impl_->placed[index];
  CHECK(Extent::within(begin, bytes.size(), tensor.n_bytes));
  RETURN_IF_ERROR(impl_->file.write_at(tensor.offset + begin, bytes));
  impl_->delivered[index] += bytes.size();
  return {};
}

Result<void> GgufWriter::finish() {
  uint64_t end = 0;
  for (size_t i = 0; i < impl_->placed.size(); ++i) {
    const PlacedTensor& tensor = impl_->placed[i];
    if (impl_->delivered[i] != tensor.n_bytes) {
      return fail("gguf.incomplete", "{}: tensor {}: expected {} bytes, found {} written", impl_->target,
                  ruvltra::quoted(impl_->tensors[i].name), tensor.n_bytes, impl_->delivered[i].load());
    }
    end = tensor.offset + tensor.n_bytes;
  }
  // Gaps between tensors read as zeros because the file starts empty; the end has to be written.
  if (end != 0 && end < impl_->total_bytes) {
    const std::vector<uint8_t> padding(impl_->total_bytes - end);
    RETURN_IF_ERROR(impl_->file.write_at(end, padding));
  }
  return impl_->file.commit();
}

}  // namespace ruvltra
