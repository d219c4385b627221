// RVC1 containers: whatever the bytes, parsing ends in an error or in sections that lie inside the file.
// Hashes keep plain mutations out, so the input is also tried with its hashes repaired.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/container.h"

namespace {

using namespace ruvltra;

constexpr uint32_t kTags[] = {section_tag("WGTS"), section_tag("IDS "), section_tag("TEXT")};

void parse(std::span<const uint8_t> bytes) {
  for (const ContainerKind kind :
       {ContainerKind::kBasis, ContainerKind::kAdapter, ContainerKind::kTrainingState,
        ContainerKind::kCanaryRecords, ContainerKind::kIndex}) {
    ContainerExpect expect;
    expect.kind = kind;
    expect.known_tags = kTags;
    const auto container = Container::parse(bytes, "fuzz", expect);
    if (!container) {
      CHECK(!container.error().id.empty() && !container.error().message.empty());
      continue;
    }
    if (const auto weights = container->section(kTags[0], SectionType::kF32)) {
      CHECK(weights->empty() || (weights->data() >= bytes.data() &&
                                 weights->data() + weights->size() <= bytes.data() + bytes.size()));
      const auto values = container->read<float>(kTags[0], weights->size() / sizeof(float));
      CHECK(values || values.error().id == "container.not_finite");
    }
    if (const auto n = container->count<uint64_t>(kTags[1])) CHECK(container->read<uint64_t>(kTags[1], *n));
    if (const auto text = container->section(kTags[2], SectionType::kBytes)) {
      CHECK(std::count(text->begin(), text->end(), 0) <= static_cast<std::ptrdiff_t>(text->size()));
    }
  }
}

// Puts the right size and hashes where header and table say they belong.
void repair(std::vector<uint8_t>& file) {
  if (file.size() < 96) return;
  const uint64_t size = file.size();
  std::memcpy(file.data() + 16, &size, sizeof(size));
  uint32_t n_sections;
  std::memcpy(&n_sections, file.data() + 12, sizeof(n_sections));
  n_sections = static_cast<uint32_t>(std::min<uint64_t>(n_sections, (file.size() - 96) / 56));
  for (uint32_t i = 0; i < n_sections; ++i) {
    uint8_t* entry = file.data() + 64 + 56 * i;
    uint64_t offset, length;
    std::memcpy(&offset, entry + 8, sizeof(offset));
    std::memcpy(&length, entry + 16, sizeof(length));
    if (offset > size || length > size - offset) continue;
    const auto digest = sha256({file.data() + offset, length});
    std::memcpy(entry + 24, digest.data(), digest.size());
  }
  const size_t hashed = 64 + 56 * n_sections;
  const auto digest = sha256({file.data(), hashed});
  std::memcpy(file.data() + hashed, digest.data(), digest.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  parse({data, size});
  std::vector<uint8_t> file(data, data + size);
  repair(file);
  parse(file);
  return 0;
}
