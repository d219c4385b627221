#include "gguf/header.h"

#include <new>
#include <numeric>
#include <type_traits>

namespace ruvltra {
namespace {

constexpr uint64_t kMinKeyValueBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorInfoBytes = 8 + 1 + 4 + 8 + 4 + 8;

template <class T>
constexpr uint64_t kMinValueBytes = std::is_same_v<T, std::string> ? sizeof(uint64_t) : sizeof(T);
static_assert(kMinValueBytes<bool> == 1);

template <class T>
Result<T> read_value(HeaderCursor& cursor) {
  if constexpr (std::is_same_v<T, std::string>) {
    return cursor.read_string("value");
  } else if constexpr (std::is_same_v<T, bool>) {
    ASSIGN_OR_RETURN(const auto byte, cursor.read<uint8_t>("value"));
    if (byte > 1) return fail("gguf.bool", "{}: expected 0 or 1, found {}", cursor.place("value"), byte);
    return byte == 1;
  } else {
    return cursor.read<T>("value");
  }
}

template <class T>
Result<std::vector<T>> read_array(HeaderCursor& cursor) {
  ASSIGN_OR_RETURN(const auto count, cursor.read<uint64_t>("array count"));
  if (count > cursor.remaining() / kMinValueBytes<T>) {
    const uint64_t n_bytes = checked_mul(count, kMinValueBytes<T>).value_or(~uint64_t{0});
    return cursor.out_of_bounds("gguf.array_count", "array", n_bytes);
  }
  std::vector<T> values;
  if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, bool>) {
    values.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      ASSIGN_OR_RETURN(auto value, read_value<T>(cursor));
      values.push_back(std::move(value));
    }
  } else {
    RETURN_IF_ERROR(cursor.read_numbers(count, "array", values));
  }
  return values;
}

// Calls f with the C++ type of a scalar value type id; gguf.value_type for any other id.
template <class F>
Result<MetaValue> with_scalar_type(HeaderCursor& cursor, uint32_t id, F&& f) {
  switch (id) {
    case 0:
      return f(std::type_identity<uint8_t>());
    case 1:
      return f(std::type_identity<int8_t>());
    case 2:
      return f(std::type_identity<uint16_t>());
    case 3:
      return f(std::type_identity<int16_t>());
    case 4:
      return f(std::type_identity<uint32_t>());
    case 5:
      return f(std::type_identity<int32_t>());
    case 6:
      return f(std::type_identity<float>());
    case 7:
      return f(std::type_identity<bool>());
    case 8:
      return f(std::type_identity<std::string>());
    case 10:
      return f(std::type_identity<uint64_t>());
    case 11:
      return f(std::type_identity<int64_t>());
    case 12:
      return f(std::type_identity<double>());
    default:
      return fail("gguf.value_type", "{}: expected 0 to 12, found {}", cursor.place("value type"), id);
  }
}

Result<MetaValue> read_meta_value(HeaderCursor& cursor) {
  ASSIGN_OR_RETURN(const auto type, cursor.read<uint32_t>("value type"));
  if (type != kGgufArrayType) {
    return with_scalar_type(cursor, type, [&]<class T>(std::type_identity<T>) -> Result<MetaValue> {
      ASSIGN_OR_RETURN(auto value, read_value<T>(cursor));
      return MetaValue(std::in_place_type<T>, std::move(value));
    });
  }
  ASSIGN_OR_RETURN(const auto element_type, cursor.read<uint32_t>("array type"));
  if (element_type == kGgufArrayType) {
    return fail("gguf.nested_array", "{}: expected numbers or strings, found an array of arrays",
                cursor.place("array type"));
  }
  return with_scalar_type(cursor, element_type, [&]<class T>(std::type_identity<T>) -> Result<MetaValue> {
    ASSIGN_OR_RETURN(auto values, read_array<T>(cursor));
    return MetaValue(std::in_place_type<std::vector<T>>, std::move(values));
  });
}

Result<void> read_key_values(HeaderCursor& cursor, uint64_t n_kv, Metadata& metadata) {
  for (uint64_t i = 0; i < n_kv; ++i) {
    cursor.set_subject(fmt::format("metadata entry {}", i));
    ASSIGN_OR_RETURN(auto key, cursor.read_string("key"));
    RETURN_IF_ERROR(check_gguf_key(key, cursor.source()));
    if (metadata.contains(key)) {
      return fail("gguf.duplicate_key", "{}: expected each key once, found {} again", cursor.place("key"),
                  ruvltra::quoted(key));
    }
    cursor.set_subject(fmt::format("metadata {}", ruvltra::quoted(key)));
    ASSIGN_OR_RETURN(auto value, read_meta_value(cursor));
    metadata.set(std::move(key), std::move(value));
  }
  return {};
}

