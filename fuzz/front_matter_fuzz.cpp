// Any bytes as a Markdown file with front matter, as TOML and as JSON: agents come out or an error does, and
// what comes out of front matter is one line of valid UTF-8.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/utf8.h"
#include "sona/agent_import.h"
#include "sona/front_matter.h"

using namespace ruvltra;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto front = parse_front_matter(text, "fuzz");
  if (!front) {
    CHECK(front.error().id == "routing.front_matter");
    CHECK(front.error().message.substr(0, 5) == "fuzz:");
#ifdef RUVLTRA_PLANT_BUG
    CHECK(front.error().message.find("twice") == std::string::npos);
#endif
  } else if (*front) {
    for (const std::string* value : {&(*front)->name, &(*front)->description}) {
      CHECK(value->find('\n') == std::string::npos && utf8_is_valid(*value));
    }
  }
  if (size < 4096) {
    (void)import_agents_toml(text, "fuzz");
    (void)import_agents_json(text, "fuzz");
  }
  return 0;
}
