#include "base/container.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "base/check.h"
#include "base/file.h"

namespace ruvltra {
namespace {

constexpr std::string_view kMagic = "RVC1";
constexpr uint64_t kHeaderBytes = 64;
constexpr uint64_t kEntryBytes = 56;
constexpr uint64_t kDigestBytes = 32;
constexpr uint64_t kAlignment = 64;

uint64_t head_bytes(uint64_t n_sections) { return kHeaderBytes + n_sections * kEntryBytes + kDigestBytes; }
uint64_t align_up(uint64_t value) { return (value + kAlignment - 1) / kAlignment * kAlignment; }

// Bytes of one value; 0 for a type that does not exist.
uint64_t value_bytes(uint32_t type) {
  switch (static_cast<SectionType>(type)) {
    case SectionType::kBytes:
    case SectionType::kI8:
      return 1;
    case SectionType::kF16:
      return 2;
    case SectionType::kF32:
    case SectionType::kU32:
      return 4;
    case SectionType::kF64:
    case SectionType::kU64:
      return 8;
  }
  return 0;
}

template <class T>
void put(std::vector<uint8_t>& out, const T& value) {
  const size_t at = out.size();
  out.resize(at + sizeof(T));
  std::memcpy(out.data() + at, &value, sizeof(T));
}

template <class T>
std::optional<uint64_t> first_not_finite(const T* values, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) return i;
  }
  return std::nullopt;
}

// The fields of the header as they stand in the file.
struct RawHeader {
  uint16_t kind = 0;
  uint16_t version = 0;
  uint32_t flags = 0;
  uint32_t n_sections = 0;
  uint64_t file_len = 0;
  Sha256Digest model{};
  uint64_t reserved = 0;
};

// `view` holds at least kHeaderBytes: its reads cannot fail.
RawHeader read_header(ByteView& view) {
  RawHeader raw;
  raw.kind = *view.read<uint16_t>();
  raw.version = *view.read<uint16_t>();
  raw.flags = *view.read<uint32_t>();
  raw.n_sections = *view.read<uint32_t>();
  raw.file_len = *view.read<uint64_t>();
  raw.model = *view.read<Sha256Digest>();
  raw.reserved = *view.read<uint64_t>();
  return raw;
}

Result<void> check_header(const RawHeader& raw, std::string_view name, uint64_t n_bytes,
                          const ContainerExpect& expect) {
  if (raw.kind != static_cast<uint16_t>(expect.kind)) {
    return fail("container.kind", "{}: kind: expected {} ({}), found {}", name,
                static_cast<uint16_t>(expect.kind), container_kind_name(expect.kind), raw.kind);
  }
  if (raw.version < 1 || raw.version > expect.max_version) {
    return fail("container.version", "{}: version: expected 1 to {}, found {}", name, expect.max_version,
                raw.version);
  }
  if ((raw.flags & ~expect.known_flags) != 0) {
    return fail("container.flags", "{}: flags: expected none but {:#x}, found {:#x}", name,
                expect.known_flags, raw.flags);
  }
  if (raw.reserved != 0) {
    return fail("container.reserved", "{}: last 8 bytes of the header: expected zero", name);
  }
  if (raw.file_len != n_bytes) {
    return fail("container.length", "{}: file_len: expected {} (the size of the file), found {}", name,
                n_bytes, raw.file_len);
  }
  if (raw.n_sections > kMaxSections) {
    return fail("container.sections", "{}: n_sections: expected at most {}, found {}", name, kMaxSections,
                raw.n_sections);
  }
  if (n_bytes < head_bytes(raw.n_sections)) {
    return fail("container.truncated", "{}: {} sections need {} bytes of header, found {}", name,
                raw.n_sections, head_bytes(raw.n_sections), n_bytes);
  }
  return {};
}

}  // namespace

std::string_view container_kind_name(ContainerKind kind) {
  switch (kind) {
    case ContainerKind::kBasis:
      return "basis";
    case ContainerKind::kAdapter:
      return "adapter";
    case ContainerKind::kTrainingState:
      return "training state";
    case ContainerKind::kCanaryRecords:
      return "canary records";
    case ContainerKind::kIndex:
      return "index";
  }
  return "unknown";
}

