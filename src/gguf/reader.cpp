#include "gguf/reader.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/fail.h"
#include "gguf/header.h"

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSplitNumberKey = "split.no";
constexpr std::string_view kSplitCountKey = "split.count";
constexpr std::string_view kSplitTensorsKey = "split.tensors.count";
constexpr uint64_t kMaxParts = 1000;

struct Split {
  uint64_t number = 0;
  uint64_t n_parts = 1;
  uint64_t n_tensors = 0;  // in all parts
};

Result<Split> read_split(const Metadata& metadata) {
  Split split;
  if (!metadata.contains(kSplitCountKey)) return split;
  ASSIGN_OR_RETURN(split.n_parts, metadata.get_uint(kSplitCountKey, 0, kMaxParts));
  if (split.n_parts <= 1) return Split();
  ASSIGN_OR_RETURN(split.number, metadata.get_uint(kSplitNumberKey, 0, split.n_parts - 1));
  ASSIGN_OR_RETURN(split.n_tensors, metadata.get_uint(kSplitTensorsKey, 0, kMaxParts * kGgufMaxEntries));
  return split;
}

std::string part_suffix(uint64_t number, uint64_t n_parts) {
  return fmt::format("-{:05}-of-{:05}.gguf", number + 1, n_parts);
}

// The path of a set up to the part number; gguf.split_first or gguf.split_name if `path` is not its first
// part.
Result<std::string> split_prefix(const fs::path& path, const Split& split) {
  const std::string name = path.string();
  if (split.number != 0) {
    return fail("gguf.split_first", "{}: expected the first part of a split set, found part {} of {}", name,
                split.number + 1, split.n_parts);
  }
  const std::string suffix = part_suffix(0, split.n_parts);
  if (!name.ends_with(suffix)) {
    return fail("gguf.split_name", "{}: expected a name ending in \"{}\" for a set of {} parts", name, suffix,
                split.n_parts);
  }
  return name.substr(0, name.size() - suffix.size());
}

struct Part {
  InputFile file;
  std::optional<MappedFile> map;
};

Result<Part> open_part(const fs::path& path, bool map) {
  ASSIGN_OR_RETURN(auto file, InputFile::open(path));
  Part part{std::move(file), std::nullopt};
  if (map) {
    ASSIGN_OR_RETURN(part.map, MappedFile::open(part.file));
  }
  return part;
}

}  // namespace

struct GgufFile::Impl {
  fs::path path;
  bool map = false;
  uint32_t version = kGgufVersion;
  uint64_t file_bytes = 0;
  std::vector<Part> parts;
  Metadata metadata;
  std::vector<TensorInfo> tensors;
  std::vector<size_t> by_name;  // indices of tensors, sorted by name
  std::vector<std::string> warnings;

  // Opens one file, appends its tensors and gives its metadata.
  Result<GgufHeader> add_part(const fs::path& part_path);
  Result<void> add_other_parts(const Split& split);
  Result<void> index_names();
};

Result<GgufHeader> GgufFile::Impl::add_part(const fs::path& part_path) {
  ASSIGN_OR_RETURN(auto part, open_part(part_path, map));
  ASSIGN_OR_RETURN(auto header, read_gguf_header(part.file));
  for (TensorInfo& tensor : header.tensors) {
    tensor.part = parts.size();
    tensors.push_back(std::move(tensor));
  }
  warnings.insert(warnings.end(), header.warnings.begin(), header.warnings.end());
  file_bytes += part.file.size();
  parts.push_back(std::move(part));
  return header;
}

Result<void> GgufFile::Impl::add_other_parts(const Split& split) {
  ASSIGN_OR_RETURN(const auto prefix, split_prefix(path, split));
  for (uint64_t number = 1; number < split.n_parts; ++number) {
    const fs::path part_path = prefix + part_suffix(number, split.n_parts);
    auto header = add_part(part_path);
    if (!header && header.error().id == "file.not_found") {
      return fail(ErrorKind::kIo, "gguf.split_missing",
                  "{}: expected part {} of {} of this split set, found no file", part_path.string(),
                  number + 1, split.n_parts);
    }
    RETURN_IF_ERROR(header);
    ASSIGN_OR_RETURN(const auto found, read_split(header->metadata));
    if (found.n_parts != split.n_parts || found.number != number || found.n_tensors != split.n_tensors) {
      return fail("gguf.split_mismatch",
                  "{}: split: expected part {} of {} with {} tensors in all, found part {} of {} with {}",
                  part_path.string(), number + 1, split.n_parts, split.n_tensors, found.number + 1,
                  found.n_parts, found.n_tensors);
    }
  }
  if (tensors.size() != split.n_tensors) {
    return fail("gguf.split_tensors", "{}: {}: expected {} tensors in {} parts, found {}", path.string(),
                kSplitTensorsKey, split.n_tensors, split.n_parts, tensors.size());
  }
  return {};
}

