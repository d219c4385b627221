// RVC1: the container of every learned file except the database (basis, adapter, training state, canary
// records, index). Little endian:
//
//   header   64 B   magic "RVC1", u16 kind, u16 version, u32 flags, u32 n_sections (<= 64), u64 file_len,
//                   32 B SHA-256 of the model, 8 B zero
//   table    n * 56 B   {u32 tag, u32 dtype, u64 offset, u64 len, 32 B SHA-256 of the section}
//   digest   32 B   SHA-256 of header and table
//   sections in the order of the table, each at the next multiple of 64, zeros between
//
// Saved files are untrusted input. There is exactly one valid layout for given sections, so every byte of a
// file is either hashed or known: no changed byte goes unseen.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/fail.h"
#include "base/sha256.h"

namespace ruvltra {

enum class ContainerKind : uint16_t {
  kBasis = 1,          // projections and whitening of the hooks
  kAdapter = 2,        // one generation of a MicroLoRA adapter
  kTrainingState = 3,  // Fisher information, anchors, counters
  kCanaryRecords = 4,  // token records of the canary text
  kIndex = 5,          // HNSW graph
};
std::string_view container_kind_name(ContainerKind kind);

enum class SectionType : uint32_t { kBytes = 0, kI8 = 1, kF16 = 2, kF32 = 3, kF64 = 4, kU32 = 5, kU64 = 6 };

// The section type of a C++ type; bytes and structures of several fields are kBytes.
template <class T>
constexpr SectionType section_type() {
  if constexpr (std::is_same_v<T, int8_t>) return SectionType::kI8;
  if constexpr (std::is_same_v<T, float>) return SectionType::kF32;
  if constexpr (std::is_same_v<T, double>) return SectionType::kF64;
  if constexpr (std::is_same_v<T, uint32_t>) return SectionType::kU32;
  if constexpr (std::is_same_v<T, uint64_t>) return SectionType::kU64;
  return SectionType::kBytes;
}

// section_tag("BETA"); a reader that does not know a tag skips the section only if the tag is optional.
constexpr uint32_t section_tag(const char (&name)[5]) {
  uint32_t tag = 0;
  for (int i = 0; i < 4; ++i) tag |= static_cast<uint32_t>(name[i] & 0x7f) << 8 * i;
  return tag;
}
constexpr uint32_t kOptionalSection = 0x8000'0000u;
std::string section_name(uint32_t tag);  // for messages

constexpr size_t kMaxSections = 64;

// Who wrote the file and for what.
struct ContainerHeader {
  ContainerKind kind = ContainerKind::kBasis;
  uint16_t version = 1;
  uint32_t flags = 0;
  Sha256Digest model{};  // zero where no model is involved
};

// Collects sections, then writes them.
//
// Invariants: tags are distinct and at most kMaxSections (CHECKed: they are written in our code).
// Thread safety: none.
class ContainerWriter {
 public:
  explicit ContainerWriter(const ContainerHeader& header) : header_(header) {}

  // `values` are borrowed: they must stay as they are until the container has been written.
  template <class T>
  void add(uint32_t tag, std::span<const T> values, SectionType type = section_type<T>()) {
    static_assert(std::is_trivially_copyable_v<T> &&
                      (std::is_floating_point_v<T> || std::has_unique_object_representations_v<T>),
                  "no padding bytes reach a file");
    add_bytes(tag, type, {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()});
  }
  template <class T>
  void add(uint32_t tag, const std::vector<T>& values) {
    add(tag, std::span<const T>(values));
  }
  void add_bytes(uint32_t tag, SectionType type, std::span<const uint8_t> bytes);

  // The whole file in memory.
  std::vector<uint8_t> bytes() const;
  // Temporary file in the same folder, sync, rename, sync of the folder: `path` holds the old file or the new
  // one, never a part. Errors: those of OutputFile (file.create, file.write, file.commit, ...).
  Result<void> write_file(const std::filesystem::path& path) const;

