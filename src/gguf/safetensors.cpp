#include "gguf/safetensors.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/bytes.h"
#include "base/check.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxIndexBytes = uint64_t{16} << 20;
constexpr uint64_t kMaxIndexValues = 65'536;
constexpr size_t kMaxShards = 1'000;

// The shards of a set and how many tensors the index expects in each.
using WeightMap = std::map<std::string, std::vector<std::string>>;  // file name -> tensor names

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos &&
         name != "." && name != "..";
}

Result<WeightMap> read_index(const fs::path& path) {
  ASSIGN_OR_RETURN(const auto text, read_text_file(path, kMaxIndexBytes));
  const JsonLimits limits{.max_bytes = kMaxIndexBytes, .max_depth = 8, .max_values = kMaxIndexValues};
  ASSIGN_OR_RETURN(const auto index, parse_json(text, path.string(), limits));
  const auto list = index.is_object() ? index.find("weight_map") : index.end();
  if (list == index.end() || !list->is_object() || list->empty()) {
    return fail("safetensors.index", "{}: weight_map: expected an object of tensor names, found none",
                path.string());
  }
  WeightMap shards;
  for (const auto& [tensor, file] : list->items()) {
    if (!file.is_string() || !is_plain_file_name(file.get_ref<const std::string&>())) {
      return fail("safetensors.index_name",
                  "{}: weight_map {}: expected a file name without a folder, found {}", path.string(),
                  ruvltra::quoted(tensor), ruvltra::quoted(to_json(file)));
    }
    shards[file.get_ref<const std::string&>()].push_back(tensor);
  }
  if (shards.size() > kMaxShards) {
    return fail("safetensors.index", "{}: weight_map: expected at most {} files, found {}", path.string(),
                kMaxShards, shards.size());
  }
  return shards;
}

Result<SafetensorsHeader> read_header(const InputFile& file) {
  const std::string source = file.path().string();
  std::vector<uint8_t> bytes(std::min<uint64_t>(sizeof(uint64_t), file.size()));
  RETURN_IF_ERROR(file.read_at(0, bytes));
  ByteView view(bytes);
  // A length that is absent or too large leaves just these bytes to the parser, which names the fault.
  const auto end = checked_add(view.read<uint64_t>().value_or(0), sizeof(uint64_t));
  constexpr uint64_t kMaxRead = kSafetensorsMaxHeaderBytes + sizeof(uint64_t);
  if (end && *end <= std::min(file.size(), kMaxRead)) {
    bytes.resize(*end);
    RETURN_IF_ERROR(file.read_at(0, bytes));
  }
  return parse_safetensors_header(bytes, file.size(), source);
}

}  // namespace

struct SafetensorsFile::Impl {
  fs::path path;
  uint64_t file_bytes = 0;
  std::vector<InputFile> parts;
  std::vector<SafetensorsTensor> tensors;
  std::vector<size_t> by_name;  // indices of tensors, sorted by name

  Result<void> add_part(const fs::path& part_path);
  Result<void> add_shards(const WeightMap& shards);
  Result<void> index_names();
  const SafetensorsTensor* find(std::string_view name) const;
};

Result<void> SafetensorsFile::Impl::add_part(const fs::path& part_path) {
  ASSIGN_OR_RETURN(auto file, InputFile::open(part_path));
  ASSIGN_OR_RETURN(auto header, read_header(file));
  for (SafetensorsTensor& tensor : header.tensors) {
    tensor.part = parts.size();
    tensors.push_back(std::move(tensor));
  }
  file_bytes += file.size();
  parts.push_back(std::move(file));
  return {};
}

Result<void> SafetensorsFile::Impl::index_names() {
  by_name.resize(tensors.size());
  std::iota(by_name.begin(), by_name.end(), size_t{0});
  std::sort(by_name.begin(), by_name.end(),
            [&](size_t a, size_t b) { return tensors[a].name < tensors[b].name; });
  const auto twin = std::adjacent_find(
      by_name.begin(), by_name.end(), [&](size_t a, size_t b) { return tensors[a].name == tensors[b].name; });
  if (twin != by_name.end()) {
    return fail("safetensors.duplicate", "{}: tensor {}: expected in one shard, found in two", path.string(),
                ruvltra::quoted(tensors[*twin].name));
  }
  return {};
}

const SafetensorsTensor* SafetensorsFile::Impl::find(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name.begin(), by_name.end(), name,
                       [&](size_t index, std::string_view wanted) { return tensors[index].name < wanted; });
  if (found == by_name.end() || tensors[*found].name != name) return nullptr;
  return &tensors[*found];
}

Result<void> SafetensorsFile::Impl::add_shards(const WeightMap& shards) {
  for (const auto& [file_name, names] : shards) RETURN_IF_ERROR(add_part(path.parent_path() / file_name));
  RETURN_IF_ERROR(index_names());
  size_t part = 0;
  size_t n_listed = 0;
  for (const auto& [file_name, names] : shards) {
    for (const std::string& name : names) {
      const SafetensorsTensor* tensor = find(name);
      if (tensor == nullptr || tensor->part != part) {
        return fail("safetensors.index_missing", "{}: tensor {}: expected in {}, found {}", path.string(),
                    ruvltra::quoted(name), ruvltra::quoted(file_name),
                    tensor == nullptr ? "nowhere" : "elsewhere");
      }
    }
    n_listed += names.size();
    ++part;
  }
  if (n_listed != tensors.size()) {
    return fail("safetensors.index_extra", "{}: weight_map: expected all {} tensors of its files, found {}",
                path.string(), tensors.size(), n_listed);
  }
  return {};
}

Result<SafetensorsFile> SafetensorsFile::open(const fs::path& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    impl->path = path / "model.safetensors.index.json";
    if (!fs::exists(impl->path, ignored)) impl->path = path / "model.safetensors";
  }
  if (impl->path.extension() == ".json") {
    ASSIGN_OR_RETURN(const auto shards, read_index(impl->path));
    RETURN_IF_ERROR(impl->add_shards(shards));
  } else {
    RETURN_IF_ERROR(impl->add_part(impl->path));
    RETURN_IF_ERROR(impl->index_names());
  }
  return SafetensorsFile(std::move(impl));
}

SafetensorsFile::SafetensorsFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;
SafetensorsFile::~SafetensorsFile() = default;

const fs::path& SafetensorsFile::path() const { return impl_->path; }
uint64_t SafetensorsFile::file_bytes() const { return impl_->file_bytes; }
size_t SafetensorsFile::n_parts() const { return impl_->parts.size(); }
std::span<const SafetensorsTensor> SafetensorsFile::tensors() const { return impl_->tensors; }
const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const { return impl_->find(name); }

Result<void> SafetensorsFile::read(const SafetensorsTensor& tensor, uint64_t begin,
                                   std::span<uint8_t> out) const {
  CHECK(Extent::within(begin, out.size(), tensor.n_bytes));
  if (!tensor.type) {
    return fail(ErrorKind::kUnsupported, "safetensors.dtype",
                "{}: tensor {}: dtype: expected F32, F16 or BF16, found {}",
                impl_->parts[tensor.part].path().string(), ruvltra::quoted(tensor.name), tensor.dtype);
  }
  return impl_->parts[tensor.part].read_at(tensor.offset + begin, out);
}

}  // namespace ruvltra
