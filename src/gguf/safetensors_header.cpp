#include <algorithm>
#include <array>
#include <new>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/fail.h"
#include "gguf/safetensors.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxTensors = 65'536;
constexpr size_t kMaxMetadata = 4'096;
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxNameBytes = 1'024;
constexpr std::string_view kMetadataName = "__metadata__";

struct Dtype {
  std::string_view name;
  uint64_t n_bytes;
  std::optional<TensorType> type;
};
constexpr std::array<Dtype, 15> kDtypes = {{
    {"F32", 4, TensorType::kF32},
    {"F16", 2, TensorType::kF16},
    {"BF16", 2, TensorType::kBF16},
    {"F64", 8, {}},
    {"F8_E4M3", 1, {}},
    {"F8_E5M2", 1, {}},
    {"I64", 8, {}},
    {"I32", 4, {}},
    {"I16", 2, {}},
    {"I8", 1, {}},
    {"U64", 8, {}},
    {"U32", 4, {}},
    {"U16", 2, {}},
    {"U8", 1, {}},
    {"BOOL", 1, {}},
}};

// Receives the header's JSON event by event: the grammar is flat, so no tree of values is ever built and
// memory follows the tensors. Returning false stops the parser.
class HeaderEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderEvents(const std::string& source, SafetensorsHeader& header) : source_(source), header_(header) {}

  const std::optional<Error>& error() const { return error_; }

  bool start_object(size_t) override {
    if (place_ == Place::kStart) return move(Place::kTop);
    if (place_ != Place::kEntry) return unexpected("an object");
    if (name_ == kMetadataName && !has_metadata_) {
      has_metadata_ = true;
      return move(Place::kMetadata);
    }
    if (name_ == kMetadataName) return unexpected("a second one");
    if (header_.tensors.size() >= kMaxTensors) {
      return stop(fail("safetensors.tensor_count", "{}: expected at most {} tensors, found more", source_,
                       kMaxTensors));
    }
    tensor_ = {};
    tensor_.name = name_;
    n_offsets_ = 0;
    has_shape_ = false;
    return move(Place::kTensor);
  }

  bool end_object() override {
    if (place_ == Place::kTop) return move(Place::kEnd);
    if (place_ == Place::kTensor && !finish_tensor()) return false;
    return move(Place::kTop);
  }

  bool key(string_t& name) override {
    if (place_ == Place::kTop) {
      if (name.size() > kMaxNameBytes || name.empty()) {
        return stop(fail("safetensors.name", "{}: tensor name: expected 1 to {} bytes, found {}: {}", source_,
                         kMaxNameBytes, name.size(), ruvltra::quoted(name)));
      }
      name_ = std::move(name);
      return move(Place::kEntry);
    }
    if (place_ == Place::kMetadata) {
      metadata_key_ = std::move(name);
      return move(Place::kMetadataValue);
    }
    if (name == "dtype" && tensor_.dtype.empty()) return move(Place::kDtype);
    if (name == "shape" && !has_shape_) return move(Place::kShape);
    if (name == "data_offsets" && n_offsets_ == 0) return move(Place::kOffsets);
    return unexpected(fmt::format("key {}", ruvltra::quoted(name)));
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadataValue) {
      if (header_.metadata.size() >= kMaxMetadata) {
        return stop(fail("safetensors.metadata", "{}: expected at most {} metadata entries, found more",
                         source_, kMaxMetadata));
      }
      header_.metadata.emplace_back(std::move(metadata_key_), std::move(text));
      return move(Place::kMetadata);
    }
    if (place_ != Place::kDtype) return unexpected("a string");
    const auto dtype =
        std::find_if(kDtypes.begin(), kDtypes.end(), [&](const Dtype& known) { return known.name == text; });
    if (dtype == kDtypes.end()) {
      return stop(fail(ErrorKind::kUnsupported, "safetensors.dtype",
                       "{}: tensor {}: dtype: expected F32, F16 or BF16, found {}", source_,
                       ruvltra::quoted(name_), ruvltra::quoted(text)));
    }
    tensor_.dtype = dtype->name;
    tensor_.type = dtype->type;
    element_bytes_ = dtype->n_bytes;
    return move(Place::kTensor);
  }

  bool start_array(size_t) override {
    if (place_ == Place::kShape) return move(Place::kShapeItems);
    if (place_ == Place::kOffsets) return move(Place::kOffsetItems);
    return unexpected("an array");
  }

  bool number_unsigned(number_unsigned_t number) override {
    if (place_ == Place::kShapeItems && tensor_.shape.size() < kMaxRank) {
      tensor_.shape.push_back(number);
      return true;
    }
    if (place_ == Place::kOffsetItems && n_offsets_ < offsets_.size()) {
      offsets_[n_offsets_++] = number;
      return true;
    }
    return unexpected("a number");
  }

  bool end_array() override {
    if (place_ == Place::kShapeItems) has_shape_ = true;
    if (place_ == Place::kOffsetItems && n_offsets_ != offsets_.size()) return unexpected("too few offsets");
    return move(Place::kTensor);
  }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a fraction"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return stop(fail("safetensors.json",
                     "{}: header: expected a JSON object, found an error at byte {} of it", source_,
                     position));
  }

 private:
  enum class Place {
    kStart,          // before the outer object
    kTop,            // in it, before a name
    kEntry,          // after a name
    kMetadata,       // in "__metadata__", before a key
    kMetadataValue,  // after such a key
    kTensor,         // in a tensor's object, before a key
    kDtype,          // after "dtype"
    kShape,          // after "shape"
    kShapeItems,     // in its array
    kOffsets,        // after "data_offsets"
    kOffsetItems,    // in its array
    kEnd,
  };

  bool move(Place place) {
    place_ = place;
    return true;
  }
  bool stop(tl::unexpected<Error> failure) {
    error_ = std::move(failure.value());
    return false;
  }
  bool unexpected(std::string_view found) {
    return stop(fail(
        "safetensors.header",
        "{}: header entry {}: expected {{dtype: string, shape: [integers], data_offsets: [begin, end]}}, "
        "found {}",
        source_, ruvltra::quoted(name_), found));
  }

  bool finish_tensor() {
    if (tensor_.dtype.empty() || !has_shape_ || n_offsets_ == 0) return unexpected("an incomplete entry");
    std::optional<uint64_t> n_elements = 1;
    for (const uint64_t dim : tensor_.shape) {
      if (n_elements) n_elements = checked_mul(*n_elements, dim);
    }
    const auto n_bytes = n_elements ? checked_mul(*n_elements, element_bytes_) : std::nullopt;
    if (!n_bytes) {
      return stop(fail("safetensors.shape",
                       "{}: tensor {}: expected a size below 2^64 bytes, found shape [{}]", source_,
                       ruvltra::quoted(name_), fmt::join(tensor_.shape, ", ")));
    }
    if (offsets_[0] > offsets_[1]) {
      return stop(fail("safetensors.offsets", "{}: tensor {}: expected begin <= end, found [{}, {}]", source_,
                       ruvltra::quoted(name_), offsets_[0], offsets_[1]));
    }
    if (offsets_[1] - offsets_[0] != *n_bytes) {
      return stop(fail("safetensors.size", "{}: tensor {}: expected {} bytes for {} [{}], found {}", source_,
                       ruvltra::quoted(name_), *n_bytes, tensor_.dtype, fmt::join(tensor_.shape, ", "),
                       offsets_[1] - offsets_[0]));
    }
    tensor_.n_elements = *n_elements;
    tensor_.n_bytes = *n_bytes;
    tensor_.offset = offsets_[0];
    header_.tensors.push_back(std::move(tensor_));
    return true;
  }

  const std::string& source_;
  SafetensorsHeader& header_;
  std::optional<Error> error_;
  Place place_ = Place::kStart;
  std::string name_;
  std::string metadata_key_;
  SafetensorsTensor tensor_;
  uint64_t element_bytes_ = 0;
  bool has_metadata_ = false;
  bool has_shape_ = false;
  std::array<uint64_t, 2> offsets_ = {};
  size_t n_offsets_ = 0;
};

