// Any text as an import: it is refused with a line number, or every record survives another round unchanged.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "store/jsonl.h"

using namespace ruvltra;

namespace {

std::string lines_of(const ImportBatch& batch) {
  std::string text;
  const auto add = [&text](const auto& records) {
    for (const auto& record : records) text += to_jsonl(record) + "\n";
  };
  add(batch.trajectories);
  add(batch.patterns);
  add(batch.feedback);
  add(batch.decisions);
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto batch = parse_jsonl(text, "tenant");
  if (!batch) {
    CHECK(batch.error().id == "store.import");
    CHECK(batch.error().message.starts_with("line "));
#ifdef RUVLTRA_PLANT_BUG
    CHECK(batch.error().message.find("unknown name") == std::string::npos);
#endif
    return 0;
  }
  const std::string once = lines_of(*batch);
  const auto again = parse_jsonl(once, "tenant");
  CHECK(again.has_value());
  CHECK(lines_of(*again) == once);
  return 0;
}