std::string section_name(uint32_t tag) {
  char text[4];
  for (int i = 0; i < 4; ++i) text[i] = static_cast<char>(tag >> 8 * i & 0x7f);
  return quoted(std::string_view(text, 4));
}

void ContainerWriter::add_bytes(uint32_t tag, SectionType type, std::span<const uint8_t> bytes) {
  CHECK(sections_.size() < kMaxSections);
  CHECK(bytes.size() % value_bytes(static_cast<uint32_t>(type)) == 0);
  for (const Section& section : sections_) CHECK(section.tag != tag);
  sections_.push_back({tag, type, bytes});
}

std::vector<uint8_t> ContainerWriter::head() const {
  uint64_t end = head_bytes(sections_.size());
  std::vector<uint8_t> table;
  for (const Section& section : sections_) {
    const uint64_t offset = align_up(end);
    put(table, section.tag);
    put(table, section.type);
    put(table, offset);
    put(table, uint64_t{section.bytes.size()});
    put(table, sha256(section.bytes));
    end = offset + section.bytes.size();
  }
  std::vector<uint8_t> out(kMagic.begin(), kMagic.end());
  put(out, header_.kind);
  put(out, header_.version);
  put(out, header_.flags);
  put(out, static_cast<uint32_t>(sections_.size()));
  put(out, end);
  put(out, header_.model);
  put(out, uint64_t{0});
  out.insert(out.end(), table.begin(), table.end());
  put(out, sha256(out));
  return out;
}

std::vector<uint8_t> ContainerWriter::bytes() const {
  std::vector<uint8_t> out = head();
  for (const Section& section : sections_) {
    out.resize(align_up(out.size()));
    out.insert(out.end(), section.bytes.begin(), section.bytes.end());
  }
  return out;
}

Result<void> ContainerWriter::write_file(const std::filesystem::path& path) const {
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(path, /*overwrite=*/true));
  RETURN_IF_ERROR(file.write(head()));
  for (const Section& section : sections_) {
    const std::vector<uint8_t> padding(align_up(file.position()) - file.position());
    RETURN_IF_ERROR(file.write(padding));
    RETURN_IF_ERROR(file.write(section.bytes));
  }
  return file.commit();
}

Result<Container> Container::parse(std::span<const uint8_t> bytes, std::string_view name,
                                   const ContainerExpect& expect) {
  if (bytes.size() < kHeaderBytes) {
    return fail("container.truncated", "{}: expected at least {} bytes, found {}", name, kHeaderBytes,
                bytes.size());
  }
  ByteView view(bytes);
  const std::string_view magic = *view.take_text(kMagic.size());
  if (magic != kMagic) {
    return fail("container.magic", "{}: magic: expected \"{}\", found {}", name, kMagic, quoted(magic));
  }
  const RawHeader raw = read_header(view);
  RETURN_IF_ERROR(check_header(raw, name, bytes.size(), expect));

  const uint64_t hashed = head_bytes(raw.n_sections) - kDigestBytes;
  const Sha256Digest digest = sha256(bytes.first(hashed));
  if (!std::equal(digest.begin(), digest.end(), bytes.begin() + static_cast<std::ptrdiff_t>(hashed))) {
    return fail("container.header_hash", "{}: header and table do not have the SHA-256 that follows them",
                name);
  }
  Container container({expect.kind, raw.version, raw.flags, raw.model}, std::string(name));
  RETURN_IF_ERROR(container.parse_sections(bytes, raw.n_sections, expect.known_tags));
  if (expect.model && *expect.model != raw.model) {
    return fail("container.model_mismatch", "{}: model: expected SHA-256 {}, found {}", name,
                to_hex(*expect.model), to_hex(raw.model));
  }
  return container;
}