Result<void> check_unique(const SafetensorsHeader& header, const std::string& source) {
  std::vector<std::string_view> names, keys;
  for (const auto& tensor : header.tensors) names.push_back(tensor.name);
  for (const auto& entry : header.metadata) keys.push_back(entry.first);
  for (auto* list : {&names, &keys}) {
    std::sort(list->begin(), list->end());
    const auto twin = std::adjacent_find(list->begin(), list->end());
    if (twin != list->end()) {
      return fail("safetensors.duplicate", "{}: expected each name once, found {} twice", source,
                  ruvltra::quoted(*twin));
    }
  }
  return {};
}

// Sorts by offset, then: no overlap, no hole, all of the data covered. Makes offsets absolute.
Result<void> place_tensors(SafetensorsHeader& header, uint64_t data_offset, uint64_t file_bytes,
                           const std::string& source) {
  auto& tensors = header.tensors;
  std::sort(tensors.begin(), tensors.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return std::pair(a.offset, a.n_bytes) < std::pair(b.offset, b.n_bytes);
  });
  const uint64_t data_bytes = file_bytes - data_offset;
  uint64_t end = 0;
  for (SafetensorsTensor& tensor : tensors) {
    if (tensor.offset != end) {
      return fail(tensor.offset < end ? "safetensors.overlap" : "safetensors.hole",
                  "{}: tensor {}: expected its data to begin at {}, found {}", source,
                  ruvltra::quoted(tensor.name), end, tensor.offset);
    }
    const auto extent = Extent::within(tensor.offset, tensor.n_bytes, data_bytes);
    if (!extent) {
      return fail("safetensors.extent",
                  "{}: tensor {}: expected {} bytes at {} of the data section, found {} in all", source,
                  ruvltra::quoted(tensor.name), tensor.n_bytes, tensor.offset, data_bytes);
    }
    end = extent->end();
    tensor.offset += data_offset;
  }
  if (end != data_bytes) {
    return fail("safetensors.trailing", "{}: data section: expected {} bytes, found {}", source, end,
                data_bytes);
  }
  return {};
}