Result<uint64_t> read_alignment(const Metadata& metadata) {
  const MetaValue* value = metadata.find(kGgufAlignmentKey);
  if (value == nullptr) return kGgufDefaultAlignment;
  const auto* alignment = std::get_if<uint32_t>(value);
  if (alignment == nullptr) {
    return fail("gguf.alignment", "{}: {}: expected u32, found {}", metadata.source(), kGgufAlignmentKey,
                type_name(*value));
  }
  if (!is_gguf_alignment(*alignment)) {
    return fail("gguf.alignment", "{}: {}: expected a power of two from {} to {}, found {}",
                metadata.source(), kGgufAlignmentKey, kGgufMinAlignment, kGgufMaxAlignment, *alignment);
  }
  return *alignment;
}

Result<const Format*> read_tensor_type(HeaderCursor& cursor) {
  ASSIGN_OR_RETURN(const auto id, cursor.read<uint32_t>("type"));
  const Format* format = find_format(id);
  if (format != nullptr) return format;
  std::string known;
  for (const Format& supported : all_formats())
    fmt::format_to(std::back_inserter(known), " {}", supported.name);
  const std::string_view name = gguf_type_name(id);
  return fail(name.empty() ? ErrorKind::kInput : ErrorKind::kUnsupported, "gguf.tensor_type",
              "{}: expected one of{}, found {} ({})", cursor.place("type"), known, id,
              name.empty() ? "unknown" : name);
}

// Leaves `offset` relative to the data section.
Result<TensorInfo> read_tensor_info(HeaderCursor& cursor, uint64_t index) {
  TensorInfo tensor;
  cursor.set_subject(fmt::format("tensor {}", index));
  ASSIGN_OR_RETURN(tensor.name, cursor.read_string("name"));
  RETURN_IF_ERROR(check_gguf_tensor_name(tensor.name, cursor.source()));
  cursor.set_subject(fmt::format("tensor {}", ruvltra::quoted(tensor.name)));
  ASSIGN_OR_RETURN(const auto n_dims, cursor.read<uint32_t>("number of dimensions"));
  if (n_dims == 0 || n_dims > kGgufMaxDims) {
    return fail("gguf.tensor_n_dims", "{}: expected 1 to {}, found {}", cursor.place("number of dimensions"),
                kGgufMaxDims, n_dims);
  }
  for (uint32_t i = 0; i < n_dims; ++i) {
    ASSIGN_OR_RETURN(const auto dim, cursor.read<uint64_t>("dimension"));
    tensor.dims.push_back(dim);
  }
  ASSIGN_OR_RETURN(const Format* format, read_tensor_type(cursor));
  tensor.type = format->type;
  ASSIGN_OR_RETURN(tensor.offset, cursor.read<uint64_t>("offset"));
  ASSIGN_OR_RETURN(const auto size, gguf_tensor_size(tensor.name, *format, tensor.dims, cursor.source()));
  tensor.n_elements = size.n_elements;
  tensor.n_bytes = size.n_bytes;
  return tensor;
}

// Indices of `tensors`, sorted by what `key` gives for each.
template <class Key>
std::vector<size_t> sorted_by(const std::vector<TensorInfo>& tensors, Key key) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return key(tensors[a]) < key(tensors[b]); });
  return order;
}