Result<void> Container::parse_sections(std::span<const uint8_t> bytes, uint32_t n_sections,
                                       std::span<const uint32_t> known_tags) {
  ByteView table(bytes.subspan(kHeaderBytes, n_sections * kEntryBytes));
  uint64_t end = head_bytes(n_sections);
  for (uint32_t i = 0; i < n_sections; ++i) {
    const auto tag = *table.read<uint32_t>();
    const auto type = *table.read<uint32_t>();
    const auto offset = *table.read<uint64_t>();
    const auto length = *table.read<uint64_t>();
    const auto digest = *table.read<Sha256Digest>();
    if (value_bytes(type) == 0 || length % value_bytes(type) != 0) {
      return fail("container.dtype", "{}: section {}: type {} does not divide its {} bytes", name_,
                  section_name(tag), type, length);
    }
    const auto extent = Extent::within(offset, length, bytes.size());
    if (!extent || offset != align_up(end)) {
      return fail("container.layout",
                  "{}: section {}: expected at {} and inside {} bytes, found {} bytes at {}", name_,
                  section_name(tag), align_up(end), bytes.size(), length, offset);
    }
    const auto padding = bytes.subspan(end, offset - end);
    if (std::any_of(padding.begin(), padding.end(), [](uint8_t byte) { return byte != 0; })) {
      return fail("container.padding", "{}: section {}: expected zeros in front of it", name_,
                  section_name(tag));
    }
    const auto content = bytes.subspan(offset, length);
    if (sha256(content) != digest) {
      return fail("container.section_hash",
                  "{}: section {}: its {} bytes do not have the SHA-256 of the table", name_,
                  section_name(tag), length);
    }
    if (has(tag)) {
      return fail("container.duplicate_section", "{}: section {} occurs twice", name_, section_name(tag));
    }
    const bool is_known = std::find(known_tags.begin(), known_tags.end(), tag) != known_tags.end();
    if (!is_known && (tag & kOptionalSection) == 0) {
      return fail("container.unknown_section", "{}: section {} ({:#x}) is not known and not optional", name_,
                  section_name(tag), tag);
    }
    sections_.push_back({tag, static_cast<SectionType>(type), content});
    end = extent->end();
  }
  if (end != bytes.size()) {
    return fail("container.layout", "{}: the last section ends at {}, the file at {}", name_, end,
                bytes.size());
  }
  return {};
}

const Container::Section* Container::find(uint32_t tag) const {
  const auto found = std::find_if(sections_.begin(), sections_.end(),
                                  [&](const Section& section) { return section.tag == tag; });
  return found == sections_.end() ? nullptr : &*found;
}

Result<std::span<const uint8_t>> Container::section(uint32_t tag, SectionType type) const {
  const Section* found = find(tag);
  if (found == nullptr) {
    return fail("container.missing_section", "{}: section {} is missing", name_, section_name(tag));
  }
  if (found->type != type) {
    return fail("container.dtype", "{}: section {}: expected type {}, found {}", name_, section_name(tag),
                static_cast<uint32_t>(type), static_cast<uint32_t>(found->type));
  }
  return found->bytes;
}

Result<void> Container::check_count(uint32_t tag, uint64_t n_bytes, uint64_t size_of_one,
                                    uint64_t count) const {
  if (n_bytes % size_of_one == 0 && n_bytes / size_of_one == count) return {};
  return fail("container.count", "{}: section {}: expected {} values of {} bytes, found {} bytes", name_,
              section_name(tag), count, size_of_one, n_bytes);
}

Result<void> Container::check_finite(uint32_t tag, const float* values, uint64_t count) const {
  const auto at = first_not_finite(values, count);
  if (!at) return {};
  return fail("container.not_finite", "{}: section {}: value {} is {}", name_, section_name(tag), *at,
              values[*at]);
}

Result<void> Container::check_finite(uint32_t tag, const double* values, uint64_t count) const {
  const auto at = first_not_finite(values, count);
  if (!at) return {};
  return fail("container.not_finite", "{}: section {}: value {} is {}", name_, section_name(tag), *at,
              values[*at]);
}

}  // namespace ruvltra
