// Hashes keep plain mutations of an RVC1 container out of its reader. Put right, the mutation reaches what
// stands behind them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/container.h"

namespace ruvltra::fuzzing {

struct Section {
  uint32_t tag = 0;
  std::span<uint8_t> bytes;  // empty where the table points outside the file
};

// Size, model and hashes where header and table say they belong. mend(sections) comes before the hashes.
template <class F>
void repair_container(std::vector<uint8_t>& file, const Sha256Digest& model, F&& mend) {
  constexpr size_t kHeader = 64, kEntry = 56, kDigest = sizeof(Sha256Digest);
  if (file.size() < kHeader + kDigest) return;
  const uint64_t size = file.size();
  std::memcpy(file.data() + 16, &size, sizeof size);
  std::memcpy(file.data() + 24, model.data(), model.size());
  uint32_t n_sections;
  std::memcpy(&n_sections, file.data() + 12, sizeof n_sections);
  n_sections = static_cast<uint32_t>(std::min<uint64_t>(n_sections, (size - kHeader - kDigest) / kEntry));
  std::vector<Section> sections;
  for (uint32_t i = 0; i < n_sections; ++i) {
    const uint8_t* entry = file.data() + kHeader + kEntry * i;
    uint64_t offset, length;
    Section section;
    std::memcpy(&section.tag, entry, sizeof section.tag);
    std::memcpy(&offset, entry + 8, sizeof offset);
    std::memcpy(&length, entry + 16, sizeof length);
    if (offset <= size && length <= size - offset) section.bytes = {file.data() + offset, length};
    sections.push_back(section);
  }
  mend(sections);
  for (uint32_t i = 0; i < n_sections; ++i) {
    const auto digest = sha256(sections[i].bytes);
    std::memcpy(file.data() + kHeader + kEntry * i + 24, digest.data(), digest.size());
  }
  const size_t hashed = kHeader + kEntry * n_sections;
  const auto digest = sha256({file.data(), hashed});
  std::memcpy(file.data() + hashed, digest.data(), digest.size());
}

}  // namespace ruvltra::fuzzing