// Each part has unique names already; a set must, too.
Result<void> GgufFile::Impl::index_names() {
  by_name.resize(tensors.size());
  std::iota(by_name.begin(), by_name.end(), size_t{0});
  std::sort(by_name.begin(), by_name.end(),
            [&](size_t a, size_t b) { return tensors[a].name < tensors[b].name; });
  const auto twin = std::adjacent_find(
      by_name.begin(), by_name.end(), [&](size_t a, size_t b) { return tensors[a].name == tensors[b].name; });
  if (twin != by_name.end()) {
    return fail("gguf.tensor_duplicate", "{}: tensor {}: expected in one part, found in two", path.string(),
                ruvltra::quoted(tensors[*twin].name));
  }
  return {};
}

Result<GgufFile> GgufFile::open(const fs::path& path, Options options) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->map = options.map;
  ASSIGN_OR_RETURN(auto header, impl->add_part(path));
  impl->version = header.version;
  impl->metadata = std::move(header.metadata);
  ASSIGN_OR_RETURN(const auto split, read_split(impl->metadata));
  if (split.n_parts > 1) RETURN_IF_ERROR(impl->add_other_parts(split));
  for (const auto key : {kSplitNumberKey, kSplitCountKey, kSplitTensorsKey}) impl->metadata.erase(key);
  RETURN_IF_ERROR(impl->index_names());
  return GgufFile(std::move(impl));
}

GgufFile::GgufFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GgufFile::GgufFile(GgufFile&&) noexcept = default;
GgufFile& GgufFile::operator=(GgufFile&&) noexcept = default;
GgufFile::~GgufFile() = default;

const fs::path& GgufFile::path() const { return impl_->path; }
uint32_t GgufFile::version() const { return impl_->version; }
uint64_t GgufFile::file_bytes() const { return impl_->file_bytes; }
size_t GgufFile::n_parts() const { return impl_->parts.size(); }
const InputFile& GgufFile::part(size_t index) const { return impl_->parts[index].file; }
const Metadata& GgufFile::metadata() const { return impl_->metadata; }
std::span<const TensorInfo> GgufFile::tensors() const { return impl_->tensors; }
std::span<const std::string> GgufFile::warnings() const { return impl_->warnings; }

const TensorInfo* GgufFile::find(std::string_view name) const {
  const auto& tensors = impl_->tensors;
  const auto found =
      std::lower_bound(impl_->by_name.begin(), impl_->by_name.end(), name,
                       [&](size_t index, std::string_view wanted) { return tensors[index].name < wanted; });
  if (found == impl_->by_name.end() || tensors[*found].name != name) return nullptr;
  return &tensors[*found];
}

Result<void> GgufFile::read(const TensorInfo& tensor, uint64_t begin, std::span<uint8_t> out) const {
  CHECK(Extent::within(begin, out.size(), tensor.n_bytes));
  const Part& part = impl_->parts[tensor.part];
  if (!part.map) return part.file.read_at(tensor.offset + begin, out);
  const auto bytes = mapped(tensor).subspan(begin, out.size());
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return {};
}

std::span<const uint8_t> GgufFile::mapped(const TensorInfo& tensor) const {
  const Part& part = impl_->parts[tensor.part];
  if (!part.map) return {};
  return part.map->bytes().subspan(tensor.offset, tensor.n_bytes);
}

void GgufFile::release(const TensorInfo& tensor) const {
  const Part& part = impl_->parts[tensor.part];
  if (part.map) part.map->release(tensor.offset, tensor.n_bytes);
}

}  // namespace ruvltra