Result<void> check_unique_names(const std::vector<TensorInfo>& tensors, const std::string& source) {
  const auto order = sorted_by(tensors, [](const TensorInfo& t) -> const std::string& { return t.name; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (tensors[order[i]].name == tensors[order[i - 1]].name) {
      return fail("gguf.tensor_duplicate", "{}: tensor {}: expected one of this name, found two", source,
                  ruvltra::quoted(tensors[order[i]].name));
    }
  }
  return {};
}

Result<void> check_no_overlap(const std::vector<TensorInfo>& tensors, const std::string& source) {
  const auto order = sorted_by(tensors, [](const TensorInfo& t) { return t.offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorInfo& before = tensors[order[i - 1]];
    const TensorInfo& after = tensors[order[i]];
    if (after.offset < before.offset + before.n_bytes) {
      return fail("gguf.tensor_overlap",
                  "{}: tensor {}: expected an offset of at least {} (the end of {}), found {}", source,
                  ruvltra::quoted(after.name), before.offset + before.n_bytes, ruvltra::quoted(before.name),
                  after.offset);
    }
  }
  return {};
}

// Turns relative offsets into checked absolute ones.
Result<void> place_tensors(GgufHeader& header, uint64_t file_bytes, const std::string& source) {
  uint64_t end = header.data_offset;
  if (!header.tensors.empty() && header.data_offset > file_bytes) {
    return fail("gguf.data_offset",
                "{}: data section: expected at offset {}, found the end of the file at {}", source,
                header.data_offset, file_bytes);
  }
  for (TensorInfo& tensor : header.tensors) {
    if (tensor.offset % header.alignment != 0) {
      return fail("gguf.tensor_offset", "{}: tensor {}: offset: expected a multiple of {}, found {}", source,
                  ruvltra::quoted(tensor.name), header.alignment, tensor.offset);
    }
    const auto absolute = checked_add(header.data_offset, tensor.offset);
    const auto extent = absolute ? Extent::within(*absolute, tensor.n_bytes, file_bytes) : std::nullopt;
    if (!extent) {
      return fail("gguf.tensor_extent",
                  "{}: tensor {}: expected {} bytes at offset {} of the data section (itself at {}), found a "
                  "file of {}",
                  source, ruvltra::quoted(tensor.name), tensor.n_bytes, tensor.offset, header.data_offset,
                  file_bytes);
    }
    tensor.offset = extent->offset();
    end = std::max(end, extent->end());
  }
  RETURN_IF_ERROR(check_no_overlap(header.tensors, source));
  const auto padded_end = checked_align_up(end, header.alignment);
  if (padded_end && file_bytes > *padded_end) {
    header.warnings.push_back(
        fmt::format("{}: {} bytes after the last tensor are ignored", source, file_bytes - *padded_end));
  }
  return {};
}

Result<uint32_t> read_version(HeaderCursor& cursor) {
  ASSIGN_OR_RETURN(const auto magic, cursor.read<uint32_t>("magic"));
  if (magic != kGgufMagic) {
    const char letters[4] = {static_cast<char>(magic), static_cast<char>(magic >> 8),
                             static_cast<char>(magic >> 16), static_cast<char>(magic >> 24)};
    return fail("gguf.magic", "{}: expected \"GGUF\", found {}", cursor.place("magic"),
                ruvltra::quoted(std::string_view(letters, 4)));
  }
  ASSIGN_OR_RETURN(const auto version, cursor.read<uint32_t>("version"));
  if (const uint32_t swapped = __builtin_bswap32(version);
      version > 0xffff && swapped >= 1 && swapped <= kGgufVersion) {
    return fail(ErrorKind::kUnsupported, "gguf.big_endian",
                "{}: expected a little-endian file, found a big-endian one of version {}",
                cursor.place("version"), swapped);
  }
  if (version != 2 && version != 3) {
    return fail(ErrorKind::kUnsupported, "gguf.version", "{}: expected 2 or 3, found {}",
                cursor.place("version"), version);
  }
  return version;
}

Result<uint64_t> read_count(HeaderCursor& cursor, std::string_view id, std::string_view field) {
  ASSIGN_OR_RETURN(const auto count, cursor.read<uint64_t>(field));
  if (count > kGgufMaxEntries) {
    return fail(id, "{}: expected at most {}, found {}", cursor.place(field), kGgufMaxEntries, count);
  }
  return count;
}

tl::unexpected<Error> too_many(const HeaderCursor& cursor, std::string_view id, std::string_view field,
                               uint64_t count, uint64_t min_bytes) {
  return fail(id, "{}: {} entries need at least {} bytes, found {}", cursor.place(field), count,
              count * min_bytes, cursor.remaining());
}

Result<GgufHeader> parse(HeaderCursor& cursor, uint64_t file_bytes) {
  GgufHeader header;
  header.metadata = Metadata(cursor.source());
  ASSIGN_OR_RETURN(header.version, read_version(cursor));
  ASSIGN_OR_RETURN(const auto n_tensors, read_count(cursor, "gguf.tensor_count", "number of tensors"));
  ASSIGN_OR_RETURN(const auto n_kv, read_count(cursor, "gguf.kv_count", "number of metadata entries"));
  if (n_kv * kMinKeyValueBytes > cursor.remaining()) {
    return too_many(cursor, "gguf.kv_count", "number of metadata entries", n_kv, kMinKeyValueBytes);
  }
  if (n_tensors * kMinTensorInfoBytes > cursor.remaining() - n_kv * kMinKeyValueBytes) {
    return too_many(cursor, "gguf.tensor_count", "number of tensors", n_tensors, kMinTensorInfoBytes);
  }
  RETURN_IF_ERROR(read_key_values(cursor, n_kv, header.metadata));
  ASSIGN_OR_RETURN(header.alignment, read_alignment(header.metadata));
  header.tensors.reserve(n_tensors);
  for (uint64_t i = 0; i < n_tensors; ++i) {
    ASSIGN_OR_RETURN(auto tensor, read_tensor_info(cursor, i));
    header.tensors.push_back(std::move(tensor));
  }
  RETURN_IF_ERROR(check_unique_names(header.tensors, cursor.source()));
  header.data_offset = (cursor.position() + header.alignment - 1) / header.alignment * header.alignment;
  RETURN_IF_ERROR(place_tensors(header, file_bytes, cursor.source()));
  return header;
}

// A header within its limits can still ask for more memory than the process may have.
Result<GgufHeader> parse_within_memory(HeaderCursor& cursor, uint64_t file_bytes) {
  try {
    return parse(cursor, file_bytes);
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kMemory, "memory.exhausted",
                "{}: the header needs more memory than the system gave", cursor.source());
  }
}

}  // namespace