Result<SafetensorsHeader> parse(std::string_view json, uint64_t file_bytes, const std::string& source) {
  SafetensorsHeader header;
  HeaderEvents events(source, header);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &events))
    return tl::unexpected<Error>(*events.error());
  RETURN_IF_ERROR(check_unique(header, source));
  RETURN_IF_ERROR(place_tensors(header, sizeof(uint64_t) + json.size(), file_bytes, source));
  return header;
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::span<const uint8_t> bytes, uint64_t file_bytes,
                                                   const std::string& source) {
  ByteView view(bytes.first(std::min<uint64_t>(bytes.size(), file_bytes)));
  const auto length = view.read<uint64_t>();
  if (!length) {
    return fail("safetensors.truncated", "{}: header length: expected 8 bytes, found {}", source,
                view.remaining());
  }
  if (*length > kSafetensorsMaxHeaderBytes) {
    return fail("safetensors.header_size", "{}: header length: expected at most {} bytes, found {}", source,
                kSafetensorsMaxHeaderBytes, *length);
  }
  const auto json = view.take_text(*length);
  if (!json) {
    return fail("safetensors.truncated", "{}: header: expected {} bytes, found {}", source, *length,
                view.remaining());
  }
  try {
    return parse(*json, file_bytes, source);
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kMemory, "memory.exhausted",
                "{}: the header needs more memory than the system gave", source);
  }
}

}  // namespace ruvltra