 private:
  struct Section {
    uint32_t tag;
    SectionType type;
    std::span<const uint8_t> bytes;
  };
  std::vector<uint8_t> head() const;  // header, table and digest
  ContainerHeader header_;
  std::vector<Section> sections_;
};

// What the reader accepts.
struct ContainerExpect {
  ContainerKind kind = ContainerKind::kBasis;
  uint16_t max_version = 1;  // versions 1..max_version
  uint32_t known_flags = 0;
  std::span<const uint32_t> known_tags;
  std::optional<Sha256Digest> model;  // must be equal, if given
};

// A checked view of a container; the bytes are borrowed and must outlive it.
//
// Thread safety: const calls may run in parallel.
class Container {
 public:
  // `name` stands in messages (a path). Nothing is allocated but the table of at most 64 sections.
  // Errors: container.truncated, .magic, .kind, .version, .flags, .length (file_len is not the size),
  // .sections, .header_hash, .reserved, .dtype, .layout (a section overlaps, leaves a gap or runs past the
  // end), .padding, .section_hash, .duplicate_section, .unknown_section, .model_mismatch.
  static Result<Container> parse(std::span<const uint8_t> bytes, std::string_view name,
                                 const ContainerExpect& expect);

  const ContainerHeader& header() const { return header_; }
  bool has(uint32_t tag) const { return find(tag) != nullptr; }

  // The bytes of a section. Errors: container.missing_section, container.dtype.
  Result<std::span<const uint8_t>> section(uint32_t tag, SectionType type) const;

  // A copy of a section of exactly `count` values. Errors: those of section(), container.count; for
  // floating-point types also container.not_finite, as no learned file holds NaN or infinity.
  template <class T>
  Result<std::vector<T>> read(uint32_t tag, uint64_t count) const {
    static_assert(std::is_trivially_copyable_v<T>);
    ASSIGN_OR_RETURN(const auto bytes, section(tag, section_type<T>()));
    RETURN_IF_ERROR(check_count(tag, bytes.size(), sizeof(T), count));
    std::vector<T> values(count);
    copy(bytes, values.data());
    if constexpr (std::is_floating_point_v<T>) RETURN_IF_ERROR(check_finite(tag, values.data(), count));
    return values;
  }
  // The same into memory of the caller.
  template <class T>
  Result<void> read_into(uint32_t tag, std::span<T> out) const {
    static_assert(std::is_trivially_copyable_v<T>);
    ASSIGN_OR_RETURN(const auto bytes, section(tag, section_type<T>()));
    RETURN_IF_ERROR(check_count(tag, bytes.size(), sizeof(T), out.size()));
    copy(bytes, out.data());
    if constexpr (std::is_floating_point_v<T>) RETURN_IF_ERROR(check_finite(tag, out.data(), out.size()));
    return {};
  }
  // How many whole values a section holds. Errors: those of section(), container.count.
  template <class T>
  Result<uint64_t> count(uint32_t tag) const {
    ASSIGN_OR_RETURN(const auto bytes, section(tag, section_type<T>()));
    const uint64_t n = bytes.size() / sizeof(T);
    RETURN_IF_ERROR(check_count(tag, bytes.size(), sizeof(T), n));
    return n;
  }

 private:
  struct Section {
    uint32_t tag;
    SectionType type;
    std::span<const uint8_t> bytes;
  };
  Container(ContainerHeader header, std::string name) : header_(header), name_(std::move(name)) {}
  Result<void> parse_sections(std::span<const uint8_t> bytes, uint32_t n_sections,
                              std::span<const uint32_t> known_tags);
  const Section* find(uint32_t tag) const;
  Result<void> check_count(uint32_t tag, uint64_t n_bytes, uint64_t size_of_one, uint64_t count) const;
  Result<void> check_finite(uint32_t tag, const float* values, uint64_t count) const;
  Result<void> check_finite(uint32_t tag, const double* values, uint64_t count) const;
  static void copy(std::span<const uint8_t> from, void* to) {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
  }
  ContainerHeader header_;
  std::string name_;
  std::vector<Section> sections_;
};

}  // namespace ruvltra