HeaderCursor::HeaderCursor(const InputFile& file, const std::string& source)
    : source_(source),
      file_(&file),
      end_(file.size()),
      limit_(std::min(end_, kGgufMaxHeaderBytes)),
      view_(std::span<const uint8_t>()) {}

HeaderCursor::HeaderCursor(std::span<const uint8_t> bytes, const std::string& source)
    : source_(source),
      end_(bytes.size()),
      limit_(std::min(end_, kGgufMaxHeaderBytes)),
      view_(bytes.first(limit_)) {}

std::string HeaderCursor::place(std::string_view field) const {
  return subject_.empty() ? fmt::format("{}: {}", source_, field)
                          : fmt::format("{}: {}: {}", source_, subject_, field);
}

tl::unexpected<Error> HeaderCursor::out_of_bounds(std::string_view id, std::string_view field,
                                                  uint64_t n_bytes) const {
  const uint64_t left_in_file = end_ - position();
  if (n_bytes <= left_in_file) {
    return fail("gguf.metadata_size", "{}: expected a header of at most {} bytes, found {} more at offset {}",
                place(field), kGgufMaxHeaderBytes, n_bytes, position());
  }
  return fail(id, "{}: expected {} bytes at offset {}, found {} before the end", place(field), n_bytes,
              position(), left_in_file);
}

Result<void> HeaderCursor::refill(uint64_t n_bytes, std::string_view field) {
  if (n_bytes > remaining()) return out_of_bounds("gguf.truncated", field, n_bytes);
  const uint64_t begin = position();
  window_.resize(std::min(kWindowBytes, remaining()));
  RETURN_IF_ERROR(file_->read_at(begin, window_));
  window_begin_ = begin;
  view_ = ByteView(window_);
  return {};
}

Result<std::string> HeaderCursor::read_string(std::string_view field) {
  ASSIGN_OR_RETURN(const auto length, read<uint64_t>(field));
  if (length > remaining()) return out_of_bounds("gguf.string_length", field, length);
  std::string text;
  text.reserve(length);
  while (text.size() < length) {
    RETURN_IF_ERROR(require(1, field));
    const auto piece = view_.take_text(std::min<uint64_t>(length - text.size(), view_.remaining()));
    text.append(*piece);
  }
  return text;
}

Result<GgufHeader> read_gguf_header(const InputFile& file) {
  const std::string source = file.path().string();
  HeaderCursor cursor(file, source);
  return parse_within_memory(cursor, file.size());
}

Result<GgufHeader> parse_gguf_header(std::span<const uint8_t> bytes, uint64_t file_bytes,
                                     const std::string& source) {
  HeaderCursor cursor(bytes.first(std::min<uint64_t>(bytes.size(), file_bytes)), source);
  return parse_within_memory(cursor, file_bytes);
}

}  // namespace ruvltra
